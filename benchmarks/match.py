"""Matching an engine's knobs to a sound

Made targets have hidden knobs of the engine itself (each knob at random, two in five as usual), real ones are
recordings. `before` is the log-mel distance with the engine's usual knobs at the same pitch and level, `after` with
those found in 2000 tries, one seed.
"""

from typing import Any

import numpy as np

from benchmarks import common
from soundloom.audio import Waveform, read
from soundloom.instruments.base import Event
from soundloom.instruments.engines import engine
from soundloom.match import RATE, match

TRIES = 2000
MADE = ("pluck", "subtractive", "fm", "modal")
REAL = (
    ("subtractive", "piano/FF A3.flac"), ("pluck", "piano/FF A3.flac"), ("fm", "piano/PP C2.flac"),
    ("subtractive", "drum-machines/808-mini/kick.ogg"), ("drums", "drum-machines/808-mini/snare-1.ogg"),
)  # fmt: skip


def main() -> list[dict[str, Any]]:
    common.one_thread()
    rows = []
    for name in MADE:
        for seed in range(2):
            rows.append(_row(f"{name}, hidden knobs {seed + 1}", _hidden(name, seed), name))
    rows += [_row(f"{name} on {file}", read(common.sounds() / file), name) for name, file in REAL]
    return rows


def _row(what: str, target: Waveform, name: str) -> dict[str, Any]:
    found = match(target, name, tries=TRIES)
    return {"what": what, "before": found.before, "after": found.after, "ms a try": 1000 * found.seconds / found.tries}


def _hidden(name: str, seed: int) -> Waveform:
    rng = np.random.default_rng(seed)
    while True:
        knobs = {param.name: param.at(rng.random()) for param in engine(name).params if rng.random() < 0.6}
        knobs["gain_db"] = -6.0
        instrument = engine(name)(knobs, voices=1)
        audio, _ = instrument.process(instrument.init_state(RATE), [Event(0, "on", 1, 55.0, 0.8)], RATE)
        if np.abs(audio).max() > 0.02:
            return Waveform(audio.mean(axis=0, keepdims=True).astype(np.float32), RATE)
