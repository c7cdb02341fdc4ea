"""Trains the bundled ear: `python -m training.ear SOUNDS -o soundloom/ear`, after `training.render` made SOUNDS.

Everything is heard at 32 kHz. Groups (a General MIDI program, a kit, a recipe, a voice) are held out whole, so that the
figures on the card are about sounds of other makers than those trained on. Ctrl-C keeps what was saved last; the same
seed gives the same ear.
"""

import argparse
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom import checkpoint
from soundloom.models.classifier import Classifier, ClassifierConfig, Lesson, best_temperature, mixed, with_tones
from soundloom.optimise import Optimiser
from soundloom.resume import keyed_generator
from training.clips import LABELS, SAMPLE_RATE

HELD_OUT = 12  # one group of so many
SAVE_EVERY_S = 300.0
LOG_EVERY = 50
VALIDATION = 1500  # clips
BALANCE = 0.5  # chance of a label ~ its clips to this power
# What folders of sounds hold more or less of than the training set: where two labels fit, the commoner one is likelier.
COMMON = {"keyboard": 2.0, "kick": 1.5, "snare": 1.5, "closed hat": 2.0, "tom": 2.0, "cymbal": 1.5}
RARE = {"hand drum": 0.5, "shaker": 0.5, "rim": 0.7, "effect": 0.7, "guitar": 0.7}
PRIOR = [(COMMON | RARE).get(name, 1.0) for name in LABELS]
LEAN = 1.0  # the prior is laid on the finished ear once more, to this power: it is surer than it has reason to be
RECORDED = 4.0  # how much likelier a note of the soundfont is than one of an engine
SEMITONES = 3.0  # played faster or slower by at most this
STRONGER = {"recoloured": 0.9, "masked": 0.7, "mixed": 0.6, "smoothing": 0.1}  # what is rendered is not what is met
LATE_S = 0.02  # at most so much silence or noise before the onset


@dataclass(frozen=True)
class Clips:
    """The rendered sounds. Shapes: `start`, `frames`, `label` (-1: none), `pitch`, `tonal` (NaN: not known), [N]."""

    audio: NDArray[np.int16]
    start: NDArray[np.int64]
    frames: NDArray[np.int64]
    label: NDArray[np.int64]
    pitch: NDArray[np.float32]
    tonal: NDArray[np.float32]
    held_out: NDArray[np.bool_]
    source: NDArray[np.str_]


def is_held_out(group: str) -> bool:
    """Whether a group, as in "gm/program 5", is kept for judging."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % HELD_OUT == 0


def read(folder: Path) -> Clips:
    with np.load(folder / "clips.npz", allow_pickle=False) as table:
        columns = {name: table[name] for name in table.files}
    index = {name: i for i, name in enumerate(LABELS)}
    groups = [f"{source}/{group}" for source, group in zip(columns["source"], columns["group"], strict=True)]
    out = {group: is_held_out(group) for group in set(groups)}
    tonal = columns["tonal"].astype(np.float32)
    return Clips(
        audio=np.memmap(folder / "audio.i16", np.int16, "r"),
        start=columns["start"].astype(np.int64),
        frames=columns["frames"].astype(np.int64),
        label=np.array([index.get(str(name), -1) for name in columns["label"]]),
        pitch=columns["pitch"].astype(np.float32),
        tonal=np.where(tonal < 0, np.nan, tonal).astype(np.float32),
        held_out=np.array([out[group] for group in groups]),
        source=columns["source"],
    )


def chances(clips: Clips, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cumulative chances of the rows, so that rare labels are heard without being worn out, and instruments more often
    recorded than synthesised: else what is recorded and decays is taken for the label with most such sounds."""
    label = clips.label[rows] + 1
    counts = np.bincount(label, minlength=len(LABELS) + 1)
    weight = (
        np.array([1.0, *PRIOR])[label]
        * counts[label] ** (BALANCE - 1.0)
        * np.where(clips.source[rows] == "gm", RECORDED, 1.0)
    )
    return np.cumsum(weight) / weight.sum()


def lesson(clips: Clips, rows: NDArray[np.int64], *, samples: int, generator: torch.Generator | None) -> Lesson:
    """Clips as a batch; with a generator, each a little faster or slower and a little late."""
    n = len(rows)
    u = torch.rand(3, n, generator=generator).numpy() if generator else np.full((3, n), 0.5)
    speed = 2.0 ** ((2 * u[0] - 1) * SEMITONES / 12) if generator else np.ones(n)
    late = (
        np.where(u[1] < 0.5, 0.0, (2 * u[1] - 1) * LATE_S * SAMPLE_RATE).astype(int) if generator else np.zeros(n, int)
    )
    audio = np.zeros((n, samples), np.float32)
    for i, row in enumerate(rows):
        clip = clips.audio[clips.start[row] : clips.start[row] + clips.frames[row]]
        _play(clip, speed[i], audio[i, late[i] :])
    known = clips.label[rows] >= 0
    tags = np.eye(len(LABELS), dtype=np.float32)[clips.label[rows]] * known[:, None]
    pitch = clips.pitch[rows] + 12 * np.log2(speed)
    return Lesson(
        audio=torch.from_numpy(audio),
        tags=torch.from_numpy(tags.astype(np.float32)),
        tagged=torch.from_numpy(known.astype(np.float32)),
        pitch=torch.from_numpy(pitch.astype(np.float32)),
        tonal=torch.from_numpy(clips.tonal[rows]),
    )


@numba.njit(cache=True)
def _play(clip, speed, out):
    """Linear interpolation: what it blurs at the top of the range is one more microphone."""
    for n in range(out.shape[0]):
        at = n * speed
        low = int(at)
        if low + 1 >= clip.shape[0]:
            break
        part = at - low
        out[n] = ((1 - part) * clip[low] + part * clip[low + 1]) / 32767


