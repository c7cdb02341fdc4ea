"""What is shaken or scraped: maracas, cabasas, shakers, tambourines, guiros."""

import numpy as np

from training.clips import Sound
from training.drums import Rng
from training.metal import hiss
from training.pieces import (
    bandpass,
    between,
    chance,
    decay,
    highpass,
    lowpass,
    modes,
    peaked,
    resonance,
    rise,
    samples,
    times,
    white,
)


def _stroke(rng: Rng, n: int, *, rise_s: float, fall_s: float, power: float = 2.0) -> Sound:
    """A level that grows to its peak at `rise_s` and falls by 60 dB in `fall_s`."""
    t = times(n)
    return np.where(t < rise_s, (t / rise_s) ** power, np.exp(-6.9 * np.maximum(t - rise_s, 0) / fall_s))


def maracas(rng: Rng) -> Sound:
    """High noise, swelling for some milliseconds: the analogue maracas."""
    rise_s, fall_s = between(rng, 0.004, 0.03), between(rng, 0.02, 0.12)
    n = samples(rise_s + fall_s)
    return hiss(rng, n, low_hz=between(rng, 3500, 9000), high_hz=between(rng, 9000, 25000)) * _stroke(
        rng, n, rise_s=rise_s, fall_s=fall_s
    )


def shaker(rng: Rng) -> Sound:
    """Many beads against a wall: noise made of grains, one stroke or two."""
    rise_s, fall_s = between(rng, 0.01, 0.09), between(rng, 0.03, 0.25)
    n = samples(rise_s + fall_s)
    level = _stroke(rng, n, rise_s=rise_s, fall_s=fall_s, power=between(rng, 0.7, 3))
    if chance(rng, 0.3):
        gap = samples(between(rng, 0.06, 0.15))
        level = np.pad(level, (0, gap)) * rng.uniform(0.3, 1) + np.pad(level, (gap, 0))
        n += gap
    beads = between(rng, 300, 8000) / 32000  # collisions a sample
    grains = white(rng, n) * (rng.random(n) < beads) + rng.uniform(0, 0.1) * white(rng, n)
    wall = resonance(grains, between(rng, 3000, 9000), between(rng, 0.7, 5))
    return highpass(wall, between(rng, 1000, 4000)) * level


def cabasa(rng: Rng) -> Sound:
    """Chains dragged around a drum: a long rough swell."""
    rise_s, fall_s = between(rng, 0.015, 0.08), between(rng, 0.03, 0.15)
    n = samples(rise_s + fall_s)
    noise = bandpass(white(rng, n), between(rng, 2000, 6000), between(rng, 8000, 20000))
    rough = 1 + rng.uniform(0, 0.9) * lowpass(white(rng, n), between(rng, 40, 300)) * 8
    return noise * np.abs(rough) * _stroke(rng, n, rise_s=rise_s, fall_s=fall_s, power=1)


def tambourine(rng: Rng) -> Sound:
    """Pairs of small plates, struck together and again while they settle."""
    seconds = between(rng, 0.1, 0.6)
    n = samples(seconds)
    out = np.zeros(n)
    jingle_hz = between(rng, 3500, 8000) * rng.uniform(0.6, 1.9, 14)
    for hit in range(int(rng.integers(2, 14))):
        at = 0 if hit == 0 else int(n * rng.random() ** 2 * 0.6)
        which = rng.choice(14, 6, replace=False)
        level = rng.uniform(0.2, 1, 6) * (1.0 if hit == 0 else rng.uniform(0.1, 0.7))
        out[at:] += modes(
            jingle_hz[which], level, seconds * rng.uniform(0.3, 0.9, 6), n - at, phase=rng.uniform(0, 6, 6)
        )
    sizzle = (
        hiss(rng, n, low_hz=between(rng, 4000, 8000), high_hz=16000)
        * decay(n, seconds * 0.6)
        * rise(n, between(rng, 0.0005, 0.01))
    )
    head = (
        bandpass(white(rng, n), 150, between(rng, 500, 1500))
        * decay(n, 0.06)
        * (rng.uniform(0, 0.5) if chance(rng, 0.4) else 0)
    )
    return peaked(out) + between(rng, 0.1, 1.2) * sizzle + head


def tambourine_analogue(rng: Rng) -> Sound:
    """A band of high noise, struck twice in quick succession or with a slow second fall."""
    seconds = between(rng, 0.12, 0.5)
    n = samples(seconds)
    noise = resonance(hiss(rng, n, low_hz=between(rng, 3000, 7000), high_hz=16000), between(rng, 5500, 10000), 2.5)
    quick = between(rng, 0.01, 0.05)
    again = np.where(times(n) > 1.3 * quick, decay(n, seconds), 0.0)
    level = decay(n, quick * 3) * rng.uniform(0.3, 1) + again * rng.uniform(0.4, 1)
    return noise * level * rise(n, between(rng, 0.001, 0.01))


def guiro(rng: Rng) -> Sound:
    """A stick drawn over notches: clicks at a rate that moves, through a hollow body."""
    seconds = between(rng, 0.08, 0.6)
    n = samples(seconds)
    rate = np.linspace(between(rng, 25, 120), between(rng, 25, 160), n) / 32000
    ticks = np.diff(np.floor(np.cumsum(rate)), prepend=0.0)
    grain_n = samples(0.02)
    grain = bandpass(white(rng, grain_n), between(rng, 1000, 3000), between(rng, 4000, 12000)) * decay(
        grain_n, between(rng, 0.006, 0.03)
    )
    grain += resonance(grain, between(rng, 1500, 4500), between(rng, 2, 8)) * rng.uniform(0, 2)
    level = _stroke(rng, n, rise_s=seconds * rng.uniform(0.05, 0.8), fall_s=seconds, power=0.6)
    return np.convolve(ticks * level * rng.uniform(0.5, 1, n), grain)[:n]
