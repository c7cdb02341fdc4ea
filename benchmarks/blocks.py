"""What a block of live playing costs when nothing happens, when a knob is turned, and when all parts strike at once

The player alone, without a sound card: the parts and the hands of `benchmarks.playing` (a piece of its patches in place
of the model), blocks of 128 at 48 kHz, on one thread. The load is CPU time as a share of the block; `at once` calls one
block after the other, `in time` sleeps between them as a sound card does, so that caches are cold. `us` is one part of
eight held notes: a block in which nothing happens, one in which a knob is turned, and one in which a note follows
another, the median of 300.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.playing import BLOCK, HELD, PATCHES, RATE, WARM_S, _score
from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.instruments.opening import Opener
from soundloom.player import Player

SECONDS = 30.0


def main() -> list[dict[str, Any]]:
    common.one_thread()
    opener = Opener()
    rows: list[dict[str, Any]] = [_evening(opener, sleeping=sleeping) for sleeping in (False, True)]
    return rows + [_part(name, opener.opened(f"patch:{name}").instrument) for name in PATCHES]


def _evening(opener: Opener, *, sleeping: bool) -> dict[str, Any]:
    names = [*PATCHES, PATCHES[0]]
    players = [opener.opened(f"patch:{name}") for name in names]
    player = Player(players, {part: [part] for part in range(len(names))}, sample_rate=RATE, block=BLOCK)
    player.warm_up()
    out, loads = np.zeros((2, BLOCK), np.float32), []
    score = _score(len(names))
    at, message = next(score)
    for block in range(round(SECONDS * RATE / BLOCK)):
        due = []
        while round(at * RATE) < (block + 1) * BLOCK:
            due.append((max(round(at * RATE) - block * BLOCK, 0), message))
            at, message = next(score)
        start = time.thread_time()
        player.render(None, out, due)
        took = time.thread_time() - start
        if block * BLOCK > 2 * WARM_S * RATE:
            loads.append(took * RATE / BLOCK)
        if sleeping:
            time.sleep(max(BLOCK / RATE - took, 0))
    parts = np.percentile(loads, [50, 99, 99.9])
    names_of = [f"load, {percent} of 100 blocks" for percent in ("50", "99", "99.9")]
    return {"what": f"8 parts, 64 voices, {'in time' if sleeping else 'at once'}"} | dict(
        zip(names_of, map(float, parts), strict=True)
    )


def _part(name: str, instrument: AbstractInstrument) -> dict[str, Any]:
    state = instrument.init_state(RATE)
    number = 0

    def struck(frame: int) -> Event:
        nonlocal number
        number += 1
        return Event(frame, "on", number, 40.0 + 3 * number % 44, 0.7)

    knob = next((param for param in instrument.params if param.name == "vibrato_cents"), instrument.params[0])
    happening: dict[str, Callable[[], list[Event]]] = {
        "us": list,
        "us, a knob": lambda: [Event(0, "set", param=knob.name, value=knob.at(0.1 + number % 9 / 10))],
        "us, a note": lambda: [Event(50, "off", number - HELD + 1), struck(50)],
    }
    for _ in range(HELD):
        _, state = instrument.process(state, [struck(0)], BLOCK)
    row: dict[str, Any] = {"what": name}
    for what, events in happening.items():
        took = []
        for _ in range(300):
            now = events()
            start = time.thread_time()
            _, state = instrument.process(state, now, BLOCK)
            took.append(time.thread_time() - start)
        row[what] = 1e6 * float(np.median(took))
    return row


if __name__ == "__main__":
    common.print_table(main(), title=(__doc__ or "").splitlines()[0])
