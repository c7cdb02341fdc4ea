"""What is struck and made of metal or wood: closed and open hats, cymbals, cowbells, claves and woodblocks."""

import numpy as np

from training.clips import Sound
from training.drums import Rng, click
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
    sine,
    square,
    steps_noise,
    white,
)

SQUARES_HZ = np.array([205.3, 304.4, 369.6, 522.7, 540.0, 800.0])  # of the best-known analogue hat


def clang(rng: Rng, n: int) -> Sound:
    """Six square waves that have nothing in common, high-passed: analogue metal."""
    hz = SQUARES_HZ * between(rng, 0.6, 3.5) * rng.uniform(0.9, 1.1, 6)
    return peaked(sum((square(f, n, phase=rng.random()) for f in hz), np.zeros(n)))


def ringing(rng: Rng, n: int, *, low_hz: float, seconds: float, count: int = 120) -> Sound:
    """A plate: many partials from `low_hz` up, the higher ones shorter; at peak 1.

    A plate has as many modes in every hertz (Fletcher and Rossing, 1998); here somewhat more in the low ones.
    """
    hz = low_hz + (15500 - low_hz) * rng.random(count) ** rng.uniform(0.8, 1.7)
    bright = rng.uniform(-0.3, 0.8)
    levels = rng.exponential(1, count) * (hz / 3000) ** bright
    lengths = seconds * np.maximum(hz / 3000, 0.3) ** -rng.uniform(0.0, 0.7) * rng.uniform(0.4, 1.3, count)
    return peaked(modes(hz, levels, lengths, n, phase=rng.uniform(0, 6, count)))


def hiss(rng: Rng, n: int, *, low_hz: float, high_hz: float) -> Sound:
    noise = white(rng, n) if chance(rng, 0.75) else steps_noise(rng, n, between(rng, 9000, 32000))
    noise = highpass(noise, low_hz, order=int(rng.integers(1, 5)))
    if chance(rng, 0.4):
        noise = noise + rng.uniform(0.5, 3) * resonance(noise, between(rng, low_hz, 12000), between(rng, 1.5, 8))
    return peaked(lowpass(noise, high_hz, order=int(rng.integers(1, 3))))


def _closed_level(rng: Rng, n: int, seconds: float) -> Sound:
    level = decay(n, seconds)
    if chance(rng, 0.15):  # closed by the foot
        level = level * rise(n, between(rng, 0.002, 0.01))
    return level


def _clanging(rng: Rng, n: int) -> Sound:
    """Square oscillators through a resonance and a high-pass, as analogue hats are made."""
    body = resonance(clang(rng, n), between(rng, 5000, 11000), between(rng, 0.5, 2))
    return peaked(highpass(body, between(rng, 3500, 8500), order=2))


def closed_squares(rng: Rng) -> Sound:
    seconds = between(rng, 0.04, 0.3)
    n = samples(seconds)
    return _clanging(rng, n) * _closed_level(rng, n, seconds)


def closed_noise(rng: Rng) -> Sound:
    seconds = between(rng, 0.03, 0.28)
    n = samples(seconds)
    return hiss(rng, n, low_hz=between(rng, 2500, 9500), high_hz=between(rng, 7000, 25000)) * _closed_level(
        rng, n, seconds
    )


def closed_plates(rng: Rng) -> Sound:
    seconds = between(rng, 0.06, 0.5)
    n = samples(seconds)
    plates = ringing(rng, n, low_hz=between(rng, 250, 3000), seconds=seconds)
    noise = hiss(rng, n, low_hz=between(rng, 2000, 8000), high_hz=16000) * decay(n, seconds)
    stick = click(rng, n, seconds=between(rng, 0.002, 0.012), low_hz=between(rng, 1500, 5000), high_hz=15000)
    foot = modes(between(rng, 180, 600) * np.array([1, 1.7]), [1, 0.5], between(rng, 0.03, 0.2), n)
    mixed = (
        highpass(plates, between(rng, 200, 5000), order=1) + between(rng, 0.2, 2) * noise + rng.uniform(0, 0.8) * stick
    )
    mixed = peaked(mixed) + (rng.uniform(0, 0.4) * foot if chance(rng, 0.4) else 0.0)
    return peaked(mixed) * _closed_level(rng, n, seconds * 1.5)


