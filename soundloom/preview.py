"""What a run sounds like so far: `previews/` and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundloom import doctor, vitals
from soundloom.audio import Waveform, write
from soundloom.bank import SoundBank
from soundloom.draw import Report, curves_svg, spectrogram_png
from soundloom.models.base import AbstractModel, Codes, Embeds, Resynthesises, Samples
from soundloom.paths import make_folder, replacing
from soundloom.resume import State, keyed_generator
from soundloom.runlog import curves, read_log

CLIPS = 2  # sounds, held out where there are any, that are taken apart and put together again
NEW = 4
LONGEST_S = 6.0


@torch.no_grad()
def listen(model: AbstractModel, bank: SoundBank, clips: Sequence[int], *, seed: int) -> dict[str, Waveform]:
    """Sounds by name: held-out ones beside what the model makes of them, where the family takes sounds apart, and new
    ones where it samples. It has a generator of its own, so listening never changes a run."""
    device, rate = next(model.parameters()).device, model.config.sample_rate
    sounds: dict[str, Waveform] = {}
    for i, clip in enumerate(clips[:CLIPS]):
        samples = bank.audio(clip).samples[:, : int(LONGEST_S * rate)]
        audio = torch.from_numpy(np.ascontiguousarray(samples))[None].to(device)
        if isinstance(model, Codes):
            made = model.decode(model.encode(audio))
        elif isinstance(model, Embeds):
            made = model.render(model.embed(audio), seconds=samples.shape[1] / rate)
        elif isinstance(model, Resynthesises):
            made = model.resynthesise(audio)
        else:
            break
        sounds[f"original-{i}"] = Waveform(samples, rate)
        sounds[f"reconstruction-{i}"] = _waveform(made[0, :, : samples.shape[1]], rate)
    if isinstance(model, Samples):
        new = model.sample(NEW, seconds=None, condition=None, generator=keyed_generator(seed, "preview"))
        sounds |= {f"new-{i}": _waveform(sound, rate) for i, sound in enumerate(new)}
    return sounds


def keep(sounds: dict[str, Waveform], folder: Path, *, step: int) -> None:
    """Audio and pictures in `previews/`, named by step; the originals once."""
    folder = make_folder(folder / "previews")
    for name, sound in sounds.items():
        stem = name if name.startswith("original") else f"step-{step:07d}-{name}"
        write(folder / f"{stem}.wav", sound)
        with replacing(folder / f"{stem}.png") as part:
            part.write_bytes(spectrogram_png(sound))


def report(folder: Path, state: State, sounds: dict[str, Waveform], *, title: str, judged_on: str) -> None:
    """`report.html`: where the run stands, its newest sounds, and the curves of its losses."""
    lines = read_log(folder / "log.jsonl")
    steps = state.config["steps"]
    page = Report(title, f"{state.finished or 'training'} · step {state.step} of {steps}")
    page.section("Where it stands")
    facts = [
        ("steps", f"{state.step} of {steps}"),
        ("minutes", f"{state.elapsed_s / 60:.1f}"),
        ("CPU-minutes", f"{state.cpu_s / 60:.1f}"),
        (f"best score (lower is better), on {judged_on}", "–" if state.best is None else f"{state.best:.3f}"),
    ]
    page.table(["", "figure"], [list(row) for row in facts])
    _diagnosis(page, lines, state)
    if sounds:
        page.section("How it sounds")
        page.text(
            f"Originals are {judged_on}; below each stands what the model makes of it. New sounds come from nothing."
        )
    for name, sound in sounds.items():
        page.sound(name, sound)
    for kind, words in (
        ("validation", f"Losses on {judged_on}"),
        ("train", "Losses in training"),
        ("doctor", "What the doctor measures"),
    ):
        shown = curves(lines, kind)
        if shown:
            page.section(words)
        for name, points in shown.items():
            # one picture a loss: their sizes differ by orders of magnitude
            title = vitals.WORDS.get(name, name)
            page.figure(curves_svg({name: points}, title=title, x_label="step", y_label=name))
    page.save(folder / "report.html")


def _diagnosis(page: Report, lines: Sequence[Mapping[str, Any]], state: State) -> None:
    """What the training doctor says now, and said before."""
    page.section("What the doctor says")
    findings = doctor.diagnose(doctor.History.of(lines, state.config))
    rows = [[finding.name, finding.words, finding.advice] for finding in findings]
    page.table(["verdict, the gravest first", "what is seen", "what to do"], rows)
    course = [line for line in lines if "verdict" in line]
    if course:
        page.text("What it said at each validation:")
        page.table(["step", "verdict", "why"], [[line["step"], line["verdict"], line["words"]] for line in course])


def _waveform(sound: torch.Tensor, sample_rate: int) -> Waveform:
    return Waveform(sound.float().clamp(-1, 1).cpu().numpy(), sample_rate)
