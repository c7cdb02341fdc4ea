"""What the places of sounds say of a model: how far it is from its bank, how varied it is, and whether it copies."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from soundloom.bank import SoundBank
from soundloom.copies import SURE, Copying, copying
from soundloom.distances import (
    Estimate,
    between_halves,
    fewest_for_frechet,
    frechet_extrapolated,
    frechet_infinity,
    kernel_distance,
    kernel_estimate,
)
from soundloom.diversity import Manifold, different_bins, manifold, spread
from soundloom.figures import Figure, Section, sentences
from soundloom.material import FEWEST, Material
from soundloom.twosample import two_sample_auc

Array = NDArray[np.floating]
Exact = NDArray[np.float64]

OWN_EAR = "The places are those of Soundloom's own ear ({}): not comparable with published scores."
FEW = 100  # sounds of a set below which a warning stands beside the figures
HALVES = "two halves of the training sounds, 19 times in 20 below"
HALVES_MEAN = "two halves of the training sounds"
HELD_OUT = "held-out sounds"


def distances(material: Material, *, generator: np.random.Generator) -> Section:
    """How far the new sounds as a set are from the training sounds."""
    title = "Distance"
    if lack := material.lacks():
        return Section("distances", title, why_not=lack)
    made, train, held_out = material.made_at, material.train_at, material.held_out_at
    dimensions = int(made.shape[1])
    least = fewest_for_frechet(dimensions)

    def extrapolated(a: Array, b: Array) -> float:
        return frechet_extrapolated(a, b, generator=generator) / float(dimensions)

    def beside(measure: Callable[[Array, Array], float], fewest: int) -> dict[str, float]:
        found = {}
        if len(train) >= 2 * fewest:
            found[HALVES] = between_halves(train, measure, generator=generator)
        if len(held_out) >= fewest:
            found[HELD_OUT] = measure(held_out, train)
        return found

    near = kernel_estimate(made, train, generator=generator)
    help = "0 is the same distribution; unbiased, so it may be below 0 by chance"
    figures = [Figure.of("kernel_distance", "kernel distance (KID)", near, help, beside(kernel_distance, FEWEST))]
    told = two_sample_auc(made, train, generator=generator)
    help = "a classifier trained to tell them apart: 0.5 is guessing, 1 always right; on sounds left out of its fit"
    real = {HALVES_MEAN: _auc_of_halves(train, generator)} if len(train) >= 2 * FEWEST else {}
    if len(held_out) >= FEWEST:
        real[HELD_OUT] = two_sample_auc(held_out, train, generator=generator)
        told_held_out = two_sample_auc(made, held_out, generator=generator)
        figures.append(
            Figure("two_sample_auc_held_out", "told from held-out sounds (AUC)", told_held_out, help, beside=real)
        )
    figures.append(Figure("two_sample_auc", "told from training sounds (AUC)", told, help, beside=real))
    why_not = ""
    if min(len(made), len(train)) >= least:
        found = frechet_infinity(made, train, generator=generator)
        estimate = Estimate(found.value / dimensions, found.low / dimensions, found.high / dimensions)
        help = "0 is the same distribution, 1 one average sound over and over; extrapolated to infinitely many sounds"
        yardsticks = beside(extrapolated, least)
        figures.append(Figure.of("frechet_distance", "Fréchet distance (∞)", estimate, help, yardsticks))
    else:
        why_not = f"Fréchet's distance: in {dimensions} dimensions it needs {least} sounds of each kind, and there are "
        why_not += f"{len(made)} new and {len(train)} training sounds; fewer would measure their number, not them."
    verdict = "The new sounds are a different set than the training sounds, as far as the ear can tell."
    if near.reaches_zero:
        verdict = "At this size the new sounds cannot be told from the training sounds."
    few = min(len(made), len(train))
    warning = f"With {few} sounds only large differences show: the intervals are wide." if few < FEW else ""
    words = sentences([verdict, warning, OWN_EAR.format(material.ear)])
    return Section("distances", title, tuple(figures), words, why_not)


def _auc_of_halves(points: Exact, generator: np.random.Generator) -> float:
    """What two random halves of the same sounds are told apart by, on average over a few."""
    found = []
    for _ in range(5):
        order = generator.permutation(len(points))
        found.append(two_sample_auc(points[order[::2]], points[order[1::2]], generator=generator))
    return float(np.mean(found))


def variety(material: Material, bank: SoundBank, *, generator: np.random.Generator) -> Section:
    """Quality and diversity apart: do new sounds lie among real ones, and do they reach everywhere?"""
    title = "Quality and variety"
    if lack := material.lacks():
        return Section("variety", title, why_not=lack)
    made, train, held_out = material.made_at, material.train_at, material.held_out_at
    real = not material.lacks(held_out=True)  # held-out sounds are enough to be a yardstick
    mine = _at_equal_size(train, made, generator)
    theirs = _at_equal_size(train, held_out, generator) if real else None
    figures = []
    for name, help in (
        ("precision", "quality: the share of new sounds that lie among training sounds"),
        ("recall", "variety: the share of training sounds that lie among new ones"),
        ("density", "quality: how deep among training sounds new ones lie; about 1 is as real ones do"),
        ("coverage", "variety: the share of training sounds with a new one next to them"),
    ):
        beside = {HELD_OUT: getattr(theirs, name)} if theirs else {}
        figures.append(Figure(name, name, getattr(mine, name), help, beside=beside))
    bins = different_bins(train, made, generator=generator)
    beside = {"by chance, about": 0.05}
    if real:
        beside[HELD_OUT] = different_bins(train, held_out, generator=generator).different
    help = f"of {bins.count} regions, the share that holds a different part of new and of training sounds (NDB)"
    figures.append(Figure("different_bins", "different regions", bins.different, help, beside=beside))
    help = "Jensen-Shannon divergence over the regions, bits: 0 is alike, 1 is disjoint"
    figures.append(Figure("bin_divergence", "divergence over regions", bins.divergence, help))
    ratios, single = _spreads(material, bank, made, [str(label) for label in material.labels])
    if ratios:
        help = "how different the sounds of a label are, beside the training sounds': 1 is as varied, 0 all the same"
        labels = [str(label) for label in bank.column("label")[material.held_out]]
        others, _ = _spreads(material, bank, held_out, labels) if real else ({}, 0)
        beside = {HELD_OUT: float(np.mean(list(others.values())))} if others else {}
        figures.append(
            Figure("spread", "spread within labels", float(np.mean(list(ratios.values()))), help, beside=beside)
        )
    words = f"Overlaps depend on the number of sounds: they are measured on {min(len(made), len(train))} of each kind"
    words += f", those of held-out sounds on {min(len(held_out), len(train))}." if real else "."
    silent = f"{material.silent} of the {len(made)} new sounds are silent." if material.silent else ""
    lost = f"{material.lost} new sounds had samples that are no numbers and are left out." if material.lost else ""
    why_not = f"Spread: labels with a single sound, of which there are {single}." if single else ""
    return Section("variety", title, tuple(figures), sentences([silent, lost, words]), why_not)


def _at_equal_size(real: Exact, other: Exact, generator: np.random.Generator) -> Manifold:
    """Of the larger set a random part: coverage by 200 sounds of 1000 could not be whole, however good they are."""
    n = min(len(real), len(other))
    a, b = (points[generator.permutation(len(points))[:n]] for points in (real, other))
    return manifold(a, b)


def _spreads(material: Material, bank: SoundBank, places: Exact, labels: list[str]) -> tuple[dict[str, float], int]:
    """By label: the spread of the sounds over that of training sounds; and how many labels have a single sound."""
    of_train = [str(label) for label in bank.column("label")[material.train]]
    names = sorted(set(labels) & set(of_train))
    index = {name: i for i, name in enumerate(names)}
    mine, theirs = (
        spread(points, np.array([index.get(label, -1) for label in each]))
        for points, each in ((places, labels), (material.train_at, of_train))
    )
    single = sum(labels.count(name) < 2 or of_train.count(name) < 2 for name in names)
    return {name: mine[i] / theirs[i] for name, i in index.items() if i in mine and theirs.get(i, 0.0) > 1e-6}, single


def honesty(material: Material, *, generator: np.random.Generator) -> tuple[Section, Copying | None]:
    """Whether the model repeats its training sounds, against sounds that it never heard."""
    title = "Honesty"
    if lack := material.lacks(held_out=True):
        return Section("honesty", title, why_not=lack), None
    found = copying(material.made_at, material.train_at, material.held_out_at, generator=generator)
    root = material.made_at.shape[1] ** 0.5
    figures = (
        Figure(
            "copying_z",
            "nearer than held-out sounds are (C_T)",
            found.z,
            "in standard errors, by region: about 0 is new, below -3 is too near, far above 0 is off the mark",
        ),
        Figure("copying_p", "chance of that without copying", found.p_value, "Mann-Whitney, one-sided; small is bad"),
        Figure(
            "near_share",
            "very near to one training sound",
            found.near,
            "against those next to it: the share of new sounds as near as the nearest 5 % of held-out ones",
            beside={HELD_OUT: 0.05},
        ),
        Figure(
            "nearest_distance",
            "distance to the nearest, median",
            found.median / root,
            "1 is the usual distance of a training sound from the centre of all",
            beside={HELD_OUT: found.median_held_out / root, "training sounds to each other": found.median_train / root},
        ),
    )
    words = {
        "copies": "This model repeats its training sounds. Listen to the pairs; train shorter, or on more sounds.",
        "closer than unseen sounds": "The new sounds keep closer to the training sounds than unseen real ones do, "
        "without repeating them: typical ones, or slightly changed ones. Listen to the pairs.",
        "no sign of copying": "No sign that training sounds are repeated.",
    }[found.verdict]
    off = "They are farther from the training sounds than unseen real ones are." if found.z > SURE else ""
    return Section("honesty", title, figures, sentences([words, off])), found
