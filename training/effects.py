"""What is neither a drum nor a note: zaps, blips, risers, wind, crackle, drones, glitches."""

from collections.abc import Callable, Iterator

import numpy as np

from training.clips import Clip, Facts, Sound, clip
from training.drums import Rng
from training.metal import clang
from training.pieces import (
    bandpass,
    between,
    chance,
    decay,
    driven,
    highpass,
    lowpass,
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
from training.production import machine, produced


def _glide(rng: Rng, n: int, *, low_hz: float, high_hz: float) -> Sound:
    """A frequency that goes from somewhere to somewhere else."""
    a, b = between(rng, low_hz, high_hz), between(rng, low_hz, high_hz)
    return a * (b / a) ** (np.arange(n) / n) ** between(rng, 0.3, 3)


def sweep(rng: Rng) -> Sound:
    n = samples(between(rng, 0.3, 2))
    hz = _glide(rng, n, low_hz=40, high_hz=8000)
    wave = (sine(hz, n), saw(hz, n), square(hz, n))[int(rng.integers(3))]
    return wave * rise(n, between(rng, 0.002, 0.3)) * np.minimum((n - np.arange(n)) / samples(0.05), 1)


def zap(rng: Rng) -> Sound:
    n = samples(between(rng, 0.06, 0.5))
    hz = between(rng, 800, 9000) * np.exp(-times(n) / between(rng, 0.01, 0.15)) + between(rng, 80, 800)
    wave = sine(hz, n) if chance(rng, 0.5) else square(hz, n)
    return wave * decay(n, between(rng, 0.1, 0.8))


def blips(rng: Rng) -> Sound:
    """Beeps one after another, as of a toy or a machine."""
    parts = []
    for _ in range(int(rng.integers(2, 12))):
        n = samples(between(rng, 0.02, 0.15))
        hz = between(rng, 200, 5000)
        wave = square(hz, n, width=rng.uniform(0.1, 0.5)) if chance(rng, 0.6) else sine(hz, n)
        parts += [wave * decay(n, between(rng, 0.05, 2)), np.zeros(samples(between(rng, 0.001, 0.08)))]
    return np.concatenate(parts)


def wind(rng: Rng) -> Sound:
    n = samples(between(rng, 0.8, 2))
    noise = white(rng, n)
    steps = 16
    out = np.zeros(n)
    window = np.hanning(2 * n // steps)
    hz = between(rng, 200, 3000)
    for step in range(steps):  # a band that wanders
        hz *= between(rng, 0.7, 1.4)
        at = step * n // steps
        length = min(len(window), n - at)
        out[at : at + length] += (
            peaked(resonance(noise[at : at + length], min(max(hz, 100), 9000), between(rng, 2, 20)))
            * window[:length]
            * rng.uniform(0.3, 1)
        )
    return out


def riser(rng: Rng) -> Sound:
    """Noise that swells or dies slowly: a wave, an engine starting, a reversed cymbal."""
    n = samples(between(rng, 0.5, 2))
    noise = bandpass(white(rng, n), between(rng, 30, 2000), between(rng, 2500, 20000))
    ramp = (np.arange(n) / n) ** between(rng, 0.5, 5)
    return noise * (ramp if chance(rng, 0.7) else ramp * ramp[::-1])


def steady_noise(rng: Rng) -> Sound:
    n = samples(between(rng, 0.4, 2))
    noise = white(rng, n)
    if chance(rng, 0.7):
        noise = bandpass(noise, between(rng, 20, 1500), between(rng, 1600, 20000))
    return noise * rise(n, between(rng, 0.002, 0.3)) * (1 + rng.uniform(0, 0.9) * sine(between(rng, 0.5, 40), n))


def crackle(rng: Rng) -> Sound:
    n = samples(between(rng, 0.5, 2))
    ticks = (rng.random(n) < between(rng, 5, 600) / 32000) * rng.exponential(1, n) * rng.choice([-1, 1], n)
    ticks = resonance(ticks, between(rng, 500, 6000), between(rng, 0.7, 3)) + rng.uniform(0, 0.5) * ticks
    return ticks + between(rng, 0.0005, 0.02) * white(rng, n)


def drone(rng: Rng) -> Sound:
    """Tones that have no common fundamental, shaking."""
    n = samples(between(rng, 0.8, 2))
    out = np.zeros(n)
    base = between(rng, 30, 600)
    for _ in range(int(rng.integers(3, 9))):
        hz = base * between(rng, 1, 12) * (1 + rng.uniform(0, 0.05) * sine(between(rng, 0.3, 12), n))
        out += rng.uniform(0.1, 1) * (sine(hz, n) if chance(rng, 0.6) else saw(hz, n))
    if chance(rng, 0.4):
        out = driven(out, between(rng, 1, 10))
    return out * rise(n, between(rng, 0.01, 0.6))


def ring_modulated(rng: Rng) -> Sound:
    n = samples(between(rng, 0.2, 1.8))
    out = sine(_glide(rng, n, low_hz=50, high_hz=3000), n) * sine(_glide(rng, n, low_hz=30, high_hz=3000), n)
    return out * decay(n, between(rng, 0.3, 5))


def glitch(rng: Rng) -> Sound:
    """Snippets repeated, held and cut."""
    parts = []
    for _ in range(int(rng.integers(3, 15))):
        n = samples(between(rng, 0.01, 0.12))
        kind = int(rng.integers(4))
        if kind == 0:
            parts.append(np.tile(white(rng, max(n // 8, 4)), 8))
        elif kind == 1:
            parts.append(square(between(rng, 40, 5000), n))
        elif kind == 2:
            parts.append(clang(rng, n) * decay(n, 0.05))
        else:
            parts.append(np.zeros(n))
    return np.concatenate(parts)


def boom(rng: Rng) -> Sound:
    """A burst in the distance: an explosion, thunder."""
    n = samples(between(rng, 0.6, 2))
    noise = lowpass(white(rng, n), between(rng, 100, 1500))
    rough = np.abs(lowpass(white(rng, n), between(rng, 4, 30), order=1))
    return driven(
        noise * (0.2 + peaked(rough)) * decay(n, between(rng, 1, 5)) * rise(n, between(rng, 0.01, 0.15)),
        between(rng, 0.5, 6),
    )


def siren(rng: Rng) -> Sound:
    n = samples(between(rng, 0.6, 2))
    depth = between(rng, 0.1, 1.2)
    hz = between(rng, 250, 2500) * 2 ** (depth * sine(between(rng, 1, 25), n))
    wave = square(hz, n) if chance(rng, 0.5) else sine(hz, n)
    return highpass(wave, 60, order=1) * np.minimum((n - np.arange(n)) / samples(0.05), 1)


EFFECTS: tuple[Callable[[Rng], Sound], ...] = (
    *(sweep, zap, blips, wind, riser, steady_noise, crackle, drone, ring_modulated, glitch, boom, siren),
)
GROUPS = 8


def effects_of(kind: int, *, numbers: range, seed: int) -> Iterator[Clip]:
    """Sounds of `EFFECTS[kind]`, each through one of a few chains of production."""
    for number in numbers:
        rng = np.random.default_rng([seed, 4, kind, number])
        chain = machine(np.random.default_rng([seed, 5, kind, number % GROUPS]))
        sound = produced(EFFECTS[kind](rng), chain, rng)
        made = clip(sound, Facts("effect", "noise", f"{EFFECTS[kind].__name__}/{number % GROUPS}", tonal=-1))
        if made is not None:
            yield made
