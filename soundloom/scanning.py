"""From a folder of sounds to a bank."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rules:
    """What a person says about the names: where labels come from, and which split a file is in."""

    label_from: str | None = None
    labels: Path | str | None = None
    split: Path | str | None = None


def scan(
    folder: Path, out: Path, *, rules: Rules, channels: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    raise NotImplementedError
