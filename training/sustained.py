"""Notes that are blown, bowed or sung, in rough outline: a source, what shakes it, and the body it comes out of."""

import numpy as np

from training.clips import Sound
from training.drums import Rng
from training.pieces import (
    bandpass,
    between,
    chance,
    highpass,
    lowpass,
    midi_hz,
    peaked,
    resonance,
    rise,
    samples,
    saw,
    sine,
    square,
    times,
    white,
)

# The first five formants of sung vowels, in hertz (Peterson and Barney, 1952; the upper two are typical values).
VOWELS = (
    (730, 1090, 2440, 3400, 4500),
    (530, 1840, 2480, 3500, 4500),
    (270, 2290, 3010, 3600, 4600),
    (570, 840, 2410, 3300, 4400),
    (300, 870, 2240, 3300, 4400),
    (660, 1720, 2410, 3400, 4500),
)


def shaken(rng: Rng, pitch: float, n: int) -> Sound:
    """The frequency of a played note: a scoop at its start, vibrato that comes later, and drift."""
    t = times(n)
    scoop = rng.uniform(-0.6, 0.1) * np.exp(-t / between(rng, 0.01, 0.05)) if chance(rng, 0.5) else 0.0
    depth = rng.uniform(0, 0.35) if chance(rng, 0.6) else 0.0
    vibrato = depth * np.clip(t / between(rng, 0.1, 0.6), 0, 1) * np.sin(2 * np.pi * rng.uniform(4.5, 6.8) * t)
    drift = 0.04 * lowpass(white(rng, n), 4.0, order=1) * np.sqrt(4000)
    return midi_hz(pitch) * np.exp2((scoop + vibrato + np.clip(drift, -0.15, 0.15)) / 12)


def breathed(rng: Rng, n: int, *, rise_s: float) -> Sound:
    """The level of a held note: it rises, sags or swells, and is let go."""
    held = np.linspace(1, rng.uniform(0.5, 1.2), n)
    gone = np.minimum((n - np.arange(n)) / min(samples(between(rng, 0.02, 0.2)), n), 1.0)
    return rise(n, rise_s) * held * gone


def flute(rng: Rng, pitch: float) -> Sound:
    n = samples(between(rng, 0.2, 2))
    hz = shaken(rng, pitch, n)
    out = sine(hz, n)
    for k in range(2, 7):
        out += rng.uniform(0, 0.6) * k**-1.2 * sine(hz * k, n, phase=rng.uniform(0, 6))
    breath = resonance(white(rng, n), midi_hz(pitch), 3) + 0.3 * bandpass(white(rng, n), 1000, 8000)
    puff = 1 + rng.uniform(0, 4) * np.exp(-times(n) / 0.03)
    return (out + between(rng, 0.02, 0.4) * peaked(breath) * puff) * breathed(rng, n, rise_s=between(rng, 0.02, 0.12))


def reed(rng: Rng, pitch: float) -> Sound:
    """Hollow as a clarinet (odd harmonics) or full as a saxophone or an oboe, through one or two formants."""
    n = samples(between(rng, 0.2, 2))
    hz = shaken(rng, pitch, n)
    source = square(hz, n) if chance(rng, 0.4) else square(hz, n, width=rng.uniform(0.05, 0.3))
    out = lowpass(source, min(between(rng, 3, 14) * midi_hz(pitch), 12000), order=1)
    for _ in range(int(rng.integers(1, 3))):
        out = out + rng.uniform(0.3, 2) * resonance(source, between(rng, 500, 3200), between(rng, 1, 4))
    breath = bandpass(white(rng, n), 800, 7000)
    mixed = peaked(out) + between(rng, 0.003, 0.08) * peaked(breath)
    return mixed * breathed(rng, n, rise_s=between(rng, 0.008, 0.06))


def brass(rng: Rng, pitch: float) -> Sound:
    """A sawtooth that is the brighter the louder it is."""
    n = samples(between(rng, 0.2, 1.8))
    source = saw(shaken(rng, pitch, n), n)
    level = breathed(rng, n, rise_s=between(rng, 0.015, 0.1))
    hz = midi_hz(pitch)
    dark, bright = (lowpass(source, min(k * hz, 12000), order=2) for k in (between(rng, 1.5, 3), between(rng, 5, 16)))
    open_s = between(rng, 0.02, 0.15)
    blare = rise(n, open_s) * rng.uniform(0.2, 1)
    out = dark * (1 - blare) + bright * blare
    if chance(rng, 0.25):  # muted
        out = highpass(out, 900, order=1) + 2 * resonance(out, between(rng, 1200, 2500), 3)
    return peaked(out) * level


def bowed(rng: Rng, pitch: float) -> Sound:
    """One or several sawtooths through the resonances of wooden bodies, with the noise of the bow."""
    n = samples(between(rng, 0.3, 2))
    source = np.zeros(n)
    players = 1 if chance(rng, 0.5) else int(rng.integers(2, 6))
    for _ in range(players):
        source += saw(shaken(rng, pitch + (rng.normal(0, 0.06) if players > 1 else 0), n), n, phase=rng.random())
    bow = white(rng, n) * between(rng, 0.01, 0.15)
    out = 0.4 * lowpass(source, between(rng, 2000, 7000), order=1)
    for hz in (between(rng, 200, 350), between(rng, 400, 600), between(rng, 900, 1500), between(rng, 2000, 3500)):
        out = out + rng.uniform(0.2, 1.2) * resonance(source + bow, hz, between(rng, 2, 8))
    return peaked(out + 0.3 * bow) * breathed(rng, n, rise_s=between(rng, 0.03, 0.4))


def sung(rng: Rng, pitch: float) -> Sound:
    """A glottal pulse through the formants of a vowel, one singer or a few."""
    n = samples(between(rng, 0.3, 2))
    source = np.zeros(n)
    singers = 1 if chance(rng, 0.6) else int(rng.integers(2, 6))
    for _ in range(singers):
        detune = rng.normal(0, 0.08) if singers > 1 else 0.0
        source += lowpass(saw(shaken(rng, pitch + detune, n), n, phase=rng.random()), between(rng, 500, 2500), order=1)
    source += between(rng, 0.003, 0.08) * white(rng, n)
    size = between(rng, 0.85, 1.25)  # of the singer's throat: 1 a man's
    out = np.zeros(n)
    for place, hz in enumerate(VOWELS[int(rng.integers(len(VOWELS)))]):
        out += 0.6**place * rng.uniform(0.5, 1.2) * resonance(source, hz * size, between(rng, 5, 12))
    return peaked(out) * breathed(rng, n, rise_s=between(rng, 0.03, 0.3))
