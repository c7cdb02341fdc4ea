"""What a report on a model is made of: figures with their intervals and yardsticks, in sections that may say why there
are none."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from soundloom.distances import NORMAL_95, Estimate

NAN = float("nan")


@dataclass(frozen=True)
class Figure:
    """One number. `name` is its key in JSON, `title` what people read, `help` what it means and which way is good.

    `low` and `high` hold the true value about 19 times in 20; NaN: no interval. `beside` are yardsticks by name, such
    as what real sounds score. `shown` stands in tables in place of a number that would be misread.
    """

    name: str
    title: str
    value: float
    help: str
    low: float = NAN
    high: float = NAN
    beside: Mapping[str, float] = field(default_factory=dict)
    shown: str = ""

    @classmethod
    def of(cls, name: str, title: str, estimate: Estimate, help: str, beside: Mapping[str, float]) -> "Figure":
        """A distance. One whose interval reaches zero is "indistinguishable at this size", whatever its sign."""
        shown = "indistinguishable at this size" if estimate.reaches_zero else ""
        return cls(name, title, estimate.value, help, estimate.low, estimate.high, beside, shown)

    @property
    def text(self) -> str:
        """For people: the value and its interval in brackets."""
        interval = "" if math.isnan(self.low) else f" ({number(self.low)} to {number(self.high)})"
        return self.shown or number(self.value) + interval

    @property
    def yardsticks(self) -> str:
        return ", ".join(f"{name} {number(value)}" for name, value in self.beside.items())

    def document(self) -> dict[str, Any]:
        interval = None if math.isnan(self.low) else [self.low, self.high]
        return {"value": self.value, "interval": interval, "beside": dict(self.beside)}


@dataclass(frozen=True)
class Section:
    """A part of the report. `why_not`: what could not be measured and why; empty where all could."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    words: str = ""
    why_not: str = ""

    def __getitem__(self, name: str) -> Figure:
        return {figure.name: figure for figure in self.figures}[name]

    def document(self) -> dict[str, Any]:
        return {
            "figures": {figure.name: figure.document() for figure in self.figures},
            "words": self.words,
            "not_measured": self.why_not or None,
        }

    def table(self) -> str:
        """For people, in a terminal."""
        lines = [self.title]
        width = max((len(figure.title) for figure in self.figures), default=0)
        for figure in self.figures:
            beside = f"   beside: {figure.yardsticks}" if figure.beside else ""
            lines.append(f"  {figure.title:<{width}}  {figure.text}{beside}")
        lines += [f"  {self.words}"] if self.words else []
        lines += [f"  not measured: {self.why_not}"] if self.why_not else []
        return "\n".join(lines)


def number(value: float) -> str:
    """Three digits, which is what figures on some hundred sounds hold."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def sentences(parts: Iterable[str]) -> str:
    return " ".join(part for part in parts if part)


def share_interval(hits: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, `hits` of n (at least 1): honest near 0 and 1, and for few (Wilson 1927).

    >>> [round(x, 2) for x in share_interval(20, 20)]
    [0.84, 1.0]
    """
    z = NORMAL_95
    share, room = hits / n, z * z / n
    middle = (share + room / 2) / (1 + room)
    half = z * math.sqrt(share * (1 - share) / n + room / (4 * n)) / (1 + room)
    return max(0.0, middle - half), min(1.0, middle + half)
