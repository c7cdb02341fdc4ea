"""How well a classifier knows sounds that it was not trained on, and whether its confidence can be relied on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundloom.bank import SoundBank, spread_evenly
from soundloom.closeness import heard_before
from soundloom.ears import Ear, likeliest
from soundloom.errors import BankError
from soundloom.figures import Figure, Section, share_interval

BINS = 10  # of confidence
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Confusion:
    """Which label was taken for which: `counts` [N, N], true by said. The last name is "unknown"."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, asked: Sequence[str], heard: Sequence[str | None]) -> "Confusion":
        names = (*sorted({*asked, *(label for label in heard if label)}), UNKNOWN)
        index = {name: i for i, name in enumerate(names)}
        counts = np.zeros((len(names), len(names)), np.int64)
        for true, said in zip(asked, heard, strict=True):
            counts[index[true], index[said or UNKNOWN]] += 1
        return cls(names, counts)


def is_right(asked: str, heard: str | None) -> bool:
    """A label may name several things at once, joined with "+": one of them will do."""
    return heard is not None and (heard == asked or heard in asked.split("+"))


def recognition(ear: Ear, bank: SoundBank, *, split: str, most: int) -> tuple[Section, Confusion]:
    """How often a classifier is right on sounds of a split, as it is used: with the right to say that it does not know.

    Raises `BankError` where no sound of the split has a label.
    """
    column = bank.column("label")
    clips = [int(clip) for clip in bank.clips(split) if column[clip]]
    if not clips or most < 1:
        raise BankError(
            f"{len(clips)} sounds of the split '{split}' have a label to be judged by: --split takes another"
        )
    clips = spread_evenly(np.array(clips), most)
    chances = ear.chances([bank.audio(clip) for clip in clips])
    heard = [likeliest(row, ear.labels) for row in chances]
    asked = [str(column[clip]) for clip in clips]
    n, right = len(clips), [is_right(a, b) for a, b in zip(asked, heard, strict=True)]
    unsure = sum(label is None for label in heard)
    by_label = [np.mean([r for r, a in zip(right, asked, strict=True) if a == label]) for label in sorted(set(asked))]
    chance = max(asked.count(label) for label in set(asked)) / n
    figures = (
        Figure(
            "accuracy",
            "right label",
            sum(right) / n,
            "the share of all sounds; not to know counts as wrong",
            *share_interval(sum(right), n),
            {"the commonest label always": chance},
        ),
        Figure("balanced_accuracy", "mean over labels", float(np.mean(by_label)), "rare ones count as much as others"),
        Figure(
            "calibration_error",
            "confidence off by",
            calibration_error(
                chances.max(1).tolist(),
                [is_right(a, ear.labels[int(row.argmax())]) for a, row in zip(asked, chances, strict=True)],
            ),
            "0 where of the sounds it is 80 % sure of, 80 % are right",
        ),
        Figure("unknown", "unknown", unsure / n, "the share it gives no label", *share_interval(unsure, n)),
    )
    title = "Recognition"
    single = [label for label in set(asked) if asked.count(label) == 1]
    why_not = f"Labels one by one: {len(single)} of {len(set(asked))} have a single sound." if single else ""
    section = Section("recognition", title, figures, f"{n} sounds ({split}), {heard_before(split)}.", why_not)
    return section, Confusion.of(asked, heard)


def calibration_error(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """The mean distance between how sure and how often right, over `BINS` bins of confidence weighted with their sounds
    (expected calibration error, Naeini et al., 2015).

    >>> calibration_error([0.95, 0.95, 0.95, 0.95], [True, True, True, False])
    0.2
    """
    sure, hits = np.asarray(confidence), np.asarray(right, float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    off = [abs(sure[place == b].sum() - hits[place == b].sum()) for b in range(BINS)]
    return round(float(sum(off)) / len(sure), 6)