@torch.no_grad()
def judge(model: Classifier, clips: Clips, rows: NDArray[np.int64]) -> tuple[dict[str, float], Tensor, Tensor]:
    """Accuracy by label and of the pitch on held-out groups, and the logits and tags they come from."""
    model.eval()
    logits, tags, off, tonal = [], [], [], []
    for i in range(0, len(rows), 50):
        some = lesson(clips, rows[i : i + 50], samples=model.samples, generator=None)
        opinion = model.classify(some.audio.to(model.temperature.device))
        known = some.tagged > 0
        logits.append((opinion.logits * model.temperature).cpu()[known])
        tags.append(some.tags[known])
        off.append((opinion.pitch.cpu() - some.pitch).abs()[torch.isfinite(some.pitch)])
        tonal.append(((opinion.tonal.cpu() > 0.5).float() == some.tonal)[torch.isfinite(some.tonal)].float())
    model.train()
    found, truth, cents = torch.cat(logits), torch.cat(tags), torch.cat(off)
    right = (found.argmax(1) == truth.argmax(1)).float()
    figures = {"accuracy": float(right.mean()), "pitch within 60 cents": float((cents < 0.6).float().mean())}
    figures["tonal"] = float(torch.cat(tonal).mean())
    for i, name in enumerate(LABELS):
        mine = truth.argmax(1) == i
        if mine.any():
            figures[f"accuracy of {name}"] = float(right[mine].mean())
    return figures, found, truth


def keep(
    model: Classifier, clips: Clips, rows: NDArray[np.int64], folder: Path, *, step: int, seed: int, start: Path | None
) -> None:
    """Calibrates the model on held-out rows and writes it."""
    figures, logits, tags = judge(model, clips, rows)
    model.temperature.copy_(best_temperature(logits, tags, exclusive=True))
    card = checkpoint.Card(
        data="notes and kits of the FluidR3 General MIDI soundfont (MIT), Soundloom's own engines, espeak-ng",
        data_hash=hashlib.sha256(clips.start.tobytes() + clips.label.tobytes()).hexdigest()[:16],
        sounds=int((~clips.held_out).sum()),
        licence="MIT (soundfont), Apache-2.0 (engines), none needed for what espeak-ng says",
        seed=seed,
        settings={"steps": model.config.steps, "started from": "an earlier run" if start else "random weights"},
        figures={"step": float(step), "judged on": "held-out programs, kits, recipes and voices", **figures},
    )
    checkpoint.save(model, folder, card=card)
    worst = ", ".join(f"{name} {value:.2f}" for value, name in sorted((v, n) for n, v in figures.items())[:5])
    print(f"step {step} saved: {figures['accuracy']:.3f}, the worst {worst}", flush=True)


def lean(folder: Path, clips: Clips, rows: NDArray[np.int64], *, seed: int, start: Path | None) -> None:
    """Makes the labels of a finished ear likelier as far as `PRIOR` says, and writes it again."""
    model = checkpoint.load(folder, device="cpu")
    assert isinstance(model, Classifier)
    with torch.no_grad():
        model.timbre.bias += LEAN * model.temperature * torch.log(torch.tensor(PRIOR))
    keep(model, clips, rows, folder, step=model.config.steps, seed=seed, start=start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--start", type=Path, help="go on from the weights of this folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    clips = read(arguments.sounds)
    train, held_out = np.flatnonzero(~clips.held_out), np.flatnonzero(clips.held_out)
    held_out = np.random.default_rng(0).permutation(held_out)[:VALIDATION]
    config = ClassifierConfig(sample_rate=SAMPLE_RATE, labels=LABELS, steps=arguments.steps, **STRONGER)
    model = Classifier.build(config, seed=arguments.seed).to(arguments.device).train()
    if arguments.start:
        model.load_state_dict(checkpoint.load(arguments.start, device=arguments.device).state_dict())
    optimiser = Optimiser(model, steps=arguments.steps)
    cumulative = chances(clips, train)
    print(f"{len(train)} clips to train on, {int(clips.held_out.sum())} held out, {arguments.steps} steps", flush=True)

    def save(step: int) -> None:
        with optimiser.averaged():
            keep(model, clips, held_out, arguments.out, step=step, seed=arguments.seed, start=arguments.start)

    saved, began, means = time.monotonic(), time.process_time(), {}
    for step in range(arguments.steps):
        generator = keyed_generator(arguments.seed, "ear", step)
        drawn = np.searchsorted(cumulative, torch.rand(config.batch, generator=generator).double().numpy(), "right")
        some = lesson(clips, train[np.minimum(drawn, len(train) - 1)], samples=model.samples, generator=generator)
        some = with_tones(some, config.tones, sample_rate=SAMPLE_RATE, generator=generator)
        some = mixed(some, config.mixed, generator=generator)
        terms = model.losses(some.to(arguments.device), generator=generator)
        optimiser("classifier", model.weighted(terms))
        optimiser.end_step()
        for name, value in terms.items():
            means[name] = means.get(name, 0.0) + float(value.detach()) / LOG_EVERY
        if (step + 1) % LOG_EVERY == 0:
            words = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(
                f"step {step + 1}: {words}; {(time.process_time() - began) / (step + 1):.3f} CPU-s a step", flush=True
            )
            means = {}
        if time.monotonic() - saved > SAVE_EVERY_S or step + 1 == arguments.steps:
            save(step + 1)
            saved = time.monotonic()
    lean(arguments.out, clips, held_out, seed=arguments.seed, start=arguments.start)


if __name__ == "__main__":
    main()
