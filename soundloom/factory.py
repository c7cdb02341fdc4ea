"""The built-in bank: some 300 sounds that Soundloom makes itself, to try everything without recordings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundloom.audio import Waveform, write
from soundloom.instruments.base import AbstractInstrument
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.paths import make_folder
from soundloom.render import render
from soundloom.score import Note, Score, pitch_name

SAMPLE_RATE = 44100
PEAK_DB = -1.0  # of the hardest touch
TRIM = 3e-4  # -70 dB: a sound ends when it has fallen below this
SOFTEST_DB = -15.0  # how much lower a velocity near 0 peaks


@dataclass(frozen=True)
class Layer:
    """One engine within a sound: `pitch` is against the sound's note, `level` within the sound."""

    engine: AbstractInstrument
    pitch: float = 0.0
    level: float = 1.0


@dataclass(frozen=True)
class Kind:
    """A kind of sound: what pitches and velocities it comes in, how long it is held and lasts, how it is made."""

    name: str
    pitches: tuple[int, ...]
    velocities: tuple[int, ...]
    held_s: float
    seconds: float
    layers: Callable[[np.random.Generator, float], list[Layer]]


def make(folder: Path | str, *, seed: int = 0) -> int:
    """Write the bank into a folder and say how many sounds it has: 50 or 51 of each of six kinds, 44.1 kHz, mono.

    Files are `{kind}_{note}_{velocity}.wav`: the note that sounds (of a kick or a snare where its fall comes to rest,
    of a hat the lowest of its metal), the velocity from 1 to 127. The same seed gives the same bank.
    """
    folder = make_folder(folder)
    count = 0
    for number, kind in enumerate(KINDS):
        for pitch in kind.pitches:
            # One instrument a note: its velocities are the same instrument, touched differently.
            layers = kind.layers(np.random.default_rng((seed, number, pitch)), pitch)
            for velocity in kind.velocities:
                noise = int(np.random.default_rng((seed, number, pitch, velocity)).integers(1 << 31))
                samples = _sound(kind, layers, pitch, velocity, seed=noise)
                write(folder / f"{kind.name}_{pitch_name(pitch)}_{velocity:03d}.wav", Waveform(samples, SAMPLE_RATE))
                count += 1
    return count


def _sound(kind: Kind, layers: list[Layer], pitch: int, velocity: int, *, seed: int) -> NDArray[np.float32]:
    """One sound [1, T]: its layers rendered together, cut to length with a fade, its peak following the velocity."""
    loudness = velocity / 127
    total = np.zeros((1, round(kind.seconds * SAMPLE_RATE)), dtype=np.float32)
    for index, layer in enumerate(layers):
        score = Score((Note(0.0, kind.held_s, pitch + layer.pitch, loudness),))
        sound = render(score, {0: layer.engine}, sample_rate=SAMPLE_RATE, seed=seed + 1000 * index)
        part = sound.samples.mean(axis=0, keepdims=True)
        length = min(part.shape[1], total.shape[1])
        total[:, :length] += np.float32(layer.level) * part[:, :length]
    top = np.abs(total).max()
    total = total[:, : np.flatnonzero(np.abs(total) > TRIM * top)[-1] + 1]
    fade = round(0.08 * total.shape[1])
    total[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32) ** 2
    peak = 10 ** ((PEAK_DB + SOFTEST_DB * (1 - loudness)) / 20)
    return total * np.float32(peak / top)


def _pluck(rng: np.random.Generator, pitch: float) -> list[Layer]:
    """From nylon to steel to a koto."""
    string = {
        "decay_s": rng.uniform(2.0, 5.0),
        "damping": rng.uniform(0.1, 0.45),
        "pick_position": rng.uniform(0.07, 0.35),
        "brightness": rng.uniform(0.5, 0.95),
        "velocity_brightness": 0.6,
        "noise": rng.uniform(0.1, 0.5),
        "body": rng.uniform(0.1, 0.6),
    }
    return [Layer(Pluck(string))]


