"""What happens to a sound between its maker and a sample pack: converters, memories, filters, tape, rooms, edits."""

from dataclasses import dataclass

import numpy as np
from scipy import signal

from training.clips import SAMPLE_RATE, Sound
from training.pieces import between, chance, decay, driven, highpass, lowpass, peaked, resonance, samples, white


@dataclass(frozen=True)
class Chain:
    """A way of recording and keeping sounds; None: that stage is left out.

    `held_hz` is the rate of a converter without a filter behind it, so that images stay; `gate_s` cuts the end.
    """

    bits: int | None = None
    companded: bool = False
    held_hz: float | None = None
    guard: float | None = None  # the filter before the converter, as a part of its half rate
    drive: float | None = None
    high_cut_hz: float | None = None
    low_cut_hz: float | None = None
    tilt: tuple[float, float] | None = None  # hertz and decibels of one broad band
    room_s: float | None = None
    room_level: float = 0.0
    hiss_db: float | None = None
    gate_s: float | None = None


def machine(rng: np.random.Generator) -> Chain:
    """One of the chains that sounds of drum machines have come through."""
    era = rng.choice(["clean", "sampled", "home", "tape", "room", "produced"], p=[0.3, 0.28, 0.1, 0.12, 0.1, 0.1])
    tilt = (between(rng, 100, 9000), float(rng.uniform(-9, 9))) if chance(rng, 0.5) else None
    if era == "clean":
        return Chain(high_cut_hz=between(rng, 9000, 30000), hiss_db=_hiss(rng, 0.3), tilt=tilt, gate_s=_gate(rng, 0.15))
    if era == "sampled":
        return Chain(
            bits=int(rng.choice([6, 7, 8, 8, 8, 9, 10, 12, 12, 12])),
            companded=chance(rng, 0.4),
            held_hz=between(rng, 12000, 40000),
            guard=between(rng, 0.6, 1.3) if chance(rng, 0.8) else None,
            high_cut_hz=between(rng, 6000, 25000) if chance(rng, 0.7) else None,
            tilt=tilt,
            hiss_db=_hiss(rng, 0.3),
            gate_s=_gate(rng, 0.45),
        )
    if era == "home":
        return Chain(
            bits=int(rng.choice([5, 6, 7, 8, 8])),
            held_hz=between(rng, 7000, 16000),
            guard=between(rng, 0.7, 1.5) if chance(rng, 0.5) else None,
            high_cut_hz=between(rng, 3500, 12000),
            low_cut_hz=between(rng, 30, 200) if chance(rng, 0.5) else None,
            hiss_db=_hiss(rng, 0.5),
            gate_s=_gate(rng, 0.3),
        )
    if era == "tape":
        return Chain(
            drive=between(rng, 0.5, 4),
            high_cut_hz=between(rng, 5000, 15000),
            low_cut_hz=between(rng, 15, 60),
            hiss_db=_hiss(rng, 0.9),
            tilt=tilt,
        )
    if era == "room":
        return Chain(
            room_s=between(rng, 0.1, 1.5), room_level=between(rng, 0.02, 0.4), hiss_db=_hiss(rng, 0.2), tilt=tilt
        )
    return Chain(
        drive=between(rng, 0.8, 6),
        tilt=(between(rng, 60, 9000), float(rng.uniform(-12, 12))),
        room_s=between(rng, 0.05, 0.8) if chance(rng, 0.4) else None,
        room_level=between(rng, 0.02, 0.25),
        low_cut_hz=between(rng, 20, 80),
        gate_s=_gate(rng, 0.2),
    )


def recorded(rng: np.random.Generator) -> Chain:
    """One of the chains that notes come through: a room, an equaliser, a dull or a coarse memory, or nothing."""
    coarse = chance(rng, 0.1)
    return Chain(
        bits=int(rng.integers(8, 13)) if coarse else None,
        held_hz=between(rng, 14000, 32000) if coarse else None,
        guard=0.9,
        room_s=between(rng, 0.15, 1.5) if chance(rng, 0.3) else None,
        room_level=between(rng, 0.02, 0.3),
        high_cut_hz=between(rng, 3000, 14000) if chance(rng, 0.3) else None,
        tilt=(between(rng, 200, 6000), float(rng.uniform(-8, 8))) if chance(rng, 0.3) else None,
    )


