"""Notes of all 128 General MIDI programs, rendered by `fluidsynth` from the FluidR3 soundfont (MIT licence)."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from soundloom.midi import write
from soundloom.score import Note, Score
from training.clips import LONGEST_S, SAMPLE_RATE, Clip, Facts, Sound, clip
from training.pieces import between, chance
from training.production import produced, recorded

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TAIL_S = 0.25  # between the last sample of a clip and the next note
FAMILIES = (
    (range(8), "keyboard"),
    (range(8, 15), "mallet"),
    ((15,), "guitar"),  # dulcimer: struck, but with the spectrum and decay of plucked strings
    (range(16, 22), "organ"),
    ((22,), "reed"),  # harmonica
    ((23,), "organ"),  # bandoneon
    (range(24, 32), "guitar"),
    (range(32, 40), "bass"),
    (range(40, 45), "strings"),
    ((45, 46), "guitar"),  # pizzicato, harp: the label means plucked strings
    ((47,), "tom"),  # timpani
    (range(48, 52), "strings"),
    (range(52, 55), "voice"),
    ((55,), "effect"),  # orchestra hit
    (range(56, 64), "brass"),
    (range(64, 72), "reed"),
    (range(72, 80), "flute"),
    (range(80, 88), "synth lead"),
    (range(88, 96), "synth pad"),
    (range(96, 104), "effect"),
    (range(104, 108), "guitar"),
    ((108,), "mallet"),  # kalimba
    ((109, 111), "reed"),  # bagpipe, shanai
    ((110,), "strings"),  # fiddle
    ((112, 114), "mallet"),  # tinkle bell, steel drums
    ((113, 115), "cowbell"),  # agogo, woodblock
    ((116, 117, 118), "tom"),
    (range(119, 128), "effect"),
)
LABEL = {program: label for programs, label in FAMILIES for program in programs}
LOW, HIGH = 24, 100
VELOCITIES = (0.35, 0.65, 0.95, 0.2)
# What most folders of notes hold, and what decays most like it, is played more than once.
TAKES = {**dict.fromkeys(range(8), 4), **dict.fromkeys((*range(24, 32), 46), 2)}
RANGES = {"bass": (24, 64), "tom": (30, 72), "cowbell": (48, 96), "keyboard": (21, 108)}
# Found by `track_pitch` on nine keys from 36 to 84 of every program: where all of them sounded the same distance from
# their key, that distance is here; all programs that are named nowhere sound at their key (median within 0.3).
SOUNDS_ABOVE = {31: 24.0, 114: 12.0}  # guitar harmonics, steel drums (an octave up, no odd partials of the key)
# Two pitches or none agreed on: glockenspiel and tubular bells (inharmonic: the tracker finds other partials than the
# strike tone), organs with a 16' stop, the lead and the pad in fifths, the bagpipe over its drone.
UNCLEAR = frozenset({9, 14, 16, 17, 18, 86, 97, 109})
UNPITCHED = frozenset({47, 55, 113, 115, 116, 117, 118, 119, 120, 121, *range(122, 128)})


def rendered(score: Score, *, bank: int, program: int, channel: int, room: bool) -> Sound:
    """The score played by one preset of the soundfont, mono; with FluidSynth's room and chorus, or dry."""
    with tempfile.TemporaryDirectory() as folder:
        midi, wav, setup = Path(folder) / "a.mid", Path(folder) / "a.wav", Path(folder) / "setup"
        write(midi, score)
        setup.write_text(f"load {SOUNDFONT}\nselect {channel} 1 {bank} {program}\n")
        effects = ["-R", "1", "-C", "1"] if room else ["-R", "0", "-C", "0"]
        command = [
            "fluidsynth",
            "-ni",
            "-q",
            "-f",
            str(setup),
            "-F",
            str(wav),
            "-r",
            str(SAMPLE_RATE),
            "-g",
            "0.6",
            *effects,
        ]
        subprocess.run([*command, str(midi)], check=True, capture_output=True)
        audio, _ = soundfile.read(wav, dtype="float64", always_2d=True)
    return audio.mean(axis=1)


def strikes(
    pitches: Sequence[int], rng: np.random.Generator, *, channel: int, velocities: Sequence[float], each: int
) -> tuple[Note, ...]:
    """Every pitch at `each` of the velocities, for a time of its own, far enough apart to be cut."""
    notes, at = [], 0.1
    for pitch in pitches:
        for velocity in rng.permutation(velocities)[:each]:
            loud = float(np.clip(velocity + rng.uniform(-0.15, 0.05), 0.1, 1))
            notes.append(Note(at, between(rng, 0.15, 1.8), float(pitch), loud, channel))
            at += LONGEST_S + TAIL_S
    return tuple(notes)


def program_notes(program: int, *, seed: int, take: int = 0) -> Iterator[Clip]:
    """Notes over the range of a program, dry and in a room; every take has other notes, and those after the first soft
    ones too."""
    rng = np.random.default_rng([seed, 6, program, *([take] if take else [])])
    label = LABEL[program]
    low, high = RANGES.get(label, (LOW, HIGH))
    for room in (False, True):
        pitches, pitch = [], low + int(rng.integers(0, 3))
        while pitch <= high:
            pitches.append(pitch)
            pitch += int(rng.integers(3, 6))
        notes = strikes(pitches, rng, channel=0, velocities=VELOCITIES[: 3 + bool(take)], each=2)
        audio = rendered(Score(notes), bank=0, program=program, channel=0, room=room)
        yield from _cut(audio, notes, program, rng)


def _cut(audio: Sound, notes: Sequence[Note], program: int, rng: np.random.Generator) -> Iterator[Clip]:
    pitched = program not in UNPITCHED
    for note in notes:
        start = round(note.start_s * SAMPLE_RATE)
        sound = audio[start : start + round((LONGEST_S + TAIL_S) * SAMPLE_RATE) - 64]
        if np.abs(sound).max(initial=0.0) < 1e-4:
            continue  # outside the range of the program's samples
        if chance(rng, 0.3):  # as short one-shots and cut notes are
            sound = sound[: round(between(rng, 0.2, LONGEST_S) * SAMPLE_RATE)] * 1.0
            sound[-200:] *= np.linspace(1, 0, len(sound[-200:]))
        if chance(rng, 0.3):
            sound = produced(sound, recorded(rng), rng)
        known = pitched and program not in UNCLEAR
        facts = Facts(
            LABEL[program],
            "gm",
            f"program {program}",
            pitch=note.pitch + SOUNDS_ABOVE.get(program, 0.0) if known else float("nan"),
            tonal=1 if pitched else -1,
            velocity=note.velocity,
        )
        made = clip(sound, facts, lead=int(rng.integers(0, 60)))
        if made is not None:
            yield made