def _bass(rng: np.random.Generator, pitch: float) -> list[Layer]:
    """A synthesiser bass: a filter that closes behind the attack, over a sine an octave below or at the note."""
    synth = {
        "osc1_shape": rng.uniform(1.6, 3.0),
        "osc2_shape": rng.uniform(1.6, 3.0),
        "osc2_level": rng.uniform(0.0, 0.5),
        "osc2_semitones": rng.uniform(0.04, 0.12),
        "pulse_width": rng.uniform(0.25, 0.5),
        "cutoff_hz": rng.uniform(180, 600),
        "resonance": rng.uniform(0.1, 0.5),
        "key_tracking": 0.5,
        "velocity_octaves": 1.5,
        "filter_env_octaves": rng.uniform(2.0, 4.0),
        "filter_decay_s": rng.uniform(0.5, 2.5),
        "filter_sustain": rng.uniform(0.0, 0.25),
        "attack_s": 0.002,
        "decay_s": rng.uniform(1.5, 4.0),
        "sustain": 0.4,
        "release_s": 0.15,
        "drive_db": rng.uniform(0.1, 9.0),
    }
    sub = {"osc1_shape": 0.0, "attack_s": 0.004, "decay_s": 3.0, "sustain": 0.5, "release_s": 0.15}
    return [Layer(Subtractive(synth)), Layer(Subtractive(sub), level=rng.uniform(0.2, 0.5))]


def _pad(rng: np.random.Generator, pitch: float) -> list[Layer]:
    """Detuned pairs that swell, their filter opening slowly. High ones beat little faster than low ones."""
    hz = 440 * 2 ** ((pitch - 69) / 12)
    beats_hz = rng.uniform(0.5, 1.1) * (hz / 260) ** 0.4
    synth = {
        "osc1_shape": rng.uniform(1.0, 3.0),
        "osc2_shape": rng.uniform(1.0, 3.0),
        "osc2_level": rng.uniform(0.12, 0.25),  # less than the first: their beating never cancels
        "osc2_semitones": 12 * float(np.log2(1 + beats_hz / hz)),
        "pulse_width": rng.uniform(0.2, 0.5),
        "vibrato_hz": rng.uniform(3.5, 5.5),
        "vibrato_cents": rng.uniform(0, 8),
        "cutoff_hz": rng.uniform(350, 1200),
        "resonance": rng.uniform(0.0, 0.25),
        "key_tracking": 0.6,
        "velocity_octaves": 1.5,
        "filter_env_octaves": rng.uniform(1.0, 2.5),
        "filter_attack_s": rng.uniform(0.4, 1.5),
        "filter_decay_s": 4.0,
        "filter_sustain": 0.3,
        "attack_s": rng.uniform(0.15, 0.6),
        "decay_s": 4.0,
        "sustain": 0.8,
        "release_s": 1.6,
    }
    wide = synth | {"osc2_semitones": -synth["osc2_semitones"] * 1.3, "osc1_level": 0.25, "osc2_level": 0.15}
    octave = float(rng.choice([0.0, 12.0]))  # never below: the note in the name is the pitch that sounds
    return [Layer(Subtractive(synth)), Layer(Subtractive(wide), pitch=octave, level=rng.uniform(0.2, 0.4))]


