"""The command line: thin wrappers around what `import soundloom` offers, and one contract for scripts.

Exit 0: done. 1: refused, one line `error: …` on standard error. 2: the command was not understood. 130: interrupted,
after saving.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from soundloom.commands import (
    banks,
    comparing,
    hearing,
    judging,
    making,
    matching,
    playing,
    rendering,
    shaping,
    training,
)
from soundloom.commands.flags import app
from soundloom.errors import SoundloomError

# Importing them gives `app` its commands.
GROUPS = (banks, hearing, training, making, shaping, rendering, playing, judging, comparing, matching)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: runs a command and leaves with the exit code of the contract."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    # PortAudio may crash on its way out where it has seen a JACK server, and JACK wait for a server that stands still.
    if {"sounddevice", "jack"} & set(sys.modules):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"error: {_one_line(error)} (soundloom --help shows what there is)", file=sys.stderr)
        return 2
    except SoundloomError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # a disk that fills up, a cable that is pulled: the system's words, no traceback
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was saved stays; a training goes on with the same command", file=sys.stderr)
        return 130
    return 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
