"""How good a model is: its re-syntheses and its new sounds beside real ones that it never heard, with what could not
be measured and why."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soundloom.audio import Waveform
from soundloom.bank import SoundBank, spread_evenly
from soundloom.closeness import SoundFigures, closeness, resynthesised
from soundloom.ears import Ear
from soundloom.errors import ConfigError
from soundloom.figures import Section
from soundloom.likeness import distances, honesty, variety
from soundloom.material import Material, gather, usual_samples
from soundloom.models.base import Classifies, Samples
from soundloom.obedience import judged, obedience, opinions
from soundloom.recognition import Confusion, recognition
from soundloom.run import Run, families_that
from soundloom.score import pitch_name
from soundloom.steering import steering

MOST_SAMPLES = 10_000
SHOWN = 12  # new sounds on the page
PAIRS = 6


@dataclass(frozen=True)
class Facts:
    """What was measured on what."""

    run: Path
    family: str
    bank: Path
    split: str


@dataclass(frozen=True)
class Pair:
    """A new sound, by its number, and the training sound that is nearest to it. `distance` 1 is the usual one of a
    training sound from the centre of all."""

    sample: int
    path: str
    distance: float
    made: Waveform
    real: Waveform


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured, in sections, and sounds to check it by ear.

    `sounds`: the figures of each re-synthesis; `resyntheses`: some of them as (path, original, made); `new`: some new
    sounds as (what was asked for, sound); `pairs`: the new sounds that come nearest to a training sound, nearest first.
    """

    facts: Facts
    sections: tuple[Section, ...]
    sounds: tuple[SoundFigures, ...] = ()
    resyntheses: tuple[tuple[str, Waveform, Waveform], ...] = ()
    new: tuple[tuple[str, Waveform], ...] = ()
    pairs: tuple[Pair, ...] = ()
    samples: int = 0
    confusion: Confusion | None = None  # of a classifier

    def __getitem__(self, name: str) -> Section:
        return {section.name: section for section in self.sections}[name]

    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        return {figure.name: figure.value for section in self.sections for figure in section.figures}

    def document(self) -> dict[str, Any]:
        return {
            **{name: str(value) for name, value in asdict(self.facts).items()},
            "samples": self.samples,
            "sections": {section.name: section.document() for section in self.sections},
            "sounds": [asdict(sound) for sound in self.sounds],
            "confusion": self.confusion and {"labels": self.confusion.names, "counts": self.confusion.counts.tolist()},
            "pairs": [{"sample": p.sample, "training": p.path, "distance": p.distance} for p in self.pairs],
        }

    def table(self) -> str:
        """The sections in words, for people."""
        return "\n\n".join(section.table() for section in self.sections)


@dataclass(frozen=True)
class Judges:
    """Who listens: `ear` places sounds among each other (None: the one that comes with Soundloom), `classifier` names
    them (None: nobody does)."""

    ear: Ear | None = None
    classifier: Ear | None = None


def evaluate(
    run: Run,
    bank: SoundBank,
    *,
    split: str = "test",
    most: int = 50,
    samples: int | None = None,
    seed: int = 0,
    judges: Judges = Judges(),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measures a model by what its family can do.

    Re-syntheses: up to `most` sounds of a split, from their audio alone. New sounds: `samples` of them (None: as
    many as there are training sounds, 40 to 200; 0: none), with labels as often as in training and pitches of
    held-out sounds. A classifier: its labels on up to `most` sounds of the split. `progress(done, total)` starts
    anew for each. What cannot be measured is said in its section. Raises `BankError` where that is all,
    `ConfigError` for a number of samples out of range.
    """
    samples = usual_samples(bank) if samples is None else samples
    if not 0 <= samples <= MOST_SAMPLES:
        raise ConfigError(f"{samples} new sounds were asked for: it goes from 0 to {MOST_SAMPLES}")
    facts = Facts(run.folder, run.family, bank.folder, split)
    if isinstance(run.model, Classifies):
        ear = Ear.load(run.folder, device=str(run.device))
        section, confusion = recognition(ear, bank, split=split, most=most)
        return Evaluation(facts, sections=(section,), confusion=confusion)
    rows, pairs = resynthesised(run, bank, split=split, most=most, progress=progress)
    again = tuple((row.path, *pair) for row, pair in zip(rows, pairs, strict=True))
    close = closeness(run, bank, rows, split=split)
    if not isinstance(run.model, Samples) or samples == 0:
        why = "no new sounds were asked for." if isinstance(run.model, Samples) else (
            f"a {run.family} makes no new sounds; a {families_that('sample')} does."
        )  # fmt: skip
        nothing = Section("new", "New sounds", why_not=why)
        return Evaluation(facts, sections=(close, nothing), sounds=rows, resyntheses=_some(again, PAIRS))
    material = gather(run, bank, samples=samples, seed=seed, ear=judges.ear or Ear.bundled(), progress=progress)
    generator = np.random.default_rng(seed)
    heard = opinions(judges.classifier, material, bank) if judges.classifier else None
    honest, copies = honesty(material, generator=generator)
    sections = (
        distances(material, generator=generator),
        variety(material, bank, generator=generator),
        judged(heard),
        honest,
        obedience(material, bank, heard),
        steering(run, bank, seed=seed),
        close,
    )
    return Evaluation(
        facts,
        sections=sections,
        sounds=rows,
        resyntheses=_some(again, PAIRS),
        new=tuple((_asked(material, i), material.made[i]) for i in range(min(SHOWN, len(material.made)))),
        pairs=tuple(_pair(material, bank, i, int(copies.nearest[i]), float(copies.distance[i])) for i in
                    np.argsort(copies.distance, kind="stable")[:PAIRS]) if copies else (),
        samples=samples,
    )  # fmt: skip


def _some(things: Sequence[Any], most: int) -> tuple[Any, ...]:
    """Evenly over the whole sequence."""
    return tuple(things[i] for i in spread_evenly(np.arange(len(things)), most))


def _asked(material: Material, i: int) -> str:
    label, pitch = material.labels[i], material.pitches[i]
    return ", ".join([label or "any label", pitch_name(pitch) if np.isfinite(pitch) else "any pitch"])


def _pair(material: Material, bank: SoundBank, sample: int, nearest: int, distance: float) -> Pair:
    clip = int(material.train[nearest])
    path = str(bank.column("path")[clip])
    usual = distance / material.made_at.shape[1] ** 0.5
    return Pair(int(sample), path, usual, material.made[sample], bank.audio(clip))
