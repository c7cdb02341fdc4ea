"""Whether new sounds follow the descriptors that are asked of them: brightness, noisiness, attack, decay, loudness."""

import math

import numpy as np
import torch
from scipy.stats import spearmanr

from soundloom.audio import Waveform
from soundloom.bank import SoundBank
from soundloom.checkpoint import FAMILIES, family
from soundloom.closeness import described
from soundloom.condition import DESCRIPTORS, MEASURES, Condition
from soundloom.figures import Figure, Section
from soundloom.run import Run

ASKED = 40  # sounds, of each of which one descriptor is asked


def steering(run: Run, bank: SoundBank, *, seed: int) -> Section:
    """For each descriptor, `ASKED` sounds with that alone asked, from the least to the most of the bank, and how well
    what is measured follows: Spearman's correlation."""
    title = "Steering"
    if "descriptors" not in run.model.conditions:
        able = " or ".join(key for key in FAMILIES if "descriptors" in family(key).conditions)
        return Section("steering", title, why_not=f"a {run.family} is not told of descriptors; a {able} is.")
    figures, lacking = [], []
    for number, name in enumerate(DESCRIPTORS):
        asked = np.random.default_rng(seed).permutation(np.linspace(0.02, 0.98, ASKED))
        row = np.full((ASKED, len(DESCRIPTORS)), np.nan, np.float32)
        row[:, number] = asked
        sounds = run.sample_as(Condition.having(descriptors=torch.from_numpy(row)), seed=seed)
        measured = bank.quantile(name, np.array([_measured(sound, name) for sound in sounds]))
        known = np.isfinite(measured)
        if known.sum() < ASKED // 2 or np.ptp(measured[known]) == 0:
            lacking.append(name)
            continue
        figures.append(
            Figure(
                f"follows_{name}",
                f"{name} asked and measured",
                float(spearmanr(asked[known], measured[known]).statistic),
                "rank correlation over the bank's whole range: 1 follows, 0 does not listen",
            )
        )
    words = f"Of {ASKED} sounds for each descriptor, asked for that alone."
    why_not = f"Not measurable in these sounds: {', '.join(lacking)}." if lacking else ""
    return Section("steering", title, tuple(figures), words, why_not)


def _measured(sound: Waveform, name: str) -> float:
    value = float(getattr(described(sound), MEASURES[name])[0])
    if name == "loudness":  # at a peak of full scale, as the bank's clips are
        value -= 20 * math.log10(max(float(np.abs(sound.samples).max()), 1e-6))
    return value