def closed_ring(rng: Rng) -> Sound:
    """Two tones multiplied with noise, as digital keyboards make metal."""
    seconds = between(rng, 0.03, 0.22)
    n = samples(seconds)
    tone = square(between(rng, 2000, 7000), n) * square(between(rng, 3000, 9000), n)
    mixed = highpass(tone, 3000) * rng.uniform(0.1, 0.8) + hiss(rng, n, low_hz=between(rng, 3000, 8000), high_hz=16000)
    return peaked(mixed) * decay(n, seconds)


def _open_level(rng: Rng, n: int, seconds: float) -> Sound:
    level = decay(n, seconds)
    if chance(rng, 0.25):  # stays up, then is choked
        level = np.clip((0.75 * n - np.arange(n)) / between(rng, 300, 4000) + 1, 0, 1) * decay(n, seconds * 3)
    return level * rise(n, between(rng, 0.0003, 0.004))


def open_squares(rng: Rng) -> Sound:
    seconds = between(rng, 0.3, 1.4)
    n = samples(seconds)
    return _clanging(rng, n) * _open_level(rng, n, seconds)


def open_noise(rng: Rng) -> Sound:
    seconds = between(rng, 0.25, 1.1)
    n = samples(seconds)
    return hiss(rng, n, low_hz=between(rng, 2500, 9000), high_hz=between(rng, 7000, 25000)) * _open_level(
        rng, n, seconds
    )


def open_plates(rng: Rng) -> Sound:
    """Two plates that touch: partials, and the sizzle between them."""
    seconds = between(rng, 0.6, 5)
    n = samples(min(seconds, rng.uniform(0.4, 1.9)))
    plates = highpass(
        ringing(rng, n, low_hz=between(rng, 300, 3000), seconds=seconds), between(rng, 300, 5000), order=1
    )
    sizzle = hiss(rng, n, low_hz=between(rng, 2500, 8000), high_hz=16000) * decay(n, seconds)
    stick = click(rng, n, seconds=between(rng, 0.002, 0.012), low_hz=2000, high_hz=15000)
    mixed = plates + between(rng, 0.3, 2) * sizzle + rng.uniform(0, 0.6) * stick
    return peaked(mixed) * _open_level(rng, n, seconds * 1.5)


def crash_plates(rng: Rng) -> Sound:
    """A crash: a splash of noise that blooms into many low and high partials."""
    seconds = between(rng, 1.0, 5)
    n = samples(min(seconds, rng.uniform(0.7, 2)))
    plates = ringing(rng, n, low_hz=between(rng, 150, 500), seconds=seconds, count=250) * rise(
        n, between(rng, 0.001, 0.02)
    )
    bloom = bandpass(white(rng, n), between(rng, 300, 3000), between(rng, 9000, 25000)) * decay(
        n, seconds * between(rng, 0.2, 0.8)
    )
    splash = click(rng, n, seconds=between(rng, 0.03, 0.3), low_hz=between(rng, 500, 4000), high_hz=15000)
    return (
        plates
        + between(rng, 0.1, 1.2) * peaked(bloom * rise(n, between(rng, 0.001, 0.02)))
        + rng.uniform(0, 0.6) * splash
    )


def ride_plates(rng: Rng) -> Sound:
    """A ride: the ping of the stick over a wash."""
    seconds = between(rng, 0.8, 4)
    n = samples(min(seconds, rng.uniform(0.5, 2)))
    wash = ringing(rng, n, low_hz=between(rng, 200, 900), seconds=seconds, count=160)
    ping_hz = between(rng, 1500, 6000) * rng.uniform(0.7, 2, 8)
    ping = peaked(modes(ping_hz, rng.uniform(0.2, 1, 8), between(rng, 0.1, 0.8), n, phase=rng.uniform(0, 6, 8)))
    stick = click(rng, n, seconds=between(rng, 0.003, 0.02), low_hz=2000, high_hz=15000)
    bell = modes(
        between(rng, 350, 900) * np.array([1, 1.5, 2.3, 3.1, 4.2]), rng.uniform(0.2, 1, 5), between(rng, 0.5, 3), n
    )
    noise = hiss(rng, n, low_hz=between(rng, 2500, 7000), high_hz=16000) * decay(n, seconds * 0.6)
    mixed = wash + between(rng, 0.1, 1) * ping + between(rng, 0.1, 0.9) * stick + between(rng, 0.05, 0.6) * noise
    return mixed + (between(rng, 0.1, 0.8) * peaked(bell) if chance(rng, 0.4) else 0.0)


