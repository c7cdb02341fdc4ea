"""The command line's application, and the flags that mean the same wherever they stand."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import soundloom
from soundloom.terminal import Terminal

app = App(
    name="soundloom",
    help="Turns a folder of sounds into instruments that can be played.",
    version=soundloom.__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # Ctrl-C has words and an exit code of our own
    help_epilogue="Start with `soundloom demo`, or with `soundloom scan MY-SOUNDS -o my-bank`.",
)

Out = Annotated[Path, Parameter(name=["-o", "--out"])]
Settings = Annotated[
    list[str] | None, Parameter(name="--set", help="key=value: any setting of the family; may be given several times.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command shows."""

    json: Annotated[
        bool, Parameter(name="--json", help="Print one JSON document on standard output, nothing else.")
    ] = False
    quiet: Annotated[bool, Parameter(name=["-q", "--quiet"], help="Print nothing but errors.")] = False

    def terminal(self) -> Terminal:
        return Terminal(quiet=self.quiet, json=self.json)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class On(Output):
    """What a command that runs a model takes besides."""

    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1 or mps; left out, the best there is.")] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Making(On):
    """What a command with randomness in it takes besides."""

    seed: Annotated[int, Parameter(help="Where the randomness starts: the same seed gives the same sounds.")] = 0


OUTPUT, ON, MAKING = Output(), On(), Making()


def quoted(path: Path) -> str:
    return shlex.quote(str(path))
