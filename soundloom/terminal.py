"""What the command line shows: lines for people, one JSON document for scripts, progress bars on a terminal only."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

Bar = Callable[[float, str], None]


class Terminal:
    """Where a command's words go. With `json`, standard output holds one document and nothing else."""

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self.quiet, self.json, self.out = quiet, json, sys.stdout

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.quiet:
            print(text, file=sys.stderr if self.json else sys.stdout, flush=True)

    def status(self, text: str) -> None:
        """A line that the next one replaces, where somebody sees it; an empty one takes it away."""
        if not self.quiet and sys.stderr.isatty():
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def document(self, values: Mapping[str, Any] | Sequence[Any]) -> None:
        """The result for scripts. What is no number becomes null: NaN is not JSON."""
        if self.json:
            print(json.dumps(plain(values), indent=2, allow_nan=False), file=self.out, flush=True)

    @contextmanager
    def only_document(self) -> Iterator[None]:
        """With `json`, whatever any library prints in the block goes to standard error."""
        if not self.json:
            yield
            return
        with redirect_stdout(sys.stderr):
            yield

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Says so, once, if kernels are compiled in the block: what is played for the first time takes a while."""
        from numba.core import event

        class Compiling(event.Listener):  # type: ignore[misc]  # numba has no types
            told = False

            def on_start(listener, _: event.Event) -> None:
                if not listener.told:
                    listener.told = True
                    self.say("note: what plays is compiled: once on this computer, some seconds for each engine")

            def on_end(listener, _: event.Event) -> None:
                pass

        with event.install_listener("numba:compile", Compiling()):
            yield

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        """A progress bar on standard error: called with the part done, 0 to 1, and a few words."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda part, words: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()]
        with Progress(*columns, TextColumn("{task.fields[words]}"), console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=1.0, words="")
            yield lambda part, words: progress.update(task, completed=min(part, 1.0), words=words)


def counted(bar: Bar) -> Callable[[int, int], None]:
    """A bar as what a loop over things wants to call: so many done of so many."""
    return lambda done, total: bar(done / max(total, 1), f"{done} of {total}")


def plain(value: Any) -> Any:
    """A document as JSON knows it: what is no number becomes null, what is no JSON becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
