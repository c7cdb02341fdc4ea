"""Drums with a skin or a shell, and claps, as drum machines and rooms make them: kicks, snares, rims, toms, congas.

A recipe draws all its numbers anew for every sound. The circuits are those of the analogue drum machines (a bridged-T
network that rings when struck, swept oscillators, filtered noise); the skins are modes of a circular membrane
(ratios of Bessel zeros; Fletcher and Rossing, The Physics of Musical Instruments, 1998).
"""

import numpy as np

from training.clips import Sound
from training.pieces import (
    bandpass,
    between,
    chance,
    decay,
    driven,
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
    times,
    white,
)

MEMBRANE = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501, 3.6, 3.652, 4.06, 4.154])

Rng = np.random.Generator


def swept(rng: Rng, n: int, *, hz: float, bend: float, bend_s: float, seconds: float) -> Sound:
    """A sine that starts `bend` times as high as `hz` and settles there in about `bend_s`, dying away."""
    return sine(hz * (1 + (bend - 1) * np.exp(-times(n) / bend_s)), n, phase=rng.uniform(0, 1.6)) * decay(n, seconds)


def click(rng: Rng, n: int, *, seconds: float, low_hz: float, high_hz: float) -> Sound:
    """A burst of noise within a band, at peak 1."""
    return peaked(bandpass(white(rng, n), low_hz, high_hz) * decay(n, seconds))


def skin(rng: Rng, n: int, *, hz: float, seconds: float, bend: float = 1.0) -> Sound:
    """A struck membrane: its modes, the higher ones shorter, somewhat detuned; struck somewhere off the middle.

    A second head or a kettle pulls the modes towards 1 : 1.5 : 2 : 2.5; some of the skins have that.
    """
    ideal = 1 + 0.5 * np.arange(len(MEMBRANE)) if chance(rng, 0.35) else MEMBRANE
    ratios = ideal * rng.uniform(0.97, 1.03, len(MEMBRANE))
    ratios[0] = 1.0
    levels = ratios ** -rng.uniform(0.6, 4) * rng.uniform(0.1, 1, len(ratios))
    levels[0] = 1.0
    lengths = seconds * ratios ** -rng.uniform(0.5, 1.8) * rng.uniform(0.5, 1.2, len(ratios))
    if bend == 1.0:
        return modes(hz * ratios, levels, lengths, n, phase=rng.uniform(0, 6, len(ratios)))
    out = np.zeros(n)
    fall = 1 + (bend - 1) * np.exp(-times(n) / between(rng, 0.01, 0.08))
    for ratio, level, length in zip(ratios[:5], levels, lengths, strict=False):
        out += level * sine(hz * ratio * fall, n, phase=rng.uniform(0, 6)) * decay(n, length)
    return out


def kick_bridged(rng: Rng) -> Sound:
    seconds = between(rng, 0.15, 1.8)
    n = samples(min(seconds, 1.6))
    body = swept(
        rng, n, hz=between(rng, 38, 85), bend=between(rng, 1.0, 3), bend_s=between(rng, 0.003, 0.015), seconds=seconds
    )
    tick = click(rng, n, seconds=between(rng, 0.002, 0.01), low_hz=60, high_hz=between(rng, 400, 4000))
    body = body + rng.uniform(0, 0.6) * tick
    return driven(body, between(rng, 0.5, 5)) if chance(rng, 0.4) else body


def kick_swept(rng: Rng) -> Sound:
    seconds = between(rng, 0.12, 0.9)
    n = samples(seconds)
    body = swept(
        rng, n, hz=between(rng, 35, 75), bend=between(rng, 2.5, 12), bend_s=between(rng, 0.006, 0.06), seconds=seconds
    )
    body = driven(body, between(rng, 0.3, 20))
    tick = click(
        rng, n, seconds=between(rng, 0.002, 0.02), low_hz=between(rng, 200, 2000), high_hz=between(rng, 3000, 14000)
    )
    return body + rng.uniform(0, 0.7) * tick


def kick_preset(rng: Rng) -> Sound:
    seconds = between(rng, 0.09, 0.45)
    n = samples(seconds)
    body = swept(
        rng, n, hz=between(rng, 50, 125), bend=between(rng, 1.0, 1.6), bend_s=between(rng, 0.004, 0.03), seconds=seconds
    )
    if chance(rng, 0.4):
        body = highpass(body, between(rng, 30, 90), order=1)
    return body + rng.uniform(0, 0.35) * click(
        rng, n, seconds=between(rng, 0.002, 0.008), low_hz=100, high_hz=between(rng, 500, 5000)
    )


