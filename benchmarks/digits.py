"""Classifier from scratch: spoken digits

The default classifier, trained with `soundloom train --family classifier` on 8 kHz speech of six speakers. Five
recordings of each speaker and digit are held out (300 sounds, three seeds), or one whole speaker (one seed each). The
sounds that decide which checkpoint is kept are neither trained on nor judged.
"""

import csv
import os
import re
import tempfile
from collections.abc import Callable
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
CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "5"))


def main() -> list[dict]:
    common.one_thread()
    names = sorted(path.name for path in common.sounds("spoken-digits").glob("*.wav"))
    parts = {name: NAME.fullmatch(name).groups() for name in names}  # type: ignore[union-attr]
    indices = sorted({int(index) for _, _, index in parts.values()})
    held_out, deciding = indices[::9], indices[1::9]

    def by_index(name: str) -> str:
        index = int(parts[name][2])
        return "test" if index in held_out else "validation" if index in deciding else "train"

    rows, right = [], []
    for seed in SEEDS:
        right.append(_accuracy(names, by_index, seed=seed))
        print(f"seed {seed}: {right[-1]}", flush=True)
        rows.append({"what": f"held-out recordings, seed {seed}", **_figures(*right[-1])})
    mean = float(np.mean([r / n for r, n in right]))
    rows.append({"what": "held-out recordings, mean of the seeds", "accuracy": f"{mean:.4f}", "target": 0.993})
    right = []
    for speaker in sorted({speaker for _, speaker, _ in parts.values()}):

        def by_speaker(name: str, speaker: str = speaker) -> str:
            if parts[name][1] == speaker:
                return "test"
            return "validation" if int(parts[name][2]) in deciding else "train"

        right.append(_accuracy(names, by_speaker, seed=0))
        print(f"{speaker}: {right[-1]}", flush=True)
        rows.append({"what": f"held-out speaker {speaker}", **_figures(*right[-1])})
    mean = float(np.mean([r / n for r, n in right]))
    return [*rows, {"what": "held-out speaker, mean of six", "accuracy": f"{mean:.4f}", "target": 0.85}]


def _figures(right: int, n: int) -> dict:
    low, high = share_interval(right, n)
    return {"sounds": n, "accuracy": f"{right / n:.4f} [{low:.3f}, {high:.3f}]", "CPU-minutes given": CPU_MINUTES}


def _accuracy(names: list[str], split: Callable[[str], str], *, seed: int) -> tuple[int, int]:
    """How many of the split "test" a classifier trained on the split "train" gets right, and how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "split.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "split"), *((name, split(name)) for name in names)])
        bank = SoundBank.scan(common.sounds("spoken-digits"), Path(folder) / "bank", label_from=r"^(\d)_", split=table)
        config = TrainConfig(cpu_minutes=CPU_MINUTES, seed=seed, threads=1)
        fit("classifier", bank, config, Path(folder) / "run")
        model = checkpoint.load(Path(folder) / "run", device="cpu")
        assert isinstance(model, Classifier)
        right, clips = 0, bank.clips("test")
        for some in np.array_split(clips, 10):
            batch = bank.take(model.batch_spec, some.tolist())
            right += int((model.classify(batch.audio[:, 0]).logits.argmax(1) == batch.condition.label).sum())
        return right, len(clips)
