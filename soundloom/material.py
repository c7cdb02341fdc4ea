"""What a model that makes new sounds is judged on: its sounds, real ones beside them, and where an ear places all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.bank import SoundBank
from soundloom.closeness import HOLDS_OUT
from soundloom.condition import UNKNOWN, Condition
from soundloom.ears import Ear
from soundloom.run import Run

FEWEST = 20  # sounds of a kind, below which nothing is said of it
ENOUGH = 200  # new sounds, where nobody asked for another number
MOST_REAL = 1000  # training sounds, and as many held-out ones, that new sounds are held against
TOGETHER = 32
SILENT = 1e-4  # a peak below this is no sound

Exact = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Material:
    """New sounds and the real ones they are held against.

    `made` [N], each asked to have the label `labels[i]` (None: any) and the pitch `pitches[i]` (MIDI, NaN: any): labels
    as often as in training, each with the pitches of held-out sounds. `train` and `held_out` are clips of the bank.
    `made_at`, `train_at` and `held_out_at` are their places by the ear, [N, E], centred on the training sounds and
    scaled to their mean variance. `lost` of the new sounds had samples that are no numbers, and are left out; `silent`
    are in.
    """

    ear: str
    made: tuple[Waveform, ...]
    labels: tuple[str | None, ...]
    pitches: Exact
    train: Indices
    held_out: Indices
    made_at: Exact
    train_at: Exact
    held_out_at: Exact
    lost: int
    silent: int

    def lacks(self, *, held_out: bool = False) -> str:
        """Why nothing can be measured on the places of these sounds, in a sentence; empty where it can."""
        sets = [("new", self.made_at), ("training", self.train_at)] + [("held-out", self.held_out_at)] * held_out
        for name, places in sets:
            if len(places) < FEWEST:
                next_step = "--samples takes more" if name == "new" else "a larger bank would have more"
                return f"there are {len(places)} {name} sounds, and fewer than {FEWEST} say nothing: {next_step}."
        for name, places in sets:
            bad = int((~np.isfinite(places).all(1)).sum())
            if bad:
                return f"the ear ({self.ear}) has no place for {bad} of {len(places)} {name} sounds: it heard NaN."
        if not self.train_at.any():
            return f"all {len(self.train_at)} training sounds are one and the same to the ear ({self.ear})."
        return ""


def usual_samples(bank: SoundBank) -> int:
    """How many new sounds say enough: as many as there are to hold them against, within bounds."""
    return int(np.clip(len(bank.clips("train")), 2 * FEWEST, ENOUGH))


def gather(
    run: Run, bank: SoundBank, *, samples: int, seed: int, ear: Ear, progress: Callable[[int, int], None] | None
) -> Material:
    """Draws the new sounds, takes the real ones, and has the ear place them all."""
    random = np.random.default_rng(seed)
    train, held_out = _some(bank.clips("train"), random), _some(held_out_clips(bank), random)
    like = _alike(bank, train, held_out, samples, random)
    total = 2 * samples + len(train) + len(held_out)
    done = 0

    def on(n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress(done, total)

    labels = [label if label in run.labels else None for label in bank.column("label")[like]]
    pitches = np.asarray(bank.column("pitch")[like], float)
    sounds: list[Waveform] = []
    for start in range(0, samples, TOGETHER):
        part = slice(start, start + TOGETHER)
        sounds += run.sample_as(_condition(labels[part], pitches[part], run.labels), seed=seed + start)
        on(len(labels[part]))
    whole = [i for i, sound in enumerate(sounds) if np.isfinite(sound.samples).all()]
    made = tuple(sounds[i] for i in whole)
    places = [_placed(ear, made, on)]
    places += [_placed(ear, _Clips(bank, clips), on) for clips in (train, held_out)]
    centre, scale = _measure(places[1])
    made_at, train_at, held_out_at = ((place - centre) / scale for place in places)
    return Material(
        ear=ear.name,
        made=made,
        labels=tuple(labels[i] for i in whole),
        pitches=pitches[whole],
        train=train,
        held_out=held_out,
        made_at=made_at,
        train_at=train_at,
        held_out_at=held_out_at,
        lost=samples - len(whole),
        silent=sum(float(np.abs(sound.samples).max(initial=0)) < SILENT for sound in made),
    )


def held_out_clips(bank: SoundBank) -> Indices:
    """What a model was not trained on: validation and test."""
    return np.sort(np.concatenate([bank.clips(split) for split in HOLDS_OUT]))


class _Clips(Sequence[Waveform]):
    """Clips of a bank, read when they are heard: a bank need not fit in memory."""

    def __init__(self, bank: SoundBank, clips: Indices) -> None:
        self.bank, self.clips = bank, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        if isinstance(at, slice):
            return [self.bank.audio(int(clip)) for clip in self.clips[at]]
        return self.bank.audio(int(self.clips[at]))


def _placed(ear: Ear, sounds: Sequence[Waveform], on: Callable[[int], None]) -> Exact:
    """The ear's place of each sound, [N, E]."""
    found = []
    for start in range(0, len(sounds), TOGETHER):
        part = sounds[start : start + TOGETHER]
        found.append(np.asarray(ear.embed(part), np.float64))
        on(len(part))
    return np.concatenate(found) if found else np.zeros((0, 1))


def _measure(train_at: Exact) -> tuple[Exact, float]:
    """The centre of the training sounds and the root of their mean variance, by which all places are scaled: figures
    then do not depend on how large an ear's numbers are. One scale for all dimensions keeps neighbours neighbours."""
    if len(train_at) < 2 or not np.isfinite(train_at).all():
        return np.zeros(1), 1.0
    scale = float(np.sqrt(train_at.var(0).mean()))
    return train_at.mean(0), scale if scale > 1e-9 else 1.0


def _some(clips: Indices, random: np.random.Generator) -> Indices:
    return np.sort(random.permutation(clips)[:MOST_REAL])


def _alike(bank: SoundBank, train: Indices, held_out: Indices, n: int, random: np.random.Generator) -> Indices:
    """n clips to be like. Their labels are as often as in training: else a perfect model would be another set, only for
    what it was asked. Where sounds of a label are held out it is they, so that no pitch is one that was trained on."""
    labels = bank.column("label")
    asked = _repeated(train if len(train) else held_out, n, random)
    like = asked.copy()
    both = set(labels[held_out]) & set(labels[asked])
    for label in sorted(both, key=str):  # in one order, whatever the process hashes names to
        places = np.flatnonzero(labels[asked] == label)
        like[places] = _repeated(held_out[labels[held_out] == label], len(places), random)
    return like


def _repeated(clips: Indices, n: int, random: np.random.Generator) -> Indices:
    """n of the clips (at least one) in random order, each as often as any other, up to one."""
    rounds = [random.permutation(clips) for _ in range(-(-n // len(clips)))]
    return np.concatenate(rounds)[:n]


def _condition(labels: Sequence[str | None], pitches: Exact, known: Sequence[str]) -> Condition:
    index = [UNKNOWN if label is None else list(known).index(label) for label in labels]
    known_pitches = torch.from_numpy(pitches.astype(np.float32))
    return Condition.having(pitch=known_pitches, label=torch.tensor(index, dtype=torch.int64))