def kick_skin(rng: Rng) -> Sound:
    seconds = between(rng, 0.12, 0.8)
    n = samples(seconds)
    body = peaked(skin(rng, n, hz=between(rng, 42, 95), seconds=seconds, bend=between(rng, 1.0, 1.8)))
    beater = click(
        rng, n, seconds=between(rng, 0.004, 0.03), low_hz=between(rng, 300, 3000), high_hz=between(rng, 2500, 9000)
    )
    shell = peaked(lowpass(white(rng, n), between(rng, 100, 900)) * decay(n, between(rng, 0.04, 0.3)))
    return body + between(rng, 0.05, 0.9) * beater + between(rng, 0.02, 0.4) * shell


def kick_home(rng: Rng) -> Sound:
    """Of a small keyboard: a few periods of a low tone and a thud of noise."""
    seconds = between(rng, 0.04, 0.2)
    n = samples(seconds)
    hz = between(rng, 55, 140) * (1 + between(rng, 0.05, 2) * np.exp(-times(n) / between(rng, 0.005, 0.05)))
    body = square(hz, n) if chance(rng, 0.4) else sine(hz, n)
    body = lowpass(body * decay(n, seconds), between(rng, 200, 1500), order=1)
    thud = lowpass(steps_noise(rng, n, between(rng, 2000, 16000)), between(rng, 150, 700)) * decay(n, seconds * 0.5)
    return peaked(body) + rng.uniform(0, 0.7) * peaked(thud)


def _wires(rng: Rng, n: int, seconds: float) -> Sound:
    """Snare wires: noise, and how it dies in two steps."""
    wires = white(rng, n) if chance(rng, 0.8) else steps_noise(rng, n, between(rng, 6000, 30000))
    wires = highpass(wires, between(rng, 300, 4500), order=int(rng.integers(1, 3)))
    wires = lowpass(wires, between(rng, 4000, 20000), order=1)
    quick = rng.uniform(0, 0.7)
    return peaked(wires * (quick * decay(n, seconds * 0.3) + (1 - quick) * decay(n, seconds)))


def snare_analogue(rng: Rng) -> Sound:
    seconds = between(rng, 0.12, 0.7)
    n = samples(seconds)
    low, ratio = between(rng, 130, 260), between(rng, 1.4, 2.2)
    tone = modes([low, low * ratio], [1, rng.uniform(0.2, 1.2)], [between(rng, 0.06, 0.4), between(rng, 0.03, 0.25)], n)
    return peaked(tone) * between(rng, 0.15, 1.0) + _wires(rng, n, seconds) * between(rng, 0.4, 1.2)


def snare_swept(rng: Rng) -> Sound:
    seconds = between(rng, 0.12, 0.6)
    n = samples(seconds)
    hz, bend = between(rng, 140, 260), between(rng, 1.2, 3)
    tone = swept(rng, n, hz=hz, bend=bend, bend_s=between(rng, 0.005, 0.03), seconds=between(rng, 0.05, 0.25))
    tone += swept(rng, n, hz=hz * between(rng, 1.4, 2), bend=bend, bend_s=0.01, seconds=between(rng, 0.04, 0.2))
    return driven(peaked(tone) * between(rng, 0.2, 1.0) + _wires(rng, n, seconds), between(rng, 0.3, 3))


def snare_preset(rng: Rng) -> Sound:
    seconds = between(rng, 0.08, 0.45)
    n = samples(seconds)
    noise = bandpass(white(rng, n), between(rng, 700, 4000), between(rng, 4500, 15000)) * decay(n, seconds)
    tone = sine(between(rng, 150, 400), n) * decay(n, between(rng, 0.02, 0.1))
    return peaked(noise) + rng.uniform(0, 0.5) * tone


