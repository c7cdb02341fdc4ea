"""The drum kits of the FluidR3 soundfont by the General MIDI percussion map, also played slower and faster."""

from collections.abc import Iterator

import numpy as np
import soxr

from soundloom.score import Note, Score
from training.clips import LONGEST_S, SAMPLE_RATE, Clip, Facts, Sound, clip
from training.midi_notes import TAIL_S, rendered
from training.pieces import between, chance
from training.production import gated, machine, produced
from training.recipes import UNDECIDED, kept

KITS = (*range(20), 24, 25, 32, 33, 34, 35, 36, 40, 41, 42, 48)
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
# Kits that have something else on some keys: brushes swirl and slap, an orchestra has timpani and castanets.
OTHERWISE = {
    **{kit: {key: label for key, label in LABEL.items() if key not in (39, 40)} for kit in (40, 41, 42)},
    48: {35: "kick", 36: "kick", 37: "rim", 38: "snare", 40: "snare", 57: "cymbal", 59: "cymbal"},
}
VELOCITIES = (0.4, 0.7, 1.0)
CUT_S = {"open hat": (0.2, 1.4), "cymbal": (0.5, 2.0)}  # sample memories were short
VARIANTS, RARE_VARIANTS = 3, 14


def kit_hits(kit: int, *, seed: int) -> Iterator[Clip]:
    """Every drum of a kit that the standard kit has not, as it is, at other speeds, and through made-up machines.

    The soundfont's kits share most of their drums; what the standard kit has is made once, in more variants.
    """
    rng = np.random.default_rng([seed, 7, kit])
    keys = OTHERWISE.get(kit, LABEL)
    hits = _hits(kit, tuple(keys))
    common = _hits(KITS[0], tuple(keys)) if kit != KITS[0] else {}
    for (key, velocity), sound in hits.items():
        standard = common.get((key, velocity))
        if np.abs(sound).max(initial=0.0) < 1e-4 or (standard is not None and np.allclose(sound, standard, atol=1e-3)):
            continue
        facts = Facts(keys[key], "gm-drums", f"kit {kit}", tonal=-1 if keys[key] in UNDECIDED else 0, velocity=velocity)
        for variant in range(RARE_VARIANTS if kit in (KITS[0], 25) else VARIANTS):
            made = clip(_varied(sound, keys[key], variant, rng), facts, lead=int(rng.integers(0, 60)))
            if made is not None:
                yield made


def _varied(sound: Sound, label: str, variant: int, rng: np.random.Generator) -> Sound:
    """Variant 0 is the sound itself; odd ones come out of a machine as well."""
    if variant == 0:
        return sound
    sound = soxr.resample(sound, SAMPLE_RATE * 2 ** (rng.uniform(-4, 4) / 12), SAMPLE_RATE)
    if label in CUT_S and chance(rng, 0.7):
        sound = gated(sound, between(rng, *CUT_S[label]))
    if variant % 2 == 0:
        return sound
    audible = np.flatnonzero(np.abs(sound) > 0.003 * np.abs(sound).max())
    return produced(sound[audible[0] : audible[-1] + 1], kept(machine(rng), label, least_s=0.3), rng)


def _hits(kit: int, keys: tuple[int, ...]) -> dict[tuple[int, float], Sound]:
    """Every key at every velocity, from its strike on."""
    apart_s = LONGEST_S + TAIL_S
    strikes = [(key, velocity) for key in keys for velocity in VELOCITIES]
    notes = tuple(Note(0.1 + i * apart_s, 1.0, float(key), velocity, 9) for i, (key, velocity) in enumerate(strikes))
    audio = rendered(Score(notes), bank=128, program=kit, channel=9, room=False)
    starts = [round(note.start_s * SAMPLE_RATE) for note in notes]
    length = round(apart_s * SAMPLE_RATE) - 64
    return {strike: audio[start : start + length] for strike, start in zip(strikes, starts, strict=True)}
