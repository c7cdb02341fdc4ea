"""Evaluating new sounds

1000 new sounds against 1000 training sounds and 100 held-out ones, all of the built-in bank with different seeds and a
second long or less, with the bundled ear; the model's own time is not in it. A stand-in for a model plays sounds that
were made before: unseen ones, as a perfect model would, and the training sounds themselves, as one that learnt by
heart. The kernel distance, the overlaps and the memorisation test must tell the two apart.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import common
from soundloom import factory
from soundloom.audio import Waveform, read
from soundloom.bank import SoundBank
from soundloom.condition import Condition
from soundloom.ears import Ear
from soundloom.errors import ModelError
from soundloom.evaluate import Evaluation, Judges, evaluate

TRAIN, HELD_OUT, NEW = 1000, 100, 1000
SEEDS = 7  # of the built-in bank: about 300 sounds each


class Player:
    """What `evaluate` asks a run for, by a model that plays given sounds of the label it is asked for."""

    family = "stand-in"

    def __init__(self, bank: SoundBank, sounds: dict[str, list[Waveform]]) -> None:
        self.folder, self.labels, self.sample_rate, self.model = bank.folder, bank.labels, bank.sample_rate, self
        self.sounds, self.played = sounds, dict.fromkeys(sounds, 0)

    def sample(self, n: int, **asked: object) -> None:
        """Only so that it counts as a family that samples."""

    def sample_as(self, condition: Condition, *, seed: int) -> list[Waveform]:
        return [self._next(self.labels[label]) for label in condition.label.tolist()]

    def _next(self, label: str) -> Waveform:
        self.played[label] += 1
        return self.sounds[label][self.played[label] % len(self.sounds[label])]


def main() -> list[dict]:
    try:
        ear = Ear.bundled()
    except ModelError as error:
        raise common.Missing(str(error)) from None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bank, unseen = made(folder)
        by_heart: dict[str, list[Waveform]] = {label: [] for label in bank.labels}
        for clip in bank.clips("train"):
            by_heart[bank.column("label")[clip]].append(bank.audio(int(clip)))
        rows = []
        for name, sounds in (("unseen sounds of the same kinds", unseen), ("the training sounds", by_heart)):
            start = time.process_time()
            result = evaluate(Player(bank, sounds), bank, samples=NEW, judges=Judges(ear=ear))
            rows.append(row(name, result, time.process_time() - start))
        start = time.process_time()
        evaluate(Player(bank, unseen), bank, samples=NEW, judges=Judges(ear=ear, classifier=ear))
        rows.append({"new sounds": "the first again, with a classifier", "CPU s": time.process_time() - start})
    return rows


def row(name: str, result: Evaluation, seconds: float) -> dict:
    figures = result.figures()
    return {
        "new sounds": name,
        "CPU s": seconds,
        "target": 60,
        "kernel distance": result["distances"]["kernel_distance"].text,
        "Fréchet distance": result["distances"]["frechet_distance"].text,
        "precision": figures["precision"],
        "coverage": figures["coverage"],
        "C_T": figures["copying_z"],
        "verdict": result["honesty"].words.split(".")[0],
    }


def made(folder: Path) -> tuple[SoundBank, dict[str, list[Waveform]]]:
    """A bank of training and held-out sounds, and further sounds by label."""
    paths = []
    for seed in range(SEEDS):
        factory.make(folder / "sounds" / str(seed), seed=seed)
        paths += sorted((folder / "sounds" / str(seed)).glob("*.wav"))
    np.random.default_rng(0).shuffle(paths)
    rows, unseen = ["path,split"], {}
    for i, path in enumerate(paths):
        if i < TRAIN + HELD_OUT:
            rows.append(f"{path.relative_to(folder / 'sounds')},{'train' if i < TRAIN else 'test'}")
            continue
        unseen.setdefault(path.name.split("_")[0], []).append(read(path))
        path.unlink()
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    bank = SoundBank.scan(
        folder / "sounds", folder / "bank", split=folder / "split.csv", label_from=r"(?:.*/)?([a-z]+)_"
    )
    return bank, unseen


if __name__ == "__main__":
    common.print_table(main())
