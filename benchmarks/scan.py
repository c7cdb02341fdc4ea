"""Scanning a folder

3000 one-second sounds (stereo, 44.1 and 48 kHz), every one different; scanning again; drawing batches from the bank.
"""

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks import common
from soundloom.bank import BatchSpec, SoundBank

FILES, SECONDS = 3000, 1.0


def main() -> list[dict]:
    common.one_thread()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "sounds", Path(temporary) / "bank"
        _make(folder)
        for what in ("scan", "scan again, nothing changed", "scan again, 1 file changed"):
            if what.endswith("1 file changed"):
                (folder / "kind0_00000.wav").write_bytes((folder / "kind1_00001.wav").read_bytes()[:-4000])
            seconds = _cpu(lambda: SoundBank.scan(folder, out))
            rows.append({"what": what, "files": FILES, "CPU-seconds": seconds, "files per CPU-second": FILES / seconds})
        rows[0]["target"] = 40
        bank = SoundBank.load(out)
        rows += [_draw(bank, semitones) for semitones in (0.0, 2.0)]
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"what": "peak memory of the process, mapped pages and torch included", "MB": peak_mb})
    return rows


def _draw(bank: SoundBank, semitones: float) -> dict:
    spec = BatchSpec(16, 66150, 512, "random", semitones=semitones, gain_db=6.0)
    generator = torch.Generator().manual_seed(0)
    seconds = common.cpu_seconds(lambda: bank.draw(spec, split="train", generator=generator), repeats=40)
    return {"what": f"draw 16 crops of 1.5 s, ± {semitones:g} semitones", "CPU-ms": 1e3 * seconds, "target": 25}


def _make(folder: Path) -> None:
    """Decaying notes and noises, every one different."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(FILES):
        rate = 48000 if i % 3 == 0 else 44100
        t = np.arange(round(SECONDS * rate)) / rate
        hz = 55 * 2 ** rng.uniform(0, 5)
        x = np.sin(2 * np.pi * hz * t) + 0.4 * np.sin(4 * np.pi * hz * t + rng.uniform(0, 6))
        x += rng.uniform(0, 0.5) * rng.standard_normal(len(t))
        x *= 0.3 * np.exp(-t * rng.uniform(1, 10))
        soundfile.write(folder / f"kind{i % 7}_{i:05}.wav", np.stack([x, 0.9 * x], 1), rate, subtype="PCM_16")


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
