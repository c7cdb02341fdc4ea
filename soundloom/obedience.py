"""Whether new sounds are what was asked for, and what a classifier makes of them, beside real sounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.bank import SoundBank, spread_evenly
from soundloom.closeness import IN_TUNE_CENTS
from soundloom.diversity import am_score, distances, inception_score, modified_inception_score
from soundloom.ears import Ear, likeliest, tracked_pitch
from soundloom.figures import Figure, Section, sentences, share_interval
from soundloom.material import FEWEST, Material
from soundloom.recognition import is_right

Exact = NDArray[np.float64]
Floats = NDArray[np.float32]

MOST_TRACKED = 300  # sounds of a kind whose pitch is measured
MOST_HEARD = 500  # real sounds of a kind that a classifier hears
NEIGHBOURS = 5
HELD_OUT, TRAINING = "held-out sounds", "training sounds"
NO_CLASSIFIER = "no classifier was given: --classifier RUN takes one, --train-classifier MINUTES trains one first."


@dataclass(frozen=True)
class Opinions:
    """What a classifier heard: the chances of its L labels, [N, L], of the new sounds and of some real ones."""

    name: str
    labels: tuple[str, ...]
    made: Floats
    train: Floats
    held_out: Floats
    train_clips: NDArray[np.int64]
    held_out_clips: NDArray[np.int64]

    def names(self, chances: Floats) -> list[str | None]:
        """The label of each of N sounds, by their chances [N, L]; None: unknown."""
        return [likeliest(row, self.labels) for row in chances]


def opinions(classifier: Ear, material: Material, bank: SoundBank) -> Opinions:
    """Has a classifier hear the new sounds and up to `MOST_HEARD` real ones of each kind."""
    some = [np.array(spread_evenly(clips, MOST_HEARD), np.int64) for clips in (material.train, material.held_out)]
    train, held_out = (classifier.chances([bank.audio(int(clip)) for clip in clips]) for clips in some)
    made = classifier.chances(material.made)
    return Opinions(classifier.name, classifier.labels, made, train, held_out, *some)


def judged(heard: Opinions | None) -> Section:
    """The scores that a classifier gives: Inception score, modified Inception score, AM score."""
    title = "As a classifier hears it"
    if heard is None:
        return Section("judged", title, why_not=NO_CLASSIFIER)
    if len(heard.labels) < 2:
        only = ", ".join(heard.labels)
        return Section(
            "judged", title, why_not=f"the classifier knows a single label ({only}): it cannot tell any apart."
        )
    if len(heard.made) < FEWEST or len(heard.train) < FEWEST:
        counts = f"{len(heard.made)} new and {len(heard.train)} training sounds"
        return Section("judged", title, why_not=f"there are {counts}, and fewer than {FEWEST} say nothing.")
    made, train, held_out = (_even(each) for each in (heard.made, heard.train, heard.held_out))
    if not (np.isfinite(made).all() and np.isfinite(train).all()):
        return Section("judged", title, why_not="the classifier gave chances that are no numbers (NaN).")
    sets = {TRAINING: train} | ({HELD_OUT: held_out} if len(held_out) >= FEWEST else {})
    most = f"1 to {len(heard.labels)}"

    def modified(chances: Exact) -> float:
        return modified_inception_score(chances, chances.argmax(1))

    def am(chances: Exact) -> float:
        return am_score(chances, train)

    rows = (
        ("inception_score", "Inception score", inception_score, f"{most}: sure of each sound, and all labels there"),
        ("modified_inception_score", "modified Inception score", modified, "variety within a label, 1 is none"),
        ("am_score", "AM score", am, "0 is best: sure, and labels as often as in training"),
    )
    figures = tuple(
        Figure(name, words, score(made), help, beside={who: score(chances) for who, chances in sets.items()})
        for name, words, score, help in rows
    )
    words = f"By the classifier {heard.name} of {len(heard.labels)} labels: comparable between models of this bank."
    return Section("judged", title, figures, words)


def _even(heard: Floats) -> Exact:
    """Chances [N, L], each row of sum 1: of silence, where no label has a chance, all are equally likely."""
    chances = heard.astype(float)
    chances = np.where(chances.sum(1, keepdims=True) == 0, 1.0, chances)
    total: Exact = chances / chances.sum(1, keepdims=True)
    return total


def obedience(material: Material, bank: SoundBank, heard: Opinions | None) -> Section:
    """Whether a new sound has the pitch and the label that it was asked to have."""
    pitch, label = _pitch(material, bank), _labels(material, bank, heard)
    return Section(
        "obedience",
        "Obedience",
        pitch.figures + label.figures,
        sentences([pitch.words, label.words]),
        sentences([pitch.why_not, label.why_not]),
    )


def _pitch(material: Material, bank: SoundBank) -> Section:
    places = np.flatnonzero(np.isfinite(material.pitches))[:MOST_TRACKED]
    if len(places) < FEWEST:
        return Section("pitch", "", why_not=f"Pitch: {len(places)} sounds were asked to have one; it takes {FEWEST}.")
    mine = _misses(material.pitches[places], [material.made[i] for i in places])
    wanted = np.asarray(bank.column("pitch"), float)
    clips = [clip for clip in material.held_out if np.isfinite(wanted[clip])][:MOST_TRACKED]
    theirs = _misses(wanted[clips], [bank.audio(int(clip)) for clip in clips]) if len(clips) >= FEWEST else None
    n = len(places)
    rows = (
        ("asked_in_tune", "in tune", f"the share within {IN_TUNE_CENTS:.0f} cents of the pitch asked for"),
        ("octave_errors", "an octave or more off", "the share that has the right note in a wrong octave"),
        ("no_pitch", "no pitch heard", "the share in which no pitch is found"),
    )
    figures = [
        Figure(
            name,
            words,
            mine[name],
            help,
            *share_interval(mine[name] * n, n),
            {HELD_OUT: theirs[name]} if theirs else {},
        )
        for name, words, help in rows
    ]
    why_not = ""
    for name, words, help in (
        ("pitch_error_cents", "pitch error, cents", "the median, where a pitch is found"),
        ("pitch_correlation", "pitch asked and measured", "correlation, 1 is best"),
    ):
        if np.isfinite(mine[name]):
            beside = {HELD_OUT: theirs[name]} if theirs else {}
            figures.append(Figure(name, words, mine[name], help, beside=beside))
        else:
            why_not = "Correlation of pitches: they are all the same, or too few were heard."
    words = f"Pitch: of {n} sounds, by Soundloom's own tracker."
    return Section("pitch", "", tuple(figures), words, why_not)


def _misses(asked: Exact, sounds: Sequence[Waveform]) -> dict[str, float]:
    """How far the pitches [N] (MIDI) of sounds are from those asked for [N]."""
    measured = np.array([tracked_pitch(sound.mono().samples[0], sample_rate=sound.sample_rate)[0] for sound in sounds])
    heard = np.isfinite(measured)
    cents = 100 * (measured - asked)
    octaves = np.round(cents / 1200)
    right = np.abs(cents - 1200 * octaves) <= IN_TUNE_CENTS
    varied = heard.sum() >= 3 and np.ptp(asked[heard]) > 0 and np.ptp(measured[heard]) > 0
    return {
        "asked_in_tune": float((heard & (np.abs(cents) <= IN_TUNE_CENTS)).mean()),
        "octave_errors": float((heard & right & (octaves != 0)).mean()),
        "no_pitch": float((~heard).mean()),
        "pitch_error_cents": float(np.median(np.abs(cents[heard]))) if heard.any() else float("nan"),
        "pitch_correlation": float(np.corrcoef(asked[heard], measured[heard])[0, 1]) if varied else float("nan"),
    }


def _labels(material: Material, bank: SoundBank, heard: Opinions | None) -> Section:
    asked = [i for i, label in enumerate(material.labels) if label is not None]
    known = {str(label) for label in bank.column("label")[material.train] if label}
    if len(known) < 2 or len(asked) < FEWEST:
        asking = f"{len(asked)} sounds were asked to have one; it takes {FEWEST}"
        why = "the training sounds have fewer than two" if len(known) < 2 else asking
        return Section("label", "", why_not=f"Label: {why}.")
    wanted = [str(material.labels[i]) for i in asked]
    column = bank.column("label")
    if heard is not None and set(wanted) <= set(heard.labels):
        judge = f"the classifier {heard.name}"
        mine = heard.names(heard.made[asked])
        clips, theirs = heard.held_out_clips, heard.names(heard.held_out)
    else:
        if lack := material.lacks():
            return Section("label", "", why_not=f"Label: {lack}")
        judge = f"the {NEIGHBOURS} nearest training sounds by the ear ({material.ear})"
        of_train = [str(label) if label else None for label in column[material.train]]
        mine = _nearest_label(material.made_at[asked], material.train_at, of_train)
        clips, theirs = material.held_out, _nearest_label(material.held_out_at, material.train_at, of_train)
    hits = sum(is_right(a, b) for a, b in zip(wanted, mine, strict=True))
    pairs = [(str(column[clip]), label) for clip, label in zip(clips, theirs, strict=True) if column[clip] in known]
    beside = {"the commonest label always": max(wanted.count(label) for label in known) / len(wanted)}
    if len(pairs) >= FEWEST:
        beside = {HELD_OUT: sum(is_right(a, b) for a, b in pairs) / len(pairs)} | beside
    help = f"the share that {judge} takes for what was asked"
    interval = share_interval(hits, len(wanted))
    figure = Figure("label_accuracy", "right label", hits / len(wanted), help, *interval, beside)
    return Section("label", "", (figure,), f"Labels: of {len(wanted)} sounds, by {judge}.")


def _nearest_label(points: Exact, train_at: Exact, labels: Sequence[str | None]) -> list[str | None]:
    """The label that most of the nearest training sounds have, the nearest of them where it is a tie."""
    found = []
    for row in distances(points, train_at).argsort(1, kind="stable")[:, :NEIGHBOURS] if len(points) else []:
        near = [labels[i] for i in row]
        found.append(max(near, key=lambda label: (near.count(label), -near.index(label))))
    return found
