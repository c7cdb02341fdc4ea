"""What `import soundloom as sl` offers: the main way in a few calls, shared by the command line and by scripts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundloom import audio
from soundloom.audio import Waveform
from soundloom.bank import SoundBank
from soundloom.condition import AS_LEARNT, Manner
from soundloom.features import describe
from soundloom.paths import make_folder, replacing
from soundloom.presets import Preset
from soundloom.recipe import Choice, decide, stages
from soundloom.render import fit_peak
from soundloom.run import Run
from soundloom.runlog import Progress
from soundloom.train import TrainConfig


def scan(
    folder: Path | str,
    out: Path | str,
    *,
    label_from: str | None = None,
    labels: Path | str | None = None,
    split: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SoundBank:
    """A bank in the folder `out`, from the sounds in `folder`. Again on the same folders: only what changed is read."""
    return SoundBank.scan(folder, out, label_from=label_from, labels=labels, split=split, progress=progress)


def bank_facts(bank: SoundBank) -> dict[str, Any]:
    """A bank in numbers, for `--json`."""
    return {
        "folder": str(bank.folder),
        "kind": bank.kind,
        "sample_rate": bank.sample_rate,
        "channels": bank.channels,
        "clips": len(bank),
        "seconds": round(float(np.nansum(bank.column("seconds"))), 3),
        "splits": {name: len(bank.clips(name)) for name in ("train", "validation", "test")},
        "label_rule": bank.label_rule,
        "labels": {label: int((bank.column("label") == label).sum()) for label in bank.labels},
        "pitched": int(np.isfinite(np.asarray(bank.column("pitch"), float)).sum()),
        "name_pitch_offset_semitones": bank.name_pitch_offset_semitones,
        "left_out": [{"path": path, "reason": reason} for path, reason in bank.left_out],
    }


def bank_words(bank: SoundBank) -> str:
    """A bank in a few lines, for people."""
    facts = bank_facts(bank)
    labels = ", ".join(f"{name} {n}" for name, n in sorted(facts["labels"].items(), key=lambda item: -item[1])[:12])
    more = f" and {len(bank.labels) - 12} more" if len(bank.labels) > 12 else ""
    lines = [
        f"{facts['clips']} sounds ({bank.kind}), {facts['seconds'] / 60:.1f} minutes at {bank.sample_rate} Hz, "
        f"{facts['pitched']} with a pitch",
        f"labels: {labels}{more} ({bank.label_rule})" if labels else f"no labels ({bank.label_rule})",
        "split: " + ", ".join(f"{name} {n}" for name, n in facts["splits"].items()),
    ]
    if bank.name_pitch_offset_semitones:
        offset = bank.name_pitch_offset_semitones
        lines.append(f"the sounds are {offset:+g} semitones off the notes in their names: the measured pitch is used")
    if bank.left_out:
        path, reason = bank.left_out[0]
        lines.append(f"left out: {len(bank.left_out)}, for example {' '.join(path.split())} ({reason})")
    return "\n".join(lines)


def train(
    bank: SoundBank | Path | str,
    folder: Path | str,
    *,
    family: str | Preset | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str | None = None,
    settings: Sequence[str] = (),
) -> Run:
    """Trains a model in `folder` and opens it. The same call goes on with a run that was cut short.

    Give `minutes` or `steps`; neither means ten minutes. No `family`: what suits the bank. A preset (one of
    `presets.PRESETS`, or your own) trains its family, after a codec where that needs one. `settings` are `key=value`
    texts for the family's config.
    """
    bank = bank if isinstance(bank, SoundBank) else SoundBank.load(bank)
    if minutes is None and steps is None:
        minutes = 10.0
    config = TrainConfig(minutes=minutes, steps=steps, seed=seed, device=device)
    choice = Choice(settings=settings)
    choice = replace(choice, preset=family) if isinstance(family, Preset) else replace(choice, family=family)
    for stage in stages(decide(bank, choice, minutes=minutes), bank, config, folder):
        stage.fit(bank)
    return Run.load(folder, device=device)


def write_sounds(sounds: Sequence[Waveform], folder: Path | str, *, digits: int = 2) -> list[Path]:
    """Numbered WAV files, 00.wav and on."""
    folder = make_folder(folder)
    files = [folder / f"{i:0{digits}d}.wav" for i in range(len(sounds))]
    for file, sound in zip(files, sounds, strict=True):
        audio.write(file, fit_peak(sound)[0])
    return files


@dataclass(frozen=True)
class Wish:
    """What new sounds are asked to be: see `Run.sample`."""

    label: str | None = None
    pitch: float | str | None = None
    seconds: float | None = None
    text: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    manner: Manner = AS_LEARNT

    def document(self) -> dict[str, Any]:
        """Label, pitch and seconds in any case, of all else what was asked for."""
        asked = {"label": self.label, "pitch": self.pitch, "seconds": self.seconds, **self.values}
        asked |= {"text": self.text} if self.text is not None else {}
        return asked | {name: value for name, value in asdict(self.manner).items() if value != getattr(AS_LEARNT, name)}


ANYTHING = Wish()


def write_samples(run: Run, folder: Path | str, n: int, wish: Wish = ANYTHING, *, seed: int = 0) -> dict[str, Any]:
    """New sounds as 000.wav and on, and `samples.json`: what was asked for, and what came out, measured."""
    folder = make_folder(folder)
    asked = run.asked(n, label=wish.label, pitch=wish.pitch, text=wish.text, values=wish.values)
    sounds = run.sample_as(asked, seed=seed, seconds=wish.seconds, manner=wish.manner)
    files = write_sounds(sounds, folder, digits=3)
    doubt = run.doubt(asked)
    document = {
        "run": str(run.folder),
        "family": run.family,
        "seed": seed,
        "asked": wish.document(),
        "warnings": [doubt] if doubt else [],
        "sounds": [
            {"file": file.name, "seconds": round(sound.seconds, 4), "measured": measured(sound)}
            for file, sound in zip(files, sounds, strict=True)
        ],
    }
    with replacing(folder / "samples.json") as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def measured(sound: Waveform) -> dict[str, float | None]:
    """What can be said of a sound: pitch (MIDI), loudness, brightness, noisiness, attack and decay; null: not there."""
    samples = torch.from_numpy(sound.mono().samples)
    facts = describe(samples, torch.tensor([samples.shape[1]]), sample_rate=sound.sample_rate)
    names = ("pitch", "pitch_confidence", "loudness_lufs", "brightness_hz", "noisiness", "attack_s", "decay_s")
    values = {name: float(getattr(facts, name)[0]) for name in names}
    return {name: round(value, 4) if abs(value) < float("inf") else None for name, value in values.items()}


def shown_on(bar: Callable[[float, str], None]) -> Callable[[Progress], None]:
    """What `fit` calls as it goes on, shown on a progress bar in words."""

    def show(now: Progress) -> None:
        score = f", score {now.score:.3f}" if now.score is not None else ""
        score += f" ({now.verdict})" if now.verdict else ""
        left = f"{now.eta_s / 60:.0f} min" if now.eta_s >= 90 else f"{now.eta_s:.0f} s"
        words = f"step {now.step} of {now.steps}{score}, {now.audio_s_per_s:.0f} s of sound a second, {left} left"
        bar(now.step / max(now.steps, 1), words if now.doing == "training" else now.doing)

    return show
