"""A page of spectrograms, some sounds a label, to look at: `python -m training.sheet FOLDER -o sheet.png`."""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from soundloom.audio import Waveform
from soundloom.draw import spectrogram_png
from training.clips import LABELS, SAMPLE_RATE

WIDTH, HEIGHT, SECONDS = 200, 130, 1.0


def sheet(folder: Path, *, each: int, labels: tuple[str, ...], source: str | None, seed: int) -> Image.Image:
    """A row of `each` spectrograms a label (0 to 16 kHz upwards, the first second), drawn at random."""
    facts = np.load(folder / "clips.npz")
    audio = np.memmap(folder / "audio.i16", np.int16, "r")
    rng = np.random.default_rng(seed)
    page = Image.new("RGB", (each * (WIDTH + 6), len(labels) * (HEIGHT + 18)), "white")
    pen = ImageDraw.Draw(page)
    for row, label in enumerate(labels):
        fits = facts["label"] == label
        if source is not None:
            fits &= facts["source"] == source
        found = np.flatnonzero(fits)
        for column, index in enumerate(rng.permutation(found)[:each]):
            start, frames = facts["start"][index], facts["frames"][index]
            n = round(SECONDS * SAMPLE_RATE)
            samples = np.zeros((1, n), np.float32)
            part = audio[start : start + min(frames, n)]
            samples[0, : len(part)] = part / 32768
            png = spectrogram_png(Waveform(samples, SAMPLE_RATE), width=WIDTH, height=HEIGHT, range_db=60)
            x, y = column * (WIDTH + 6), row * (HEIGHT + 18)
            page.paste(Image.open(io.BytesIO(png)).convert("RGB").resize((WIDTH, HEIGHT)), (x, y + 16))
            pen.text((x + 2, y + 2), f"{label}: {facts['group'][index]} {frames / SAMPLE_RATE:.2f}s", fill="black")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--labels", nargs="+", default=LABELS)
    parser.add_argument("--source")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    page = sheet(asked.folder, each=asked.each, labels=tuple(asked.labels), source=asked.source, seed=asked.seed)
    page.save(asked.output)


if __name__ == "__main__":
    main()