def snare_skin(rng: Rng) -> Sound:
    seconds = between(rng, 0.1, 0.6)
    n = samples(seconds)
    body = peaked(
        skin(rng, n, hz=between(rng, 140, 330), seconds=between(rng, 0.06, 0.35), bend=between(rng, 1.0, 1.25))
    )
    stick = click(
        rng, n, seconds=between(rng, 0.003, 0.015), low_hz=between(rng, 800, 3000), high_hz=between(rng, 5000, 14000)
    )
    wires = _wires(rng, n, seconds)
    for _ in range(int(rng.integers(1, 4))):
        wires = wires + rng.uniform(0, 0.6) * resonance(wires, between(rng, 400, 7000), between(rng, 1, 6))
    wires = peaked(wires * rise(n, between(rng, 0.0005, 0.006)))
    return body * between(rng, 0.2, 1.0) + between(rng, 0.1, 0.7) * stick + wires * between(rng, 0.3, 1.1)


def snare_gated(rng: Rng) -> Sound:
    """Of the decade's big rooms: a tail that stays up and is shut off."""
    open_s = between(rng, 0.1, 0.4)
    n = samples(open_s + 0.03)
    sound = snare_skin(rng) if chance(rng, 0.5) else snare_analogue(rng)
    sound = np.pad(sound, (0, max(n - len(sound), 0)))[:n]
    tail = lowpass(highpass(white(rng, n), between(rng, 150, 1500), order=1), between(rng, 3000, 12000), order=1)
    tail = peaked(tail) * decay(n, between(rng, 0.5, 3)) * rise(n, 0.01)
    shut = np.clip((open_s - times(n)) / between(rng, 0.003, 0.03) + 1, 0, 1)
    return (peaked(sound) + between(rng, 0.15, 0.6) * tail) * shut


def snare_brush(rng: Rng) -> Sound:
    seconds = between(rng, 0.1, 0.4)
    n = samples(seconds)
    noise = bandpass(white(rng, n), between(rng, 250, 900), between(rng, 3000, 9000)) * decay(n, seconds)
    body = peaked(skin(rng, n, hz=between(rng, 150, 260), seconds=0.12))
    return peaked(noise * rise(n, between(rng, 0.002, 0.015))) + rng.uniform(0.05, 0.4) * body


def rim_rung(rng: Rng) -> Sound:
    """Two short resonances, driven and thinned: the analogue rim shot."""
    n = samples(0.12)
    low = between(rng, 380, 950)
    high = between(rng, 1300, 2800)
    short = between(rng, 0.015, 0.09)
    body = modes([low, high], [1, between(rng, 0.4, 2)], [short * between(rng, 0.7, 2), short], n, phase=1.57)
    body = driven(body, between(rng, 1, 10)) if chance(rng, 0.6) else peaked(body)
    body = body * decay(n, between(rng, 0.03, 0.2))
    return highpass(body, between(rng, 200, 900), order=2) + rng.uniform(0, 0.3) * click(
        rng, n, seconds=0.004, low_hz=1000, high_hz=12000
    )


def rim_ping(rng: Rng) -> Sound:
    n = samples(0.15)
    ping = sine(between(rng, 700, 2000), n) * decay(n, between(rng, 0.025, 0.1))
    tick = click(
        rng, n, seconds=between(rng, 0.002, 0.02), low_hz=between(rng, 800, 3000), high_hz=between(rng, 4000, 15000)
    )
    return ping + between(rng, 0.3, 1.5) * tick


def rim_stick(rng: Rng) -> Sound:
    """The stick laid across the drum: wood on the hoop, a shell that answers."""
    n = samples(between(rng, 0.1, 0.5))
    hz = np.array(
        [
            between(rng, 300, 550),
            between(rng, 700, 1300),
            between(rng, 1500, 2700),
            between(rng, 2800, 5000),
            between(rng, 4500, 9000),
        ]
    )
    short = between(rng, 0.03, 0.2)
    body = modes(
        hz,
        rng.uniform(0.1, 1, 5),
        short * (hz / 1000) ** -rng.uniform(0.1, 0.8) * rng.uniform(0.6, 1.4, 5),
        n,
        phase=rng.uniform(0, 6, 5),
    )
    wood = click(
        rng, n, seconds=between(rng, 0.003, 0.06), low_hz=between(rng, 500, 2000), high_hz=between(rng, 4000, 15000)
    )
    rattle = click(rng, n, seconds=between(rng, 0.05, 0.4), low_hz=between(rng, 800, 2500), high_hz=9000)
    return peaked(body) + between(rng, 0.1, 0.8) * wood + rng.uniform(0, 0.2) * rattle


