"""Classical engines: voices in real time per core

64 held voices at 44.1 kHz, in blocks of 512 as a sound card asks for and in blocks of a second. Peers, measured once
on a Zen 4 core when Soundloom was designed: saw, filter and envelope in Csound 2160, in Faust compiled to C++ 1240, in
DawDreamer 607; FluidSynth 1270 to 1360 notes; Csound's plucked string 7240. `seconds` is CPU time: of the first note
with kernels that were never compiled, and of the whole built-in bank.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import common

RATE = 44100
VOICES = 64
SATURATED = {"osc2_level": 0.5, "noise_level": 0.1, "drive_db": 6.0}
ENGINES = {
    "subtractive: saw, filter, envelopes": ("subtractive", {"cutoff_hz": 2000.0, "resonance": 0.3}),
    "subtractive: two saws": ("subtractive", {"cutoff_hz": 2000.0, "osc2_level": 0.5}),
    "subtractive: two saws, noise, drive, filter moving": (
        "subtractive",
        SATURATED | {"cutoff_hz": 500.0, "filter_env_octaves": 4.0, "filter_decay_s": 10.0, "vibrato_cents": 10.0},
    ),
    "pluck": ("pluck", {"decay_s": 30.0, "damping": 0.0}),
}
COLD = """
import time
from soundloom.instruments.base import Event
from soundloom.instruments.{engine} import {name}
start = time.process_time()
instrument = {name}()
instrument.process(instrument.init_state(44100), [Event(0, "on", 1)], 512)
print(time.process_time() - start)
"""


def main() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for label, (engine, settings) in ENGINES.items():
        rows += [
            {"what": label, "block": block, "voices in real time": _voices(engine, settings, block)}
            for block in (512, RATE)
        ]
    for engine, name in (("subtractive", "Subtractive"), ("pluck", "Pluck")):
        rows.append({"what": f"{engine}: first note, compiled from nothing", "seconds": _cold(engine, name)})
    rows.append({"what": "the built-in bank", "seconds": _factory()})
    return rows


def _voices(engine: str, settings: dict[str, float], block: int) -> float:
    from soundloom.instruments.base import Event
    from soundloom.instruments.pluck import Pluck
    from soundloom.instruments.subtractive import Subtractive

    instrument = (Subtractive if engine == "subtractive" else Pluck)(settings, voices=VOICES)
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


def _cold(engine: str, name: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        code = COLD.format(engine=engine, name=name)
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
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
