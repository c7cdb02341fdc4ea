"""How well the codec re-synthesises what it never heard

25 CPU-minutes of training, default settings, one seed; every sound is taken apart and put together again from its audio
alone, the pitch tracked. The piano is judged on every fifth pitch, none of which was trained on, in both its layers;
the drums on the sounds that the bank's own split holds out. `SOUNDLOOM_FOLDS=5` runs all five folds of the piano,
`SOUNDLOOM_CPU_MINUTES` sets another budget, `SOUNDLOOM_KEEP` a folder in which banks and runs stay.
"""

import contextlib
import csv
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import common
from soundloom.audio import Waveform
from soundloom.bank import SoundBank
from soundloom.evaluate import evaluate
from soundloom.metrics import partials_found
from soundloom.run import Run
from soundloom.train import TrainConfig, fit

CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "25"))
FOLDS = int(os.environ.get("SOUNDLOOM_FOLDS", "1"))
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
LAYERS = ("FF", "PP")
Note = tuple[str, int]  # layer, MIDI number as written


def main() -> list[dict]:
    rows = []
    with kept_folder() as folder:
        for fold in range(FOLDS):
            rows += piano(folder, fold)
        rows += drums(folder)
    return rows


@contextlib.contextmanager
def kept_folder() -> Iterator[Path]:
    if kept := os.environ.get("SOUNDLOOM_KEEP"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def _train(bank: SoundBank, folder: Path) -> Run:
    fit("codec", bank, TrainConfig(cpu_minutes=CPU_MINUTES, threads=1), folder)
    return Run.load(folder)


def notes(bank: SoundBank) -> dict[Note, int]:
    """The clip of each note, by what its file name says."""
    found = {}
    for clip, path in enumerate(bank.column("path")):
        layer, letter, sharp, octave = re.fullmatch(r"(\w\w) ([A-G])(#?)(-?\d)\.flac", path).groups()
        found[layer, 12 * (int(octave) + 1) + SEMITONES[letter] + bool(sharp)] = clip
    return found


def piano_bank(folder: Path, fold: int) -> tuple[SoundBank, set[int]]:
    """The piano with every fifth pitch held out, in both its layers, and these pitches as they are written."""
    source, split = common.sounds("piano"), folder / f"split-{fold}.csv"
    every = SoundBank.scan(source, folder / "piano-all")
    pitches = sorted({pitch for _, pitch in notes(every)})
    held_out = {pitch for i, pitch in enumerate(pitches) if i % 5 == (fold + 2) % 5}
    by_path = {every.column("path")[clip]: note for note, clip in notes(every).items()}
    with split.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "split"])
        for i, path in enumerate(sorted(p.name for p in source.glob("*.flac"))):
            rest = "validation" if i % 25 == 0 else "train"
            table.writerow([path, "test" if by_path[path][1] in held_out else rest])
    return SoundBank.scan(source, folder / f"piano-{fold}", split=split), held_out