def rim_dry(rng: Rng) -> Sound:
    """Hardly more than a click through one resonance."""
    n = samples(0.08)
    tick = np.zeros(n)
    tick[: int(rng.integers(2, 30))] = 1.0
    rung = resonance(tick, between(rng, 500, 2500), between(rng, 4, 25))
    return peaked(rung) + rng.uniform(0, 0.6) * click(
        rng, n, seconds=between(rng, 0.004, 0.015), low_hz=1500, high_hz=10000
    )


def clap_analogue(rng: Rng) -> Sound:
    """Three or four bursts of one noise, then its tail."""
    tail_s = between(rng, 0.08, 0.6)
    gap, bursts = between(rng, 0.006, 0.016), int(rng.integers(2, 6))
    n = samples(gap * bursts + tail_s)
    t = times(n)
    level = np.zeros(n)
    fall = between(rng, 0.004, 0.02)
    for burst in range(bursts):
        start = burst * gap * rng.uniform(0.9, 1.1)
        level = np.maximum(level, np.where(t >= start, np.exp(-(t - start) / fall * 2.3), 0) * rng.uniform(0.7, 1))
    start = (bursts - 1) * gap
    level = level + np.where(t >= start, np.exp(-np.maximum(t - start, 0) * 6.9 / tail_s), 0) * between(rng, 0.15, 0.9)
    noise = white(rng, n)
    body = resonance(noise, between(rng, 750, 1800), between(rng, 0.8, 5))
    air = bandpass(noise, between(rng, 400, 1500), between(rng, 3000, 14000))
    return (peaked(body) + rng.uniform(0, 0.5) * peaked(air)) * level


def clap_hands(rng: Rng) -> Sound:
    """Several pairs of hands in a room."""
    tail_s = between(rng, 0.06, 0.5)
    spread = between(rng, 0.003, 0.035)
    n = samples(spread + tail_s + 0.02)
    out = np.zeros(n)
    for _ in range(int(rng.integers(2, 14))):
        burst_n = samples(between(rng, 0.008, 0.04))
        burst = resonance(white(rng, burst_n), between(rng, 700, 2800), between(rng, 0.7, 4)) * decay(
            burst_n, burst_n / 32000
        )
        burst += rng.uniform(0, 0.3) * highpass(white(rng, burst_n), 2500, order=1) * decay(burst_n, 0.006)
        at = int(rng.random() * spread * 32000)
        out[at : at + burst_n] += peaked(burst)[: n - at] * rng.uniform(0.4, 1)
    room = (
        bandpass(white(rng, n), between(rng, 300, 900), between(rng, 2000, 7000)) * decay(n, tail_s) * rise(n, spread)
    )
    return peaked(out) + between(rng, 0.05, 0.6) * peaked(room)


def clap_single(rng: Rng) -> Sound:
    """One burst, as cheap machines have it."""
    seconds = between(rng, 0.06, 0.35)
    n = samples(seconds)
    body = resonance(white(rng, n), between(rng, 800, 1900), between(rng, 1, 4)) * decay(n, seconds)
    air = bandpass(white(rng, n), 900, between(rng, 3000, 12000)) * decay(n, seconds * 0.5)
    return peaked(body * rise(n, between(rng, 0.0003, 0.004))) + rng.uniform(0, 0.6) * peaked(air)


def tom_bridged(rng: Rng) -> Sound:
    seconds = between(rng, 0.2, 1.6)
    n = samples(seconds)
    hz = between(rng, 65, 260)
    body = swept(rng, n, hz=hz, bend=between(rng, 1.0, 1.5), bend_s=between(rng, 0.02, 0.15), seconds=seconds)
    noise = lowpass(white(rng, n), between(rng, 300, 3000)) * decay(n, seconds * between(rng, 0.3, 1))
    return (
        body
        + rng.uniform(0, 0.3) * peaked(noise)
        + rng.uniform(0, 0.15) * click(rng, n, seconds=0.006, low_hz=200, high_hz=4000)
    )


def tom_swept(rng: Rng) -> Sound:
    """The electronic tom: it falls far."""
    seconds = between(rng, 0.2, 1.6)
    n = samples(seconds)
    hz = between(rng, 55, 240)
    body = swept(rng, n, hz=hz, bend=between(rng, 1.3, 4), bend_s=between(rng, 0.03, 0.3), seconds=seconds)
    if chance(rng, 0.3):
        body = driven(body, between(rng, 0.5, 4))
    noise = bandpass(white(rng, n), between(rng, 100, 1500), between(rng, 2000, 10000)) * decay(
        n, between(rng, 0.02, 0.3)
    )
    return peaked(body) + rng.uniform(0, 0.6) * peaked(noise)


