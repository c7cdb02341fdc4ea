"""Notes of known pitch from engines of our own: strings, leads, basses, pads, organs, pianos, bells, plain tones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from training import sustained
from training.clips import SAMPLE_RATE, Clip, Facts, Sound, clip
from training.drums import Rng, click
from training.pieces import (
    between,
    chance,
    decay,
    driven,
    highpass,
    lowpass,
    midi_hz,
    modes,
    peaked,
    rise,
    samples,
    saw,
    sine,
    square,
    times,
    white,
)
from training.production import produced, recorded


@dataclass(frozen=True)
class Engine:
    """A way to make a note of a pitch, the label it is (or "" for none), its share, and its range as MIDI numbers."""

    label: str
    make: Callable[[Rng, float], Sound]
    share: float
    low: float
    high: float

    @property
    def name(self) -> str:
        return self.make.__name__


def played(instrument: AbstractInstrument, pitch: float, *, held_s: float, seconds: float, rng: Rng) -> Sound:
    """One note of an instrument, held for `held_s`."""
    state = instrument.init_state(SAMPLE_RATE, seed=int(rng.integers(1 << 20)))
    off = min(samples(held_s), samples(seconds) - 1)
    events = [Event(0, "on", note=1, pitch=pitch, velocity=float(rng.uniform(0.3, 1))), Event(off, "off", note=1)]
    block, _ = instrument.process(state, events, samples(seconds))
    return block[0].astype(np.float64)


def string(rng: Rng, pitch: float) -> Sound:
    pluck = Pluck(
        {
            "decay_s": between(rng, 0.5, 12),
            "damping": rng.uniform(0, 0.7),
            "pick_position": rng.uniform(0.04, 0.5),
            "brightness": rng.uniform(0.3, 1),
            "noise": rng.uniform(0, 1),
            "body": rng.uniform(0, 1),
            "release_s": between(rng, 0.03, 0.5),
        }
    )
    return played(pluck, pitch, held_s=between(rng, 0.15, 2), seconds=between(rng, 0.4, 2), rng=rng)


def string_bass(rng: Rng, pitch: float) -> Sound:
    pluck = Pluck(
        {
            "decay_s": between(rng, 0.8, 8),
            "damping": rng.uniform(0.2, 0.8),
            "pick_position": rng.uniform(0.06, 0.4),
            "brightness": rng.uniform(0.2, 0.9),
            "body": rng.uniform(0, 0.5),
        }
    )
    sound = played(pluck, pitch, held_s=between(rng, 0.2, 1.5), seconds=between(rng, 0.4, 2), rng=rng)
    return lowpass(sound, between(rng, 500, 6000), order=1)


def lead(rng: Rng, pitch: float) -> Sound:
    synth = Subtractive(
        {
            "osc1_shape": rng.uniform(0.8, 3),
            "osc2_shape": rng.uniform(0.8, 3),
            "osc2_level": rng.uniform(0, 0.5) if chance(rng, 0.6) else 0.0,
            "osc2_semitones": rng.uniform(-0.15, 0.15),
            "pulse_width": rng.uniform(0.1, 0.5),
            "vibrato_hz": rng.uniform(4, 7),
            "vibrato_cents": rng.uniform(0, 40) if chance(rng, 0.4) else 0.0,
            "cutoff_hz": between(rng, 800, 16000),
            "resonance": rng.uniform(0, 0.5),
            "key_tracking": 1.0,
            "filter_env_octaves": rng.uniform(-1, 3),
            "filter_decay_s": between(rng, 0.05, 1),
            "filter_sustain": rng.uniform(0, 1),
            "attack_s": between(rng, 0.001, 0.04),
            "decay_s": between(rng, 0.3, 4),
            "sustain": rng.uniform(0.3, 1),
            "drive_db": rng.uniform(0, 18) if chance(rng, 0.3) else 0.0,
        }
    )
    return played(synth, pitch, held_s=between(rng, 0.12, 1.5), seconds=between(rng, 0.3, 1.8), rng=rng)


def bass(rng: Rng, pitch: float) -> Sound:
    synth = Subtractive(
        {
            "osc1_shape": rng.uniform(0, 3),
            "osc2_shape": rng.uniform(0, 3),
            "osc2_level": rng.uniform(0, 0.4) if chance(rng, 0.5) else 0.0,
            "osc2_semitones": rng.uniform(-0.12, 0.12),
            "pulse_width": rng.uniform(0.15, 0.5),
            "cutoff_hz": between(rng, 120, 2500),
            "resonance": rng.uniform(0, 0.6),
            "key_tracking": rng.uniform(0, 1),
            "filter_env_octaves": rng.uniform(0, 4),
            "filter_decay_s": between(rng, 0.05, 0.8),
            "attack_s": between(rng, 0.0008, 0.015),
            "decay_s": between(rng, 0.3, 3),
            "sustain": rng.uniform(0, 0.8),
            "release_s": between(rng, 0.03, 0.3),
            "drive_db": rng.uniform(0, 24) if chance(rng, 0.4) else 0.0,
        }
    )
    return played(synth, pitch, held_s=between(rng, 0.12, 1.2), seconds=between(rng, 0.3, 1.5), rng=rng)


def bass_fm(rng: Rng, pitch: float) -> Sound:
    n = samples(between(rng, 0.25, 1.5))
    hz = midi_hz(pitch)
    index = between(rng, 0.5, 5) * decay(n, between(rng, 0.1, 1)) + rng.uniform(0, 0.5)
    tone = np.sin(2 * np.pi * hz * times(n) + index * sine(hz * float(rng.choice([1, 2, 3])), n))
    return tone * decay(n, between(rng, 0.4, 3)) * rise(n, 0.003) * _off(rng, n)


def pad(rng: Rng, pitch: float) -> Sound:
    """Several detuned saws or pulses, slow to rise, dark."""
    n = samples(between(rng, 0.7, 2))
    out = np.zeros(n)
    width = between(rng, 0.02, 0.2)
    for _ in range(int(rng.integers(2, 7))):
        hz = midi_hz(pitch + rng.uniform(-width, width)) * (
            1 + 0.002 * rng.uniform(0, 1) * sine(rng.uniform(0.2, 5), n)
        )
        out += (
            saw(hz, n, phase=rng.random())
            if chance(rng, 0.6)
            else square(hz, n, width=rng.uniform(0.2, 0.5), phase=rng.random())
        )
    out = lowpass(out, min(between(rng, 2, 20) * midi_hz(pitch), 14000.0))
    return out * rise(n, between(rng, 0.05, 0.9)) * _off(rng, n)


def organ(rng: Rng, pitch: float) -> Sound:
    """Drawbars: sines at 8', 4', 2 2/3', 2', 1 3/5', 1 1/3', 1'. Without the 16', which leaves its pitch open."""
    n = samples(between(rng, 0.2, 1.8))
    ratios = np.array([1, 2, 3, 4, 5, 6, 8])
    bars = rng.integers(0, 9, 7) * (rng.random(7) < 0.65)
    bars[0] = max(bars[0], 5)
    shake = 1 + (0.004 * sine(rng.uniform(0.7, 7), n) if chance(rng, 0.4) else 0.0)
    hz = midi_hz(pitch)
    out = np.zeros(n)
    for ratio, bar in zip(ratios, bars, strict=True):
        if bar and hz * ratio < 15000:
            out += 10 ** ((bar - 8) * 3 / 20) * sine(hz * ratio * shake, n, phase=rng.uniform(0, 6))
    if chance(rng, 0.3):
        out = driven(out, between(rng, 0.5, 4))
    key = rng.uniform(0, 0.3) * click(rng, n, seconds=0.006, low_hz=800, high_hz=8000)
    return (peaked(out) * rise(n, between(rng, 0.001, 0.03)) + key) * _off(rng, n)


def electric_piano(rng: Rng, pitch: float) -> Sound:
    """Two-operator FM: a body, and a short tine above it."""
    n = samples(between(rng, 0.3, 2))
    hz = midi_hz(pitch)
    seconds = between(rng, 1, 6) * 2 ** ((60 - pitch) / 30)
    index = between(rng, 0.2, 2.5) * decay(n, seconds * between(rng, 0.2, 1))
    body = np.sin(2 * np.pi * hz * times(n) + index * sine(hz, n)) * decay(n, seconds)
    ratio = float(rng.choice([4, 6, 7, 9, 11, 13, 14]))
    if hz * ratio < 12000:
        body += (
            rng.uniform(0, 0.4)
            * np.sin(2 * np.pi * hz * times(n) + rng.uniform(0.2, 1.2) * sine(hz * ratio, n))
            * decay(n, seconds * 0.15)
        )
    shake = 1 + rng.uniform(0, 0.4) * sine(rng.uniform(3, 7), n) if chance(rng, 0.3) else 1.0
    return body * shake * rise(n, 0.002) * _off(rng, n)


def stiff_string(rng: Rng, pitch: float) -> Sound:
    """A struck stiff string (piano): stretched partials, some spared by the hammer, of one to three beating strings."""
    n = samples(between(rng, 0.3, 2))
    hz = midi_hz(pitch)
    k = np.arange(1, max(int(min(14000 / hz, 60)), 1) + 1)
    stiffness = 10 ** (-4.3 + 0.04 * (pitch - 40) + rng.uniform(-0.3, 0.3)) if pitch > 40 else 10**-4.1
    stretched = hz * k * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    place = rng.uniform(0.09, 0.14)
    levels = (
        np.abs(np.sin(np.pi * k * place))
        * k**-0.3
        * np.exp(-stretched / between(rng, 600, 4000))
        * octaves_of(rng, len(k))
    )
    lengths = np.maximum(between(rng, 2, 12) * 2 ** ((50 - pitch) / 18) / (1 + (stretched / 2500) ** 1.2), 0.25)
    out = np.zeros(n)
    for _ in range(int(rng.integers(1, 4))):
        beat = 2 ** (rng.uniform(-1.2, 1.2) / 1200)
        out += modes(
            stretched * beat, levels, lengths * rng.uniform(0.4, 1.3, len(k)), n, phase=rng.uniform(0, 6, len(k))
        )
    thump = click(rng, n, seconds=between(rng, 0.02, 0.1), low_hz=60, high_hz=between(rng, 400, 2500))
    return (peaked(out) * rise(n, 0.002) + rng.uniform(0, 0.15) * thump) * _off(rng, n)


def octaves_of(rng: Rng, count: int) -> Sound:
    """Levels that scatter by some decibels."""
    return 10 ** (rng.normal(0, 4, count) / 20)


def bar(rng: Rng, pitch: float) -> Sound:
    """A struck bar: marimba (1 : 4 : 10), xylophone (1 : 3 : 6) or vibraphone, with its mallet."""
    n = samples(between(rng, 0.2, 2))
    hz = midi_hz(pitch)
    ratios = np.array([[1, 3.93, 9.6, 16], [1, 3.0, 6.1, 11], [1, 4.0, 10.2, 18]][int(rng.integers(3))])
    seconds = between(rng, 0.2, 4) * 2 ** ((60 - pitch) / 24)
    levels = np.array([1, rng.uniform(0.03, 0.6), rng.uniform(0, 0.3), rng.uniform(0, 0.1)])
    body = modes(hz * ratios, levels, seconds * ratios**-1.0, n)
    mallet = click(rng, n, seconds=between(rng, 0.003, 0.02), low_hz=200, high_hz=between(rng, 1000, 8000))
    shake = 1 + rng.uniform(0.1, 0.5) * sine(rng.uniform(3, 8), n) if chance(rng, 0.2) else 1.0
    return peaked(body) * shake + rng.uniform(0, 0.4) * mallet


def bell(rng: Rng, pitch: float) -> Sound:
    """A glockenspiel, celesta or FM bell: a fundamental that lasts, inharmonic partials that do not."""
    n = samples(between(rng, 0.4, 2))
    hz = midi_hz(pitch)
    seconds = between(rng, 0.6, 6)
    if chance(rng, 0.5):
        index = between(rng, 0.3, 3) * decay(n, seconds * between(rng, 0.2, 0.8))
        body = np.sin(
            2 * np.pi * hz * times(n) + index * sine(hz * float(rng.choice([1.4, 2.76, 3.5, 4.0, 5.4])), n)
        ) * decay(n, seconds)
        return (body + 0.5 * sine(hz, n) * decay(n, seconds)) * rise(n, 0.001)
    ratios = np.array([1, 2.756, 5.404, 8.933])
    return modes(
        hz * ratios, [1, rng.uniform(0.1, 0.7), rng.uniform(0, 0.5), rng.uniform(0, 0.2)], seconds / ratios**0.7, n
    )


def plain(rng: Rng, pitch: float) -> Sound:
    """A sine, or any harmonics at all, sometimes without the fundamental: only its pitch is known."""
    n = samples(between(rng, 0.1, 1.5))
    hz = (
        midi_hz(pitch) * 2 ** (rng.uniform(0, 30) / 1200 * sine(rng.uniform(4, 7), n))
        if chance(rng, 0.2)
        else midi_hz(pitch)
    )
    top = max(int(14000 / midi_hz(pitch)), 1)
    count = min(int(between(rng, 1, 40)), top)
    out = np.zeros(n)
    slope = rng.uniform(0, 2)
    for k in range(1, count + 1):
        odd = rng.uniform(0.1, 1)
        out += odd * k**-slope * sine(np.asarray(hz) * k, n, phase=rng.uniform(0, 6))
    if count >= 5 and chance(rng, 0.15):
        out = highpass(out, 1.5 * midi_hz(pitch), order=2)
    fall = decay(n, between(rng, 0.2, 4)) if chance(rng, 0.6) else 1.0
    return out * fall * rise(n, between(rng, 0.001, 0.1)) * _off(rng, n)


def _off(rng: Rng, n: int) -> Sound:
    """The end of the note: a fade of 5 to 150 ms."""
    fade = min(samples(between(rng, 0.005, 0.15)), n)
    return np.minimum((n - np.arange(n)) / fade, 1.0)


ENGINES = (
    Engine("guitar", string, 0.1, 36, 88),
    Engine("bass", string_bass, 0.04, 24, 50),
    Engine("synth lead", lead, 0.11, 36, 96),
    Engine("bass", bass, 0.06, 22, 50),
    Engine("bass", bass_fm, 0.03, 22, 50),
    Engine("synth pad", pad, 0.07, 34, 88),
    Engine("organ", organ, 0.08, 30, 96),
    Engine("keyboard", electric_piano, 0.07, 28, 96),
    Engine("keyboard", stiff_string, 0.12, 21, 108),
    Engine("mallet", bar, 0.06, 45, 100),
    Engine("mallet", bell, 0.05, 55, 108),
    Engine("flute", sustained.flute, 0.03, 55, 96),
    Engine("reed", sustained.reed, 0.03, 36, 88),
    Engine("brass", sustained.brass, 0.03, 34, 84),
    Engine("strings", sustained.bowed, 0.03, 30, 96),
    Engine("voice", sustained.sung, 0.04, 38, 80),
    Engine("", plain, 0.05, 21, 108),
)
GROUPS = 20


def note(engine: Engine, *, number: int, seed: int) -> Clip | None:
    """Note `number` of an engine: a pitch anywhere in its range, sometimes noisy, roomy, or of a narrow band."""
    rng = np.random.default_rng([seed, 3, ENGINES.index(engine), number])
    pitch = float(rng.uniform(engine.low, engine.high))
    sound = engine.make(rng, pitch)
    sound = produced(sound, recorded(rng), rng)
    if chance(rng, 0.3):
        sound = sound + 10 ** (-rng.uniform(10, 40) / 20) * np.sqrt(np.mean(sound**2)) * _coloured(rng, len(sound))
    facts = Facts(engine.label, "engine", f"{engine.name}/{number % GROUPS}", pitch=pitch, tonal=1)
    return clip(sound, facts, lead=int(rng.integers(0, 60)))


def notes_of(engine: Engine, *, numbers: range, seed: int) -> Iterator[Clip]:
    for number in numbers:
        made = note(engine, number=number, seed=seed)
        if made is not None:
            yield made


def counts(total: int) -> dict[Engine, int]:
    return {engine: round(total * engine.share) for engine in ENGINES}


def _coloured(rng: Rng, n: int) -> Sound:
    noise = lowpass(white(rng, n), between(rng, 500, 15000), order=1)
    return noise / np.sqrt(np.mean(noise**2))