def cymbal_squares(rng: Rng) -> Sound:
    """Six squares through two bands, each with its own fall: the analogue cymbal."""
    seconds = between(rng, 0.8, 4)
    n = samples(min(seconds, rng.uniform(0.6, 2)))
    metal = clang(rng, n)
    low = bandpass(metal, between(rng, 1500, 3500), between(rng, 4000, 7000), order=2) * decay(n, seconds)
    high = highpass(metal, between(rng, 5000, 9000)) * decay(n, seconds * between(rng, 0.2, 0.8))
    noise = hiss(rng, n, low_hz=between(rng, 3000, 8000), high_hz=16000) * decay(n, seconds)
    return peaked(low) * between(rng, 0.3, 1) + peaked(high) * between(rng, 0.3, 1) + rng.uniform(0, 0.5) * noise


def cymbal_noise(rng: Rng) -> Sound:
    """Of a preset box: long noise, a quick and a slow fall."""
    seconds = between(rng, 0.9, 3.5)
    n = samples(min(seconds, rng.uniform(0.7, 2)))
    quick = rng.uniform(0, 0.7)
    level = quick * decay(n, seconds * 0.2) + (1 - quick) * decay(n, seconds)
    noise = hiss(rng, n, low_hz=between(rng, 1500, 7000), high_hz=between(rng, 7000, 25000))
    tones = ringing(rng, n, low_hz=between(rng, 800, 4000), seconds=seconds, count=12)
    return noise * level + rng.uniform(0, 0.4) * tones


def cowbell_squares(rng: Rng) -> Sound:
    """Two square waves about a fifth apart through a band: a quick and a slow fall."""
    seconds = between(rng, 0.08, 0.7)
    n = samples(seconds)
    hz, ratio = between(rng, 430, 780), rng.uniform(1.4, 1.56)
    both = square(hz, n, phase=rng.random()) + rng.uniform(0.5, 1) * square(hz * ratio, n, phase=rng.random())
    both = resonance(both, between(rng, 800, 3000), between(rng, 0.5, 3)) + rng.uniform(0, 0.4) * both
    quick = rng.uniform(0.2, 0.8)
    return peaked(both) * (quick * decay(n, between(rng, 0.02, 0.08)) + (1 - quick) * decay(n, seconds))


def cowbell_struck(rng: Rng) -> Sound:
    seconds = between(rng, 0.08, 0.8)
    n = samples(seconds)
    hz = between(rng, 450, 1100) * np.array(
        [1, rng.uniform(1.4, 1.6), rng.uniform(2.2, 2.7), rng.uniform(3.2, 3.9), rng.uniform(4.5, 6)]
    )
    body = modes(hz, rng.uniform(0.2, 1, 5), seconds * np.array([1, 0.8, 0.5, 0.3, 0.2]), n, phase=rng.uniform(0, 6, 5))
    return peaked(body) + between(rng, 0.05, 0.6) * click(
        rng, n, seconds=between(rng, 0.003, 0.015), low_hz=1000, high_hz=12000
    )


def agogo(rng: Rng) -> Sound:
    seconds = between(rng, 0.1, 0.8)
    n = samples(seconds)
    hz = between(rng, 700, 2200) * np.array([1, rng.uniform(1.9, 2.9), rng.uniform(3.2, 5)])
    body = modes(hz, [1, rng.uniform(0.05, 0.6), rng.uniform(0, 0.4)], seconds * np.array([1, 0.6, 0.4]), n)
    return peaked(body) + rng.uniform(0, 0.3) * click(rng, n, seconds=0.005, low_hz=1500, high_hz=12000)


def clave(rng: Rng) -> Sound:
    """A pure, high, short ping."""
    seconds = between(rng, 0.025, 0.18)
    n = samples(seconds)
    body = sine(between(rng, 1600, 3200), n, phase=rng.uniform(0, 6)) * decay(n, seconds)
    return body + rng.uniform(0, 0.12) * click(rng, n, seconds=0.002, low_hz=1500, high_hz=9000)


def woodblock(rng: Rng) -> Sound:
    seconds = between(rng, 0.04, 0.2)
    n = samples(seconds)
    hz = between(rng, 500, 1900) * np.array([1, rng.uniform(1.5, 2.8), rng.uniform(3, 4.5)])
    body = modes(hz, [1, rng.uniform(0.1, 0.7), rng.uniform(0, 0.4)], seconds * np.array([1, 0.6, 0.4]), n)
    return peaked(body) + rng.uniform(0.02, 0.3) * click(
        rng, n, seconds=between(rng, 0.003, 0.01), low_hz=600, high_hz=6000
    )