def tom_skin(rng: Rng) -> Sound:
    seconds = between(rng, 0.3, 2.2)
    n = samples(min(seconds, 1.6))
    body = peaked(skin(rng, n, hz=between(rng, 48, 250), seconds=seconds, bend=between(rng, 1.0, 1.3)))
    stick = click(
        rng, n, seconds=between(rng, 0.004, 0.05), low_hz=between(rng, 200, 1500), high_hz=between(rng, 2000, 9000)
    )
    wires = highpass(white(rng, n), 2000) * decay(n, between(rng, 0.1, 0.4))
    return body + between(rng, 0.05, 0.6) * stick + rng.uniform(0, 0.06) * peaked(wires)


def tom_home(rng: Rng) -> Sound:
    seconds = between(rng, 0.12, 0.5)
    n = samples(seconds)
    hz = between(rng, 80, 300) * np.exp(-times(n) / between(rng, 0.2, 3))
    wave = square(hz, n) if chance(rng, 0.25) else sine(hz, n)
    return lowpass(wave * decay(n, seconds), between(rng, 400, 4000), order=1) + rng.uniform(0, 0.2) * click(
        rng, n, seconds=0.02, low_hz=200, high_hz=5000
    )


def hand_tone(rng: Rng) -> Sound:
    """An open tone of a conga or a bongo."""
    seconds = between(rng, 0.12, 0.8)
    n = samples(seconds)
    hz = between(rng, 150, 950)
    body = peaked(skin(rng, n, hz=hz, seconds=seconds, bend=between(rng, 1.0, 1.1)))
    palm = click(
        rng, n, seconds=between(rng, 0.003, 0.025), low_hz=between(rng, 500, 2000), high_hz=between(rng, 2500, 9000)
    )
    return body + between(rng, 0.05, 0.6) * palm


def hand_analogue(rng: Rng) -> Sound:
    """A bridged-T conga or bongo: a pure tone, higher and shorter than a tom."""
    seconds = between(rng, 0.06, 0.4)
    n = samples(seconds)
    hz = between(rng, 190, 700)
    body = swept(rng, n, hz=hz, bend=between(rng, 1.0, 1.15), bend_s=between(rng, 0.005, 0.05), seconds=seconds)
    return body + rng.uniform(0, 0.25) * click(rng, n, seconds=0.005, low_hz=400, high_hz=between(rng, 1500, 6000))


def hand_slap(rng: Rng) -> Sound:
    n = samples(between(rng, 0.06, 0.3))
    body = peaked(skin(rng, n, hz=between(rng, 180, 800), seconds=between(rng, 0.03, 0.15)))
    slap = bandpass(white(rng, n), between(rng, 500, 1500), between(rng, 2500, 9000)) * decay(
        n, between(rng, 0.02, 0.12)
    )
    ring = modes([between(rng, 700, 1200), between(rng, 1300, 2600)], [1, 0.6], between(rng, 0.02, 0.08), n)
    return body * between(rng, 0.2, 1) + peaked(slap) * between(rng, 0.3, 1) + rng.uniform(0, 0.5) * peaked(ring)


def hand_loaded(rng: Rng) -> Sound:
    """A drum whose skin is loaded in its middle (tabla and kin): nearly harmonic, sometimes gliding."""
    seconds = between(rng, 0.15, 0.9)
    n = samples(seconds)
    hz = between(rng, 80, 420) * (1 + rng.uniform(-0.25, 0.3) * (1 - np.exp(-times(n) / between(rng, 0.05, 0.3))))
    out = np.zeros(n)
    for k in range(1, 6):
        level = rng.uniform(0.1, 1) / k**0.7
        out += level * sine(hz * k * rng.uniform(0.99, 1.01), n, phase=rng.uniform(0, 6)) * decay(n, seconds / k**0.6)
    return peaked(out) + between(rng, 0.05, 0.5) * click(
        rng, n, seconds=between(rng, 0.004, 0.02), low_hz=800, high_hz=7000
    )