def _kick(rng: np.random.Generator, pitch: float) -> list[Layer]:
    """A falling sine, driven, with the click of the beater."""
    body = {
        "osc1_shape": rng.uniform(0.0, 0.4),
        "osc1_level": 0.9,
        "pitch_env_semitones": rng.uniform(18, 36),
        "pitch_env_s": rng.uniform(0.012, 0.045),
        "attack_s": 0.0008,
        "decay_s": rng.uniform(0.3, 1.0),
        "sustain": 0.0,
        "release_s": 0.6,
        "drive_db": rng.uniform(0.1, 10.0),
    }
    click = {
        "osc1_level": 0.0,
        "noise_level": 1.0,
        "filter_shape": 1.0,
        "cutoff_hz": rng.uniform(1800, 5000),
        "velocity_octaves": 2.0,
        "attack_s": 0.0005,
        "decay_s": rng.uniform(0.01, 0.03),
        "sustain": 0.0,
    }
    return [Layer(Subtractive(body)), Layer(Subtractive(click), level=rng.uniform(0.1, 0.6))]


def _snare(rng: np.random.Generator, pitch: float) -> list[Layer]:
    """Two modes of the skin, and the wires under it."""
    skin = {
        "osc1_shape": 0.3,
        "osc2_shape": 0.0,
        "osc2_level": rng.uniform(0.15, 0.4),
        "osc2_semitones": rng.uniform(7.0, 9.5),
        "pitch_env_semitones": rng.uniform(4, 12),
        "pitch_env_s": rng.uniform(0.008, 0.02),
        "attack_s": 0.0006,
        "decay_s": rng.uniform(0.12, 0.3),
        "sustain": 0.0,
        "release_s": 0.2,
        "drive_db": rng.uniform(0.1, 6.0),
    }
    wires = {
        "osc1_level": 0.0,
        "noise_level": 1.0,
        "filter_shape": rng.uniform(1.0, 1.8),
        "cutoff_hz": rng.uniform(1600, 4500),
        "velocity_octaves": 1.0,
        "attack_s": 0.001,
        "decay_s": rng.uniform(0.15, 0.5),
        "sustain": 0.0,
        "release_s": 0.3,
    }
    return [Layer(Subtractive(skin)), Layer(Subtractive(wires), level=rng.uniform(0.6, 1.6))]


def _hat(rng: np.random.Generator, pitch: float) -> list[Layer]:
    """Six square waves in no harmonic relation, as in the drum machines of 1980, and noise, without their lows."""
    decay_s = float(np.exp(rng.uniform(np.log(0.07), np.log(1.6))))
    metal = {
        "osc1_shape": 3.0,
        "osc2_shape": 3.0,
        "osc2_level": 0.5,
        "filter_shape": 2.0,
        "cutoff_hz": rng.uniform(6000, 9500),
        "resonance": rng.uniform(0.0, 0.2),
        "velocity_octaves": 0.7,
        "attack_s": 0.0005,
        "decay_s": decay_s,
        "sustain": 0.0,
        "release_s": decay_s,
    }
    hiss = metal | {"osc1_level": 0.0, "osc2_level": 0.0, "noise_level": 0.7}
    ratios = (1.0, 1.342, 1.231, 1.652, 1.953, 2.152)
    layers = []
    for low, high in zip(ratios[::2], ratios[1::2], strict=True):
        between = 12 * np.log2(high / low)
        above = float(12 * np.log2(low) + rng.uniform(-0.5, 0.5) * (low > 1))
        layers.append(Layer(Subtractive(metal | {"osc2_semitones": float(between)}), pitch=above))
    return [*layers, Layer(Subtractive(hiss), level=rng.uniform(0.3, 1.2))]


KINDS = (
    Kind("pluck", tuple(range(40, 90, 2)), (64, 112), 1.8, 2.2, _pluck),
    Kind("bass", tuple(range(24, 49)), (64, 112), 0.9, 1.2, _bass),
    Kind("pad", tuple(range(36, 86, 2)), (64, 112), 1.6, 2.8, _pad),
    Kind("kick", tuple(range(24, 41)), (48, 88, 127), 0.8, 0.8, _kick),
    Kind("snare", tuple(range(48, 65)), (48, 88, 127), 0.4, 0.6, _snare),
    Kind("hat", tuple(range(50, 67)), (48, 88, 127), 1.2, 1.2, _hat),
)
