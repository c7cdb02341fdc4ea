"""Renders the whole training set: `python -m training.render -o FOLDER` (about ten CPU-minutes).

Needs `fluidsynth`, the FluidR3 soundfont and `espeak-ng` (Debian: fluidsynth, fluid-soundfont-gm, espeak-ng).
Writes `audio.i16` (int16, `SAMPLE_RATE`, mono, clip after clip), `clips.npz` (a row a clip; see `clips.Clip`) and,
when all is there, `DONE` with the number of clips of each label.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from training import effects, kits, midi_notes, recipes, speech, tones
from training.clips import SAMPLE_RATE, Clip, Writer

Job = Callable[[], Iterator[Clip]]
BLOCK = 40  # sounds a job
VOICES, SAID_EACH = 160, 25
DRUMS, NOTES, EFFECTS = 22000, 8500, 1500


def jobs(*, seed: int, scale: float) -> list[Job]:
    """Everything to make, in the order in which it is written; `scale` makes all of it smaller."""
    made: list[Job] = []
    for recipe, count in recipes.counts(round(DRUMS * scale)).items():
        made += [partial(recipes.drums_of, recipe, numbers=block, seed=seed) for block in blocks(count)]
    for engine, count in tones.counts(round(NOTES * scale)).items():
        made += [partial(tones.notes_of, engine, numbers=block, seed=seed) for block in blocks(count)]
    for kind in range(len(effects.EFFECTS)):
        each = round(EFFECTS * scale / len(effects.EFFECTS))
        made += [partial(effects.effects_of, kind, numbers=block, seed=seed) for block in blocks(each)]
    for program in range(round(128 * min(scale, 1))):
        takes = range(midi_notes.TAKES.get(program, 1))
        made += [partial(midi_notes.program_notes, program, seed=seed, take=take) for take in takes]
    made += [partial(kits.kit_hits, kit, seed=seed) for kit in kits.KITS[: round(len(kits.KITS) * min(scale, 1))]]
    said = range(round(SAID_EACH * min(scale, 1)) or 1)
    made += [partial(speech.said_by, voice, numbers=said, seed=seed) for voice in range(round(VOICES * min(scale, 1)))]
    return made


def blocks(count: int) -> list[range]:
    return [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


def run(job: Job) -> list[Clip]:
    return list(job())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of everything, to try")
    asked = parser.parse_args()
    if (asked.output / "DONE").exists():
        parser.error(f"{asked.output} is finished: give another folder")
    missing = [name for name in ("fluidsynth", "espeak-ng") if shutil.which(name) is None]
    missing += [] if midi_notes.SOUNDFONT.exists() else [str(midi_notes.SOUNDFONT)]
    if missing:
        parser.error(f"not found: {', '.join(missing)}; install Debian's fluidsynth, fluid-soundfont-gm and espeak-ng")
    todo = jobs(seed=asked.seed, scale=asked.scale)
    writer = Writer(asked.output)
    began = time.monotonic()
    with multiprocessing.Pool(asked.processes) as pool:
        for done, clips in enumerate(pool.imap(run, todo), start=1):
            writer.add(clips)
            if done % 50 == 0 or done == len(todo):
                minutes = writer.frames / SAMPLE_RATE / 60
                took = time.monotonic() - began
                print(
                    f"{done}/{len(todo)} jobs, {len(writer)} clips, {minutes:.0f} minutes, {took:.0f} s",
                    file=sys.stderr,
                )
    counts = writer.close()
    text = json.dumps({"clips": len(writer), "frames": writer.frames, "labels": counts}, indent=1)
    (asked.output / "DONE").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
