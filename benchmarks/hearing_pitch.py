"""Pitch by the ear: tracker and network merged

Piano: real recordings, whose names are an octave below what sounds. Soundfont: notes of FluidR3 programs whose sounding
pitch is known, dry and in a room, struck anew with another seed than those the ear was trained on; programs that were
held out of that training stand apart. Within 60 cents; octave errors (one or two octaves within 60 cents) apart.
pyin hears a part of the sounds, for its slowness.
"""

import math
import shutil
import time
from collections.abc import Callable, Sequence

import librosa
import numpy as np

from benchmarks import common
from soundloom.audio import Waveform, read
from soundloom.ears import Ear, tracked_pitch
from soundloom.score import parse_pitch
from training.clips import SAMPLE_RATE
from training.ear import is_held_out
from training.midi_notes import SOUNDFONT, program_notes

PROGRAMS = range(0, 112, 3)
EVERY = 4  # of a program's notes
SEED = 1
Note = tuple[Waveform, float]  # and the MIDI pitch that sounds
PitchOf = Callable[[Sequence[Waveform]], list[float]]


def main() -> list[dict]:
    common.one_thread()
    ear = Ear.bundled()

    def merged(sounds: Sequence[Waveform]) -> list[float]:
        return [math.nan if heard.pitch is None else heard.pitch for heard in ear.hear(sounds)]

    def tracked(sounds: Sequence[Waveform]) -> list[float]:
        return [tracked_pitch(sound.mono().samples[0], sample_rate=sound.sample_rate)[0] for sound in sounds]

    piano = [(read(path), _named(path.stem)) for path in sorted(common.sounds("piano").glob("*.flac"))]
    rows = [
        _judge("piano, ear", merged, piano) | TARGETS,
        _judge("piano, tracker alone", tracked, piano),
        _judge("piano, librosa pyin (every fifth)", _pyin, piano[::5]),
    ]
    if shutil.which("fluidsynth") is None or not SOUNDFONT.is_file():
        return [*rows, {"what": "soundfont: needs fluidsynth and the FluidR3 General MIDI soundfont"}]
    known, unknown = [], []
    for program in PROGRAMS:
        notes = [clip for clip in program_notes(program, seed=SEED) if math.isfinite(clip.pitch)][::EVERY]
        sounds = [(Waveform(n.audio[None].astype(np.float32) / 32767, SAMPLE_RATE), n.pitch) for n in notes]
        (unknown if is_held_out(f"gm/program {program}") else known).extend(sounds)
    return [
        *rows,
        _judge("soundfont, ear", merged, known + unknown) | TARGETS,
        _judge("soundfont, ear, programs held out of its training", merged, unknown),
        _judge("soundfont, tracker alone", tracked, known + unknown),
        _judge("soundfont, librosa pyin (every tenth)", _pyin, (known + unknown)[::10]),
    ]


TARGETS = {"target within 60 cents": 0.98, "target octave errors": 0.01, "target × real time": 100}


def _named(stem: str) -> float:
    return float(parse_pitch(stem.split()[1])) + 12


def _pyin(sounds: Sequence[Waveform]) -> list[float]:
    return [_pyin_of(sound) for sound in sounds]


def _pyin_of(sound: Waveform) -> float:
    setting = {"fmin": 24.0, "fmax": 5000.0, "sr": sound.sample_rate, "frame_length": 4096, "hop_length": 512}
    f0 = librosa.pyin(sound.mono().samples[0], **setting, fill_na=np.nan)[0]
    return float(69 + 12 * np.log2(np.nanmedian(f0) / 440)) if np.isfinite(f0).any() else math.nan


def _judge(what: str, pitch_of: PitchOf, notes: Sequence[Note]) -> dict:
    pitch_of([notes[0][0]])
    began = time.process_time()
    off = np.array(pitch_of([sound for sound, _ in notes])) - np.array([pitch for _, pitch in notes])
    took = time.process_time() - began
    octave = (np.abs(np.abs(off) - 12) < 0.6) | (np.abs(np.abs(off) - 24) < 0.6)
    return {"what": what, "sounds": len(notes), "within 60 cents": float(np.mean(np.abs(off) < 0.6)),
            "octave errors": float(np.mean(octave)), "no pitch found": float(np.mean(np.isnan(off))),
            "× real time": sum(sound.seconds for sound, _ in notes) / took}  # fmt: skip
