"""Classical engines: voices in real time per core

64 held voices at 44.1 kHz, in blocks of 512 as a sound card asks for, where Python has its share once a block, and in
blocks of a second. Peers, measured once on a Zen 4 core when Soundloom was designed: saw, filter and envelope in Csound
2160 (99 with its ladder), in Faust compiled to C++ 1240, in DawDreamer 607; FluidSynth 1270 to 1360 notes; Csound's
plucked string 7240. `seconds` is CPU time: of the first note with kernels that were never compiled, and of the whole
built-in bank.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import common
from soundloom.instruments.engines import EFFECTS

RATE = 44100
VOICES = 64
FILTERED = {"cutoff_hz": 2000.0, "resonance": 0.3}
SYNCED = {"sync": 1.0, "osc2_level": 0.5, "osc2_semitones": 7.0}
EVERYTHING = {
    "osc2_level": 0.5, "osc1_shape": 2.5, "noise_level": 0.1, "drive_db": 6.0, "cutoff_hz": 500.0,
    "filter_env_octaves": 4.0, "filter_decay_s": 10.0, "vibrato_cents": 10.0, "unison": 3.0, "lfo2_width": 0.2,
    "lfo2_cutoff_octaves": 1.0,
}  # fmt: skip
FM = {f"op{number}_sustain": 1.0 for number in (1, 2, 3, 4)}
ORGAN = {"partials": 1.0, "sustain": 1.0, "foot_16": 8.0, "foot_5_13": 5.0, "foot_4": 5.0, "foot_2_23": 3.0}
GRAINS = 8  # notes of as many grains as they take
# What is played: a line for the table, the engine by its name in `ENGINES`, its knobs. Voices must not end by
# themselves within seven seconds.
PLAYED: list[tuple[str, str, dict[str, float]]] = [
    ("saw, filter, envelopes", "subtractive", FILTERED),
    ("two saws", "subtractive", FILTERED | {"osc2_level": 0.5}),
    ("two pulses", "subtractive", FILTERED | {"osc1_shape": 3.0, "osc2_level": 0.5, "osc2_shape": 3.0}),
    ("saw, ladder", "subtractive", FILTERED | {"filter_model": 1.0}),
    ("saw, drive", "subtractive", FILTERED | {"drive_db": 6.0}),
    ("saw, filter moving", "subtractive", FILTERED | {"filter_env_octaves": 4.0, "filter_decay_s": 10.0}),
    ("hard sync", "subtractive", FILTERED | SYNCED),
    ("unison of seven, in stereo", "subtractive", FILTERED | {"unison": 7.0}),
    ("everything", "subtractive", EVERYTHING),
    ("as it is", "pluck", {"decay_s": 30.0}),
    ("without damping", "pluck", {"decay_s": 30.0, "damping": 0.0}),
    ("two pairs", "fm", FM),
    ("two pairs, feedback", "fm", FM | {"feedback": 0.5}),
    ("two pairs, feedback, vibrato", "fm", FM | {"feedback": 0.5, "vibrato_cents": 10.0}),
    ("two oscillators", "wavetable", {"sustain": 1.0}),
    ("64 partials", "additive", {"sustain": 1.0}),
    ("64 partials, stretched", "additive", {"sustain": 1.0, "inharmonicity": 0.2}),
    ("five drawbars", "additive", ORGAN),
    ("a bar", "modal", {"decay_s": 60.0, "damping": 0.0}),
    ("a membrane", "modal", {"object": 5.0, "decay_s": 60.0, "damping": 0.0}),
    ("a clarinet", "tube", {}),
    ("a violin", "bowed", {}),
]
COLD = """
import time
from soundloom.instruments.base import Event
from soundloom.instruments.engines import engine
made = engine("{name}")
start = time.process_time()
instrument = made()
instrument.process(instrument.init_state(44100), [Event(0, "on", 1)], 512)
print(time.process_time() - start)
"""


def main() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for label, name, settings in PLAYED:
        rows += [
            {"what": f"{name}: {label}", "block": block, "voices in real time": _voices(name, settings, block)}
            for block in (512, RATE)
        ]
    rows += [
        {"what": f"granular: {1000 * s:g} ms long, in stereo", "grains in real time": _grains(s)} for s in (1.0, 0.1)
    ]
    rows += [{"what": f"effect: {name}, % of a core", "block": 512, "share": _effect(name)} for name in EFFECTS]
    for name in dict.fromkeys(name for _, name, _ in PLAYED):
        rows.append({"what": f"{name}: first note, compiled from nothing", "seconds": _cold(name)})
    rows.append({"what": "the built-in bank", "seconds": _factory()})
    return rows


def _voices(name: str, settings: dict[str, float], block: int) -> float:
    from soundloom.instruments.base import Event
    from soundloom.instruments.engines import engine

    instrument = engine(name)(settings, voices=VOICES)
    state = instrument.init_state(RATE)
    notes = [Event(0, "on", number, pitch=36 + number / 2) for number in range(VOICES)]
    _, state = instrument.process(state, notes, RATE // 10)
    assert state.rows["active"].all()

    def second() -> None:
        nonlocal state
        for _ in range(RATE // block):
            _, state = instrument.process(state, [], block)

    taken = common.cpu_seconds(second)
    assert state.rows["active"].all()
    return VOICES * (RATE // block) * block / RATE / taken


def _grains(seconds: float) -> float:
    """Overlapping grains: so many start a second, each so long, in so many voices."""
    from soundloom.instruments.base import Event
    from soundloom.instruments.engines import engine

    density_hz = min(4000.0, 250.0 / seconds)
    settings = {"size_ms": 1000 * seconds, "density_hz": density_hz, "pitch_spray_cents": 20.0}
    instrument = engine("granular")(settings, voices=GRAINS)
    state = instrument.init_state(RATE)
    notes = [Event(0, "on", number, pitch=48.0 + 3 * number) for number in range(GRAINS)]
    _, state = instrument.process(state, notes, 2 * RATE)  # until as many sound as end

    def second() -> None:
        nonlocal state
        for _ in range(RATE // 512):
            _, state = instrument.process(state, [], 512)

    return GRAINS * density_hz * seconds * (RATE // 512) * 512 / RATE / common.cpu_seconds(second)


def _effect(name: str) -> float:
    import numpy as np

    from soundloom.instruments.engines import effect

    sound = (0.1 * np.random.default_rng(0).standard_normal((2, 512))).astype(np.float32)
    made = effect(name)()
    state = made.init_state(RATE)

    def second() -> None:
        nonlocal state
        for _ in range(RATE // 512):
            _, state = made.process(state, [], sound)

    return 100 * common.cpu_seconds(second)


def _cold(name: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", COLD.format(name=name)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return float(done.stdout)


def _factory() -> float:
    from soundloom import factory

    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        factory.make(folder)
        return time.process_time() - start


if __name__ == "__main__":
    table = main()
    common.print_table(table, title=__doc__.splitlines()[0])
    print(json.dumps(table))
