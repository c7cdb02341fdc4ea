"""Classifier from scratch: digits of a speaker it never heard

Trained on five speakers, judged on the sixth, with `--set semitones=3`: pitch shifts in training are what makes voices
alike. The sounds that decide which checkpoint is kept are other recordings of the five.
"""

import os

import numpy as np

from benchmarks import common
from benchmarks.digits import figures, judge, kept_back, recordings

CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "3"))


def main() -> list[dict]:
    common.one_thread()
    parts = recordings()
    _, deciding = kept_back([int(number) for _, _, number in parts.values()])
    right, rows = [], []
    for speaker in sorted({speaker for _, speaker, _ in parts.values()}):

        def split(name: str, speaker: str = speaker) -> str:
            if parts[name][1] == speaker:
                return "test"
            return "validation" if int(parts[name][2]) in deciding else "train"

        right.append(judge(split, minutes=CPU_MINUTES, settings=["semitones=3"]))
        rows.append({"what": f"held-out speaker {speaker}", **figures(*right[-1], minutes=CPU_MINUTES)})
    mean = float(np.mean([r / n for r, n in right]))
    return [*rows, {"what": "held-out speaker, mean of six", "accuracy": f"{mean:.4f}", "target": 0.85}]
