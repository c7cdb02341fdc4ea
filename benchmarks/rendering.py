"""Rendering: a song through shipped patches, and how soon it starts

A song of four minutes on eight channels, some 7000 notes of piano, bass, guitar, strings, organ, flute, bells and drums
as General MIDI has them, with chords, bends, pedal and controllers, made here. CPU time of one thread, from the score
to the mastered mix. `first sound` is the whole command, from its start to a written file of a tenth of a second, with
kernels that are compiled already.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from soundloom import midi
from soundloom.instruments.opening import Opener
from soundloom.performing import cast
from soundloom.render import arrange, perform
from soundloom.score import Control, Note, Score

SECONDS = 240.0
BEAT_S = 0.5
CHORDS = ((57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62))
PROGRAMS = {0: 0, 1: 33, 2: 24, 3: 48, 4: 16, 5: 73, 6: 14}


def song(seconds: float = SECONDS) -> Score:
    """Eight channels that all play all the time."""
    rng = np.random.default_rng(0)
    notes: list[Note] = []

    def add(channel: int, at: float, beats: float, pitch: float, velocity: float) -> None:
        if at * BEAT_S < seconds:
            notes.append(Note(at * BEAT_S, beats * BEAT_S, pitch, velocity, channel, PROGRAMS.get(channel, 0)))

    for bar in range(int(seconds / BEAT_S / 4)):
        chord, at = CHORDS[bar % 4], 4.0 * bar
        for pitch in chord:
            add(0, at, 1.9, pitch, 0.7)
            add(0, at + 2, 1.9, pitch, 0.6)
            add(3, at, 3.9, pitch + 12, 0.5)
            add(4, at, 3.9, pitch, 0.5)
        for eighth in range(8):
            add(1, at + eighth / 2, 0.45, chord[0] - 24, 0.8)
            add(2, at + eighth / 2, 0.9, chord[eighth % 3] + 12 * (eighth % 2), 0.7)
            add(9, at + eighth / 2, 0.1, 42, 0.6)
        for beat in range(4):
            add(5, at + beat, 0.9, int(rng.choice(chord)) + 12, 0.7)
            add(9, at + beat, 0.1, (36, 38)[beat % 2], 0.9)
        add(6, at + 1.5, 2, chord[2] + 12, 0.6)
        add(6, at + 3, 1, chord[1] + 12, 0.6)
    controls = [Control(0.0, "cc", 0.3 + 0.05 * channel, 10, channel) for channel in PROGRAMS]
    for second in range(int(seconds)):
        controls.append(Control(float(second), "cc", float(second % 2), 64, 0))
        controls += [Control(second + i / 16, "bend", 0.3 * np.sin(i), 0, 5) for i in range(16)]
        controls.append(Control(float(second), "cc", 0.5 + 0.4 * np.sin(second), 74, 3))
    return Score(tuple(sorted(notes, key=lambda note: note.start_s)), tuple(sorted(controls, key=lambda c: c.at_s)))


def main() -> list[dict[str, Any]]:
    common.one_thread()
    opener = Opener()
    warm = song(4.0)
    perform(warm, arrange(warm, cast([], opener).who(opener)))
    score = song()
    arrangement = arrange(score, cast([], opener).who(opener))
    start = time.process_time()
    made = perform(score, arrangement)
    taken = time.process_time() - start
    rows: list[dict[str, Any]] = [
        {"what": f"{len(score.notes)} notes on 8 channels, x real time", "figure": made.sound.seconds / taken}
    ]
    rows += [
        {"what": f"{name} alone, x real time", "figure": _alone(score, channel, opener)}
        for channel, name in zip((*PROGRAMS, 9), _names(opener), strict=True)
    ]
    rows.append({"what": "first sound after the command starts, s", "figure": _first()})
    return rows


def _names(opener: Opener) -> list[str]:
    return [opener.usual(channel, program).name for channel, program in [*PROGRAMS.items(), (9, 0)]]


def _alone(score: Score, channel: int, opener: Opener, seconds: float = 30.0) -> float:
    notes = tuple(note for note in score.notes if note.channel == channel and note.start_s < seconds)
    one = Score(notes, tuple(c for c in score.controls if c.channel == channel and c.at_s < seconds))
    arrangement = arrange(one, cast([], opener).who(opener))
    start = time.process_time()
    made = perform(one, arrangement)
    return made.sound.seconds / (time.process_time() - start)


def _first() -> float:
    """Median of five, by the clock: it is what a person waits for."""
    with tempfile.TemporaryDirectory() as folder:
        chord = tuple(replace(note, seconds=0.1) for note in song(4.0).notes if note.start_s == 0)
        midi.write(Path(folder) / "song.mid", Score(chord))
        command = [sys.executable, "-m", "soundloom", "render", "song.mid", "-o", "song.wav", "-q"]
        took = []
        for _ in range(6):
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, env=os.environ)
            took.append(time.perf_counter() - start)
    return float(np.median(took[1:]))


if __name__ == "__main__":
    table = main()
    common.print_table(table, title=__doc__.splitlines()[0])
    print(json.dumps(table))