def piano(folder: Path, fold: int) -> list[dict]:
    bank, held_out = piano_bank(folder, fold)
    run = _train(bank, folder / f"run-piano-{fold}")
    name = f"piano, fold {fold}"
    result = evaluate(run, bank, split="test", most=1000)
    figures = result.figures()
    where = notes(bank)
    tested = [note for note in where if note[1] in held_out]
    by_layer = [
        _found(bank.audio(where["FF", p]), bank.audio(where["PP", p]))
        for p in sorted(held_out)
        if ("FF", p) in where and ("PP", p) in where
    ]
    transposed, shifted = [], []
    for layer, pitch in tested:
        for semitones in (-2, 2):
            if (layer, pitch + semitones) in where:
                real = bank.audio(where[layer, pitch + semitones])
                made = run.reconstruct(bank.audio(where[layer, pitch]), transpose=semitones)
                transposed.append(_found(_at_peak(real), _at_peak(made)))
                played = _played_faster(bank.audio(where[layer, pitch]), 2 ** (semitones / 12))
                shifted.append(_found(_at_peak(real), _at_peak(played)))
    tracked, told = chords(run, bank, [where[note] for note in sorted(tested, key=lambda note: note[1])])
    return [
        {"sounds": name, "what": "log-mel distance", "figure": figures["log_mel_distance"], "target": "<= 0.50",
         "beside it": f"noise with its envelope {np.mean([sound.noise for sound in result.sounds]):.2f}"},
        {"sounds": name, "what": "partials found", "figure": figures["partials_found"], "target": ">= 0.60",
         "beside it": f"the other layer of the same note {np.mean(by_layer):.2f}"},
        {"sounds": name, "what": "in tune within 50 cents", "figure": figures["in_tune"], "target": ">= 0.90"},
        {"sounds": name, "what": "onset off, ms (median)", "figure": figures["onset_off_ms"], "target": "<= 3"},
        {"sounds": name, "what": "transposed by 2, partials found in the real neighbour", "figure": np.mean(transposed),
         "target": ">= 0.40", "beside it": f"the recording played faster or slower {np.mean(shifted):.2f}"},
        {"sounds": name, "what": "three-note chords, partials found", "figure": tracked, "target": ">= 0.45",
         "beside it": f"given each note's own pitch {told:.2f}"},
    ]  # fmt: skip


def chords(run: Run, bank: SoundBank, clips: list[int]) -> tuple[float, float]:
    """Partials found in chords of three held-out notes some way apart: pitches tracked in the mixture, and given."""
    tracked, told = [], []
    for low in range(0, len(clips) - 8, 2):
        three = [clips[low], clips[low + 4], clips[low + 8]]
        length = min(len(bank.audio(clip).samples[0]) for clip in three)
        chord = np.mean([bank.audio(clip).samples[:, :length] for clip in three], axis=0, dtype=np.float32)
        audio = torch.from_numpy(chord)
        hop = run.model.config.hop_length
        own = torch.stack([torch.from_numpy(np.array(bank.f0(clip)[0])[: -(-length // hop)]) for clip in three])[None]
        made = run.model.decode(run.model.encode(audio[None], f0_hz=own))[0, :, :length].numpy()
        mixture = Waveform(chord, bank.sample_rate)
        tracked.append(_found(mixture, run.reconstruct(mixture, voices=3)))
        told.append(_found(mixture, Waveform(made, bank.sample_rate)))
    return float(np.mean(tracked)), float(np.mean(told))


def drums(folder: Path) -> list[dict]:
    source = folder / "drums"
    for name in ("drum-machines", "one-shots"):
        shutil.copytree(common.sounds(name), source / name, dirs_exist_ok=True, copy_function=shutil.copyfile)
    bank = SoundBank.scan(source, folder / "drums-bank")
    result = evaluate(_train(bank, folder / "run-drums"), bank, split="test", most=1000)
    figures = result.figures()
    name = f"drum machines and one-shots ({len(result.sounds)} held out)"
    return [
        {"sounds": name, "what": "log-mel distance", "figure": figures["log_mel_distance"], "target": "<= 0.60",
         "beside it": f"noise with its envelope {np.mean([sound.noise for sound in result.sounds]):.2f}"},
        {"sounds": name, "what": "partials found", "figure": figures["partials_found"]},
        {"sounds": name, "what": "onset off, ms (median)", "figure": figures["onset_off_ms"], "target": "<= 3"},
    ]  # fmt: skip


def _found(real: Waveform, made: Waveform) -> float:
    return partials_found(real.samples[0], made.samples[0], sample_rate=real.sample_rate)


def _at_peak(sound: Waveform) -> Waveform:
    return Waveform(0.5 * sound.samples / max(float(np.abs(sound.samples).max()), 1e-9), sound.sample_rate)


def _played_faster(sound: Waveform, ratio: float) -> Waveform:
    """The plain way to transpose: as a tape does."""
    at = np.arange(0, sound.samples.shape[1] - 1, ratio)
    played = np.interp(at, np.arange(sound.samples.shape[1]), sound.samples[0])
    return Waveform(played[None].astype(np.float32), sound.sample_rate)
