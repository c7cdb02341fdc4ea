"""The drum kits of the FluidR3 soundfont by the General MIDI percussion map, also played slower and faster."""

from collections.abc import Iterator

import numpy as np
import soxr

from soundloom.score import Note, Score
from training.clips import LONGEST_S, SAMPLE_RATE, Clip, Facts, clip
from training.midi_notes import TAIL_S, rendered
from training.pieces import chance
from training.production import Chain, machine, produced

KITS = (*range(20), 24, 25, 32, 33, 34, 35, 36, 40, 41, 42)
KEYS = {
    "kick": (35, 36),
    "rim": (37,),
    "snare": (38, 40),
    "clap": (39,),
    "tom": (41, 43, 45, 47, 48, 50, 65, 66),
    "closed hat": (42, 44),
    "open hat": (46,),
    "cymbal": (49, 51, 52, 53, 55, 57, 59),
    "shaker": (54, 69, 70, 73, 74, 82),  # tambourine, cabasa, maracas, guiros, shaker
    "cowbell": (56, 67, 68, 75, 76, 77),  # with agogos, claves, woodblocks
    "hand drum": (60, 61, 62, 63, 64),
}
LABEL = {key: label for label, keys in KEYS.items() for key in keys}
ORCHESTRA = {35: "kick", 36: "kick", 37: "rim", 38: "snare", 39: "clap", 40: "snare", 57: "cymbal", 59: "cymbal"}
VELOCITIES = (0.4, 0.7, 1.0)


def kit_hits(kit: int, *, seed: int) -> Iterator[Clip]:
    """Every drum of a kit at three velocities, as it is and at two other speeds, one through a made-up machine."""
    rng = np.random.default_rng([seed, 7, kit])
    keys = ORCHESTRA if kit == 48 else LABEL
    notes, at = [], 0.1
    for key in keys:
        for velocity in VELOCITIES:
            notes.append(Note(at, 1.0, float(key), velocity, 9))
            at += LONGEST_S + TAIL_S
    audio = rendered(Score(tuple(notes)), bank=128, program=kit, channel=9, room=False)
    for note in notes:
        start = round(note.start_s * SAMPLE_RATE)
        sound = audio[start : start + round((LONGEST_S + TAIL_S) * SAMPLE_RATE) - 64]
        if np.abs(sound).max(initial=0.0) < 1e-4:
            continue
        label = keys[int(note.pitch)]
        facts = Facts(
            label,
            "gm-drums",
            f"kit {kit}",
            tonal=-1 if label in ("tom", "cowbell", "hand drum") else 0,
            velocity=note.velocity,
        )
        for variant in range(2):
            shift = 0.0 if variant == 0 else float(rng.uniform(-4, 4))
            speed = 2 ** (shift / 12)
            moved = sound if shift == 0 else soxr.resample(sound, SAMPLE_RATE * speed, SAMPLE_RATE)
            made_up = machine(rng)
            chain = Chain(
                bits=made_up.bits,
                held_hz=made_up.held_hz,
                guard=made_up.guard,
                tilt=made_up.tilt,
                hiss_db=made_up.hiss_db,
            )
            if variant == 1 and chance(rng, 0.5):
                moved = produced(moved, chain, rng)
            made = clip(moved, facts, lead=int(rng.integers(0, 60)))
            if made is not None:
                yield made
