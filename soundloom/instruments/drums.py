"""A drum kit that is worked out, not recorded: tones, modes and noise, struck by the keys of General MIDI."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.drumkernels import MODES, ROW, TICK, finish, render, strike
from soundloom.instruments.drumkit import Drum, drum_of
from soundloom.instruments.plates import bank
from soundloom.instruments.voices import AbstractPolyphonic, Voices, white

HIGHEST = 0.45  # of the sample rate: modes above it are left out
TURN_HZ = 1500.0  # where the kit's tone turns


def _family(name: str, what: str) -> tuple[Param, Param]:
    return (
        Param(f"{name}_tune", "semitones", -12, 12, 0, help=f"how high {what} sound"),
        Param(f"{name}_decay", "", 0.1, 5, 1, "log", f"how many times as long {what} sound"),
    )


class Drums(AbstractPolyphonic):
    """Kicks, snares, hats, cymbals, toms and hand percussion on the keys 35 to 81.

    >>> kit = Drums({"kick_tune": -2, "metal": 0.8})
    >>> state = kit.init_state(44100)
    >>> block, state = kit.process(state, [Event(0, "on", note=1, pitch=36)], 512)
    >>> block.shape
    (2, 512)

    A drum rings as long as it does, whenever its key is let go; closing the hat ends what rings of the open one. Each
    hit is a little different. Tune and decay are those of the next hit; level, tone and drive move at once.
    """

    params = (
        *_family("kick", "the kicks"),
        Param("kick_click", "", 0, 2, 1, help="how much of the beater is heard"),
        Param("kick_sweep", "", 0, 2, 1, help="how far the pitch of the kicks falls: 1 is usual, 0 not at all"),
        *_family("snare", "the snares, the side stick and the clap"),
        Param("snare_noise", "", 0, 2, 1, help="how loud the wires of the snares are, and the noise of the others"),
        *_family("tom", "the toms"),
        *_family("hat", "the hats"),
        *_family("cymbal", "the cymbals"),
        Param("metal", "", 0, 1, 0.25, help="hats and cymbals: 0 beaten bronze, 1 the square waves of a drum machine"),
        *_family("percussion", "the bells, woods, shakers and hand drums"),
        Param("velocity_brightness", "", 0, 1, 0.5, help="how much duller a soft touch is"),
        Param("humanise", "", 0, 1, 0.4, help="how much one hit differs from the next"),
        Param("tone", "", -1, 1, 0, help="the kit darker or brighter"),
        Param("drive_db", "dB", 0, 24, 2, help="how hard the kit is driven: denser, and its peaks rounder"),
        Param("width", "", 0, 1, 0.7, help="how wide the kit stands"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    channels = 2
    row = ROW

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        """What `finish` goes to, and how fast."""
        drive = 10 ** (values["drive_db"] / 20)
        return np.array(
            [
                10 ** (-3 * values["tone"] / 20),
                10 ** (7 * values["tone"] / 20),
                drive - 1,
                10 ** (values["gain_db"] / 20) * math.sqrt(drive),
                1 - math.exp(-2 * math.pi * TURN_HZ / sample_rate),
            ]
        )

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.concatenate([[0.0, 0.0], derived[:4]])

    def _memory_samples(self, sample_rate: int) -> int:
        return 6 * MODES

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs, drum = state.rows[slot], state.values, drum_of(event.pitch)
        loose = [knobs["humanise"] * white(row["key"], -1 - i) for i in range(3)]
        tune = 2 ** ((knobs[f"{drum.family}_tune"] + 0.2 * loose[0]) / 12)
        longer = knobs[f"{drum.family}_decay"] * math.exp(0.1 * loose[1])
        dull = 3 * knobs["velocity_brightness"] * (1 - event.velocity)  # octaves
        gain = drum.gain * event.velocity**2 * 10 ** (loose[2] / 20)
        angle = math.pi / 4 * (1 + drum.pan * knobs["width"])
        row["group"] = drum.group
        row["left"], row["right"] = (math.sqrt(2) * gain * side for side in (math.cos(angle), math.sin(angle)))
        row["spread"] = drum.spread * knobs["width"]
        row["bent"], row["ratio"] = state.bend, 2 ** (state.bend / 12)
        loudness = {"kick": knobs["kick_click"], "snare": knobs["snare_noise"]}.get(drum.family, 1.0)  # of the noise
        sweep = knobs["kick_sweep"] if drum.family == "kick" else 1.0
        lasts = [
            _tones(row, drum, tune, longer, sweep, dull, state.sample_rate),
            _noises(row, drum, tune, longer, loudness, dull, state.sample_rate),
        ]
        if drum.modes:
            plate = bank(drum.modes, knobs["metal"])
            memory, loosely = state.memory[slot].reshape(6, MODES), 4 * knobs["humanise"]
            row["modes"] = strike(memory, row["key"], *plate, tune, longer, dull, loosely, float(state.sample_rate))
            lasts.append(float(plate[2][0]) * longer)
        row["last_age"] = int(5 / 3 * max(lasts) * state.sample_rate)  # -100 dB

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        smoothing = 1 - math.exp(-TICK / (0.005 * state.sample_rate))
        render(rows, memory, float(state.bend), smoothing, out[0], out[1])

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        finish(block[0], block[1], state.after, state.derived, 1 - math.exp(-1 / (0.005 * state.sample_rate)))


def _tones(row: Any, drum: Drum, tune: float, longer: float, sweep: float, dull: float, sample_rate: int) -> float:
    """Strike the tones; returns how long the longest takes to fall by 60 dB."""
    for k, (hz, level, seconds) in enumerate(drum.tones):
        row["tone_rate"][k] = hz * tune / sample_rate
        row["tone_level"][k] = level * (hz / drum.tones[0][0]) ** (-0.5 * dull)
        row["tone_left"][k] = 0.001 ** (1 / (seconds * longer * sample_rate))
    row["tones"], row["push"] = len(drum.tones), drum.push
    row["sweep"] = 2 ** (drum.sweep[0] * sweep) - 1
    row["sweep_left"] = math.exp(-1 / (drum.sweep[1] * sample_rate))
    return max((seconds * longer for _, _, seconds in drum.tones), default=0.0)


def _noises(row: Any, drum: Drum, tune: float, longer: float, loudness: float, dull: float, sample_rate: int) -> float:
    """Strike the bands of noise; returns when the last of them has fallen by 60 dB."""
    last = 0.0
    if drum.tones:
        loudness *= 2 ** (-0.4 * dull)  # a soft beater makes less noise beside the tone
    for b, noise in enumerate(drum.noises):
        low = noise.low_hz * tune
        high = max(min(noise.high_hz * tune * 2**-dull, HIGHEST * sample_rate), 1.3 * low)
        share = (high - low) / (0.5 * sample_rate)  # of white noise's power
        row["stroke"][b] = loudness * noise.level * math.sqrt(3 / share)
        row["stroke_left"][b], row["strokes"][b] = noise.stroke_left, noise.strokes
        row["next_stroke"][b] = round(noise.delay_s * sample_rate)
        row["spacing"][b] = round(noise.spacing_s * sample_rate)
        row["rise_step"][b] = 1 / (noise.attack_s * sample_rate)
        row["fall_left"][b] = 0.001 ** (1 / (noise.seconds * longer * sample_rate))
        row["cut"][b] = _svf(low, sample_rate), _svf(high, sample_rate)
        last = max(last, noise.delay_s + noise.strokes * noise.spacing_s + noise.seconds * longer)
    return last


def _svf(hz: float, sample_rate: int) -> tuple[float, float, float]:
    g = math.tan(math.pi * min(hz / sample_rate, HIGHEST))
    a1 = 1 / (1 + g * (g + math.sqrt(2)))
    return a1, g * a1, g * g * a1
