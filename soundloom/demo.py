"""`soundloom demo`: the whole way in one go, from a folder of sounds to a page on which everything can be heard."""

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundloom import api, factory
from soundloom.audio import Waveform, write
from soundloom.bank import SoundBank
from soundloom.draw import Report, curves_svg, histogram_svg, scatter_svg
from soundloom.errors import ConfigError
from soundloom.evaluate import Evaluation, evaluate
from soundloom.instruments.neural import OneShot
from soundloom.models.base import Embeds
from soundloom.paths import make_folder
from soundloom.phrase import Part, compose, merged
from soundloom.render import fit_peak, render
from soundloom.run import Run
from soundloom.runlog import curves, read_log
from soundloom.score import pitch_name
from soundloom.terminal import Terminal, counted
from soundloom.train import RunResult, TrainConfig, fit

NEW_SOUNDS = 16
MORPH_STEPS = 8
RESYNTHESES = 4
CODEC_SHARE = 0.25  # of the training time: a re-synthesis is soon recognisable, new sounds need longer
JUDGED = 24  # held-out sounds per model


class _Clock:
    """How long each step took, in the order they were taken."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        self.terminal.say(f"{name}: {self.seconds[name]:.1f} s")


def run_demo(
    folder: Path | None, out: Path, *, minutes: float, seed: int, device: str | None, terminal: Terminal
) -> dict[str, Any]:
    """Does it all and returns what it did, for `--json`. Again with the same settings goes on where it stopped."""
    if not 0.05 <= minutes <= 60 * 24:
        raise ConfigError(f"a demo of {minutes:g} minutes was asked for: it goes from 0.05 to 1440")
    out = make_folder(out)
    clock = _Clock(terminal)
    name = "its own sounds" if folder is None else folder.resolve().name
    if folder is None:
        folder = out / "factory"
        with clock.step("make sounds"):
            factory.make(folder, seed=seed)
            (folder / "LICENSE").write_text("CC0 1.0: made by Soundloom\n", encoding="utf-8")
    with clock.step("scan"), terminal.bar("scanning") as bar:
        bank = api.scan(folder, out / "bank", progress=counted(bar))
    terminal.say(api.bank_words(bank))

    runs, results = {}, {}
    for family, share in (("vae", 1 - CODEC_SHARE), ("codec", CODEC_SHARE)):
        config = TrainConfig(minutes=minutes * share, seed=seed, device=device)
        with clock.step(f"train the {family}"), terminal.bar(f"training the {family}") as bar:
            results[family] = fit(family, bank, config, out / family, progress=api.shown_on(bar))
        runs[family] = Run.load(out / family, device=device)

    with clock.step("sample"):
        document = api.write_samples(runs["vae"], out / "sounds", NEW_SOUNDS, seed=seed)
        new = runs["vae"].sample(NEW_SOUNDS, seed=seed)
    with clock.step("morph"):
        ends = _two_apart(bank)
        morphed = runs["vae"].morph(bank.audio(ends[0]), bank.audio(ends[1]), steps=MORPH_STEPS, seed=seed)
        api.write_sounds(morphed, out / "morph")
    with clock.step("re-synthesise"):
        resyntheses = [_resynthesis(runs["codec"], bank, clip) for clip in _held_out(bank)[:RESYNTHESES]]
    with clock.step("render a phrase"):
        parts = compose(bank)
        voices = {i: OneShot(runs["vae"], label=part.label, seed=seed) for i, part in enumerate(parts)}
        score = merged(parts)
        phrase = fit_peak(render(score, voices, sample_rate=runs["vae"].sample_rate, seed=seed))[0]
        write(out / "phrase.wav", phrase)
    judged = {}
    with clock.step("evaluate"), terminal.bar("evaluating") as bar:
        split = "test" if len(bank.clips("test")) else "train"
        for family, run in runs.items():
            judged[family] = evaluate(run, bank, split=split, most=JUDGED, samples=0, progress=counted(bar))

    took = sum(clock.seconds.values())
    page = Report(f"Soundloom: {name}", f"{len(bank)} sounds in, new ones out, in {took / 60:.1f} minutes")
    _show_new(page, new, document)
    _show_phrase(page, phrase, parts)
    _show_morph(page, morphed, [str(bank.column("path")[clip]) for clip in ends])
    _show_resyntheses(page, resyntheses)
    _show_figures(page, results, judged)
    _show_bank(page, bank, runs["vae"])
    _show_training(page, out, results)
    page.section("How long it took")
    page.table(["step", "seconds"], [[step, round(seconds, 1)] for step, seconds in clock.seconds.items()])
    page.section("What to try next")
    page.text("\n".join(_next(out)))
    page.save(out / "report.html")
    terminal.say("\n".join([f"page: {out / 'report.html'}", "", "Try next:", *(f"  {line}" for line in _next(out))]))
    return {
        "report": str(out / "report.html"),
        "bank": api.bank_facts(bank),
        "seconds": clock.seconds,
        "training": {family: asdict(result) for family, result in results.items()},
        "figures": {family: result.figures() for family, result in judged.items()},
        "sounds": document["sounds"],
    }


def _next(out: Path) -> list[str]:
    vae, codec = shlex.quote(str(out / "vae")), shlex.quote(str(out / "codec"))
    return [
        f"soundloom sample {vae} -n 8 --pitch C3 -o more-sounds",
        f'soundloom render "C3 E3 G3 [C3 E3 G3]:3" --map {vae} -o chord.wav',
        f"soundloom reconstruct {codec} A-RECORDING.wav --transpose 3 -o transposed.wav",
        "soundloom demo MY-FOLDER -o my-out     # the same with your own sounds; --minutes 60 makes it better",
    ]


def _held_out(bank: SoundBank) -> list[int]:
    """Held-out clips, the labels taking turns; of a bank too small to hold any out, all."""
    clips = bank.clips("test") if len(bank.clips("test")) else bank.clips()
    clips = clips[np.random.default_rng(0).permutation(len(clips))]
    taken: dict[str, int] = {}  # how many of a label came before: one of each label first, then the second ones
    rank = []
    for label in bank.column("label")[clips]:
        rank.append(taken.get(str(label), 0))
        taken[str(label)] = rank[-1] + 1
    return [int(clip) for clip in clips[np.argsort(rank, kind="stable")]]


def _two_apart(bank: SoundBank) -> tuple[int, int]:
    """Two held-out clips, of different labels where there are several."""
    clips = _held_out(bank)
    return clips[0], clips[min(1, len(clips) - 1)]


def _resynthesis(run: Run, bank: SoundBank, clip: int) -> tuple[str, Waveform, Waveform, Waveform]:
    """A name, the sound, its re-synthesis, and that three semitones up."""
    sound = bank.audio(clip)
    return str(bank.column("path")[clip]), sound, run.reconstruct(sound), run.reconstruct(sound, transpose=3)


def _show_figures(page: Report, results: Mapping[str, RunResult], judged: Mapping[str, Evaluation]) -> None:
    page.section("How good it is")
    heard = "held-out sounds, which it never heard in training,"
    if all(result.facts.split == "train" for result in judged.values()):
        heard = "sounds it was trained on (the folder has too few to hold any out, so this flatters)"
    page.text(
        f"Each model takes {heard} apart and puts them together again. "
        "Log-mel distance: 0 is the same sound; the column beside it is what noise with the right envelope scores. "
        "Partials found: 1 is all of them and none added. A few minutes of training are a first sketch: "
        "longer training is what brings these figures down."
    )
    headers = ["model", "steps", "log-mel distance", "of noise", "partials found", "in tune, %", "onset off, ms"]
    rows: list[list[str | float]] = []
    for family, result in judged.items():
        close, figures = result["closeness"], result.figures()
        noise = close["log_mel_distance"].beside["noise with the same envelope"]
        shown = [round(value, 2) for value in (figures["log_mel_distance"], noise, figures["partials_found"])]
        in_tune = round(100 * figures.get("in_tune", float("nan")), 0)
        rows.append([family, results[family].step, *shown, in_tune, round(figures["onset_off_ms"], 1)])
    page.table(headers, rows)


def _show_new(page: Report, new: list[Waveform], document: Mapping[str, Any]) -> None:
    page.section("New sounds")
    page.text("None of these was in the folder: the model made them from nothing. They lie in the folder sounds.")
    for sound, facts in zip(new, document["sounds"], strict=True):
        pitch = facts["measured"]["pitch"]
        note = "no pitch" if pitch is None else f"{pitch_name(pitch)} {100 * (pitch - round(pitch)):+.0f} cents"
        page.sound(facts["file"], sound, note=note)


def _show_morph(page: Report, morphed: list[Waveform], names: list[str]) -> None:
    page.section("A morph")
    page.text(f"From {names[0]} to {names[1]}, as the model knows them, in {len(morphed)} steps.")
    for i, sound in enumerate(morphed):
        page.sound(f"{i:02d}.wav", sound, note=names[0] if i == 0 else names[1] if i == len(morphed) - 1 else "")


def _show_resyntheses(page: Report, resyntheses: list[tuple[str, Waveform, Waveform, Waveform]]) -> None:
    page.section("Re-synthesis")
    page.text(
        "Sounds of the folder, held out where it has enough, taken apart and put together by the codec, and the same "
        "three semitones higher."
    )
    for name, sound, again, higher in resyntheses:
        page.sound(name, sound, note="the recording")
        page.sound(name, again, note="put together again")
        page.sound(name, higher, note="three semitones higher")


def _show_phrase(page: Report, phrase: Waveform, parts: list[Part]) -> None:
    page.section("A phrase")
    players = ", ".join(part.label or "any sound" for part in parts)
    page.text(f"Played by sounds that the model makes for each note: {players}.")
    page.sound("phrase.wav", phrase)


def _show_bank(page: Report, bank: SoundBank, run: Run) -> None:
    page.section("The bank")
    page.text(api.bank_words(bank))
    page.figure(histogram_svg(bank.column("seconds"), title="How long the sounds are", x_label="seconds"))
    pitch = np.asarray(bank.column("pitch"), float)
    if np.isfinite(pitch).any():
        page.figure(histogram_svg(pitch, title="Their pitch", x_label="MIDI number; 60 is C4"))
    points, clips = _map(bank, run)
    names, labels = bank.column("path")[clips], bank.column("label")[clips]
    page.figure(
        scatter_svg(
            points,
            groups=[str(label or "no label") for label in labels],
            names=[str(name) for name in names],
            title="A map: neighbours sound alike to the model",
        ),
        caption="The two directions in which the model's latents differ most.",
    )


@torch.no_grad()
def _map(bank: SoundBank, run: Run, most: int = 300) -> tuple[list[tuple[float, float]], np.ndarray[Any, Any]]:
    """Two principal components of the latents of up to `most` clips."""
    clips = bank.clips()
    clips = clips[np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)]
    latents = []
    for start in range(0, len(clips), 16):
        batch = bank.take(run.model.batch_spec, clips[start : start + 16]).to(run.device)
        assert isinstance(run.model, Embeds)
        latents.append(run.model.embed(batch.audio, f0_hz=batch.f0_hz, voiced=batch.voiced).z.float().cpu().numpy())
    z = np.concatenate(latents)
    z = z - z.mean(axis=0)
    _, _, directions = np.linalg.svd(z, full_matrices=False)
    return [(float(x), float(y)) for x, y in z @ directions[:2].T], clips


def _show_training(page: Report, out: Path, results: Mapping[str, RunResult]) -> None:
    page.section("Training")
    for family in ("vae", "codec"):
        log = read_log(out / family / "log.jsonl")
        score = {"score": curves(log, "validation")["score"]}
        words = f"{family}: score on {results[family].judged_on}"
        page.figure(curves_svg(score, title=words, x_label="step", y_label="score"))
        for name, points in curves(log, "train").items():
            title = f"{family}: {name} in training"
            page.figure(curves_svg({name: points}, title=title, x_label="step", y_label=name))
