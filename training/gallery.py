"""Sixteen sounds of a run to look at and to hear: `python -m training.gallery RUN BANK NAME -o docs/gallery`.

Leaves NAME.png, real held-out sounds in the first row and new ones below, all at one scale of time, and NAME.ogg, the
new ones one after the other. What makes new sounds samples them, labels in turn, seeds 0 to 15, nothing picked; what
only plays recordings again is shown beside the recordings.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from soundloom.audio import Waveform, resample, write
from soundloom.bank import SoundBank, spread_evenly
from soundloom.draw import spectrogram_png
from soundloom.models.base import Samples
from soundloom.paths import make_folder
from soundloom.run import Run
from soundloom.score import pitch_name

COLUMNS, NEW, GAP_S, RATE = 4, 16, 0.15, 44100
WIDTH, HEIGHT, TITLE = 230, 130, 15
LONGEST_S = 3.0


def new_sounds(run: Run, bank: SoundBank, *, again: bool) -> list[tuple[str, Waveform]]:
    """Sixteen sounds and what each is: samples of the labels (or pitches of held-out notes) in turn; with `again`,
    held-out recordings as the model plays them."""
    held_out = spread_evenly(bank.clips("test" if len(bank.clips("test")) >= NEW else "train"), NEW)
    if again or not isinstance(run.model, Samples):
        return [(_name(bank, clip), run.reconstruct(bank.audio(clip))) for clip in held_out]
    if bank.kind == "notes":
        pitches = [float(bank.column("pitch")[clip]) for clip in held_out]
        return [(pitch_name(p), run.sample(1, seed=i, pitch=p)[0]) for i, p in enumerate(pitches)]
    labels = list(run.labels) or [None]
    asked = [labels[i * len(labels) // NEW] if len(labels) > NEW else labels[i % len(labels)] for i in range(NEW)]
    return [(label or "any", run.sample(1, seed=i, label=label)[0]) for i, label in enumerate(asked)]


def page(rows: list[tuple[str, Waveform]]) -> Image.Image:
    """Spectrograms side by side, all of the same length in time, their names above."""
    seconds = min(LONGEST_S, max(sound.seconds for _, sound in rows))
    picture = Image.new("RGB", (COLUMNS * (WIDTH + 6), -(-len(rows) // COLUMNS) * (HEIGHT + TITLE + 4)), "white")
    pen = ImageDraw.Draw(picture)
    for i, (name, sound) in enumerate(rows):
        samples = np.zeros((1, round(seconds * sound.sample_rate)), np.float32)
        part = sound.mono().samples[:, : samples.shape[1]]
        samples[:, : part.shape[1]] = part
        png = spectrogram_png(Waveform(samples, sound.sample_rate), width=WIDTH, height=HEIGHT, range_db=70)
        x, y = i % COLUMNS * (WIDTH + 6), i // COLUMNS * (HEIGHT + TITLE + 4)
        drawn = Image.open(io.BytesIO(png)).convert("RGBA").convert("RGB")
        picture.paste(drawn.resize((WIDTH, HEIGHT)), (x, y + TITLE))
        pen.text((x + 2, y), name[:40], fill="black")
    return picture.quantize(96)


def one_after_the_other(sounds: list[Waveform]) -> Waveform:
    """All of them in one, at 44.1 kHz, with a gap between, each at the same peak."""
    gap = np.zeros((1, round(GAP_S * RATE)), np.float32)
    parts = []
    for sound in sounds:
        heard = resample(sound.mono(), RATE).samples[:, : round(LONGEST_S * RATE)]
        parts += [0.7 * heard / max(float(np.abs(heard).max()), 1e-6), gap]
    return Waveform(np.concatenate(parts, axis=1).astype(np.float32), RATE)


def _name(bank: SoundBank, clip: int) -> str:
    return f"{bank.column('label')[clip] or Path(str(bank.column('path')[clip])).stem}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("bank", type=Path)
    parser.add_argument("name")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--again", action="store_true", help="recordings played again, of a family that samples too")
    asked = parser.parse_args()
    run, bank = Run.load(asked.run), SoundBank.load(asked.bank)
    new = new_sounds(run, bank, again=asked.again)
    held_out = bank.clips("test") if len(bank.clips("test")) else bank.clips("train")
    real = [(f"real: {_name(bank, clip)}", bank.audio(clip)) for clip in spread_evenly(held_out, COLUMNS)]
    folder = make_folder(asked.output)
    page([*real, *new]).save(folder / f"{asked.name}.png", optimize=True)
    write(folder / f"{asked.name}.ogg", one_after_the_other([sound for _, sound in new]))


if __name__ == "__main__":
    main()