def produced(sound: Sound, chain: Chain, rng: np.random.Generator) -> Sound:
    """The sound after the chain, at peak 1, with up to 5 ms of silence or hiss before it."""
    sound = peaked(sound)
    if chain.room_s is not None:
        sound = _in_room(sound, chain.room_s, chain.room_level, rng)
    if chain.drive is not None:
        sound = driven(sound, chain.drive)
    if chain.low_cut_hz is not None:
        sound = highpass(sound, chain.low_cut_hz, order=1)
    if chain.tilt is not None:
        hz, gain_db = chain.tilt
        sound = sound + (10 ** (gain_db / 20) - 1) * resonance(sound, hz, 0.7)
    before = round(rng.uniform(0, 0.005) * SAMPLE_RATE) if chance(rng, 0.3) else 0
    sound = np.pad(sound, (before, 0))
    if chain.hiss_db is not None:
        sound = peaked(sound) + 10 ** (chain.hiss_db / 20) * white(rng, len(sound))
    if chain.held_hz is not None:
        sound = held(sound, chain.held_hz, chain.guard)
    if chain.bits is not None:
        sound = crushed(sound, chain.bits, companded=chain.companded)
    if chain.high_cut_hz is not None:
        sound = lowpass(sound, chain.high_cut_hz, order=2)
    if chain.gate_s is not None:
        sound = gated(sound, chain.gate_s)
    return peaked(sound)


def held(sound: Sound, hz: float, guard: float | None) -> Sound:
    """The sound read at `hz` and held between readings, as by a converter without a filter."""
    if guard is not None:
        sound = lowpass(sound, guard * hz / 2, order=4)
    step = hz / SAMPLE_RATE
    reading = (np.floor(np.arange(len(sound)) * step) / step).astype(int)
    return sound[reading]


def crushed(sound: Sound, bits: int, *, companded: bool) -> Sound:
    """The sound in steps of a converter of so many bits; companded: finer where it is quiet (mu-law)."""
    sound = peaked(sound)
    half = 2.0 ** (bits - 1)
    if not companded:
        return np.round(sound * half) / half
    bent = np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log(256)
    bent = np.round(bent * half) / half
    return np.sign(bent) * np.expm1(np.abs(bent) * np.log(256)) / 255


def gated(sound: Sound, seconds: float) -> Sound:
    """The sound cut after `seconds`, within a millisecond."""
    n, fade = samples(seconds), samples(0.001)
    if n >= len(sound):
        return sound
    sound = sound[:n].copy()
    sound[-fade:] *= np.linspace(1, 0, min(fade, n))
    return sound


def _in_room(sound: Sound, seconds: float, level: float, rng: np.random.Generator) -> Sound:
    n = samples(seconds)
    tail = white(rng, n) * decay(n, seconds)
    tail = lowpass(tail, between(rng, 2000, 12000), order=1)
    early = np.zeros(n)
    early[rng.integers(0, min(n, samples(0.03)), 6)] = rng.uniform(-1, 1, 6) * 3
    answer = tail + early * np.sqrt(np.mean(tail[: samples(0.02)] ** 2))
    answer *= 1 / np.sqrt(np.sum(answer**2))
    delay = samples(between(rng, 0.001, 0.02))
    wet = np.pad(signal.fftconvolve(sound, answer), (delay, 0))
    out = np.pad(sound, (0, len(wet) - len(sound)))
    energy = np.sqrt(np.sum(sound**2) / max(np.sum(wet**2), 1e-12))
    return out + wet * energy * level * 2


def _hiss(rng: np.random.Generator, probability: float) -> float | None:
    return float(rng.uniform(-72, -38)) if chance(rng, probability) else None


def _gate(rng: np.random.Generator, probability: float) -> float | None:
    return between(rng, 0.08, 1.2) if chance(rng, probability) else None
