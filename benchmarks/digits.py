"""Classifier from scratch: spoken digits

The default classifier, trained with `soundloom train --family classifier` on 8 kHz speech of six speakers. Five
recordings of each speaker and digit are held out (300 sounds). The sounds that decide which checkpoint is kept are
neither trained on nor judged.
"""

import csv
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from soundloom import checkpoint
from soundloom.bank import SoundBank
from soundloom.figures import share_interval
from soundloom.models.classifier import Classifier
from soundloom.train import TrainConfig, fit

NAME = re.compile(r"(\d)_(\w+)_(\d+)\.wav")
SEEDS = (0, 1, 2)
CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "6"))


def main() -> list[dict]:
    common.one_thread()
    index = {name: int(number) for name, (_, _, number) in recordings().items()}
    held_out, deciding = kept_back(list(index.values()))

    def split(name: str) -> str:
        return "test" if index[name] in held_out else "validation" if index[name] in deciding else "train"

    right, rows = [], []
    for seed in SEEDS:
        right.append(judge(split, minutes=CPU_MINUTES, seed=seed))
        rows.append({"what": f"held-out recordings, seed {seed}", **figures(*right[-1], minutes=CPU_MINUTES)})
    mean = float(np.mean([r / n for r, n in right]))
    return [*rows, {"what": "held-out recordings, mean of the seeds", "accuracy": f"{mean:.4f}", "target": 0.993}]


def recordings() -> dict[str, tuple[str, str, str]]:
    """Digit, speaker and number of each recording, by its file name."""
    names = sorted(path.name for path in common.sounds("spoken-digits").glob("*.wav"))
    return {name: NAME.fullmatch(name).groups() for name in names}  # type: ignore[union-attr,misc]


def kept_back(numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """The numbers of the recordings that are judged, and of those that decide which checkpoint is kept."""
    every = sorted(set(numbers))
    return every[::9], every[1::9]


def figures(right: int, n: int, *, minutes: float) -> dict:
    low, high = share_interval(right, n)
    print(f"{right} of {n}", flush=True)
    return {"sounds": n, "accuracy": f"{right / n:.4f} [{low:.3f}, {high:.3f}]", "CPU-minutes given": minutes}


def judge(
    split: Callable[[str], str], *, minutes: float, seed: int = 0, settings: Sequence[str] = ()
) -> tuple[int, int]:
    """How many of the split "test" a classifier trained on the split "train" gets right, and how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "split.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "split"), *((name, split(name)) for name in recordings())])
        bank = SoundBank.scan(common.sounds("spoken-digits"), Path(folder) / "bank", label_from=r"^(\d)_", split=table)
        config = TrainConfig(cpu_minutes=minutes, seed=seed, threads=1)
        fit("classifier", bank, config, Path(folder) / "run", settings=settings)
        model = checkpoint.load(Path(folder) / "run", device="cpu")
        assert isinstance(model, Classifier)
        right, clips = 0, bank.clips("test")
        for some in np.array_split(clips, 10):
            batch = bank.take(model.batch_spec, some.tolist())
            right += int((model.classify(batch.audio[:, 0]).logits.argmax(1) == batch.condition.label).sum())
        return right, len(clips)
