"""WaveNet: how fast it plays and trains, and how well it plays from mel frames what it never heard

30 layers and 64 channels, default settings, one thread. It is played by its compiled kernel, one stream, the condition
laid out for the kernel counted in; beside it, what one sample costs when the whole network is run anew over all that it
reaches back to. As a vocoder it is trained for 25 CPU-minutes on each bank and judged on sounds of the bank's own test
split: digits at the 8 kHz at which they were recorded, the piano resampled to 16 kHz. `SOUNDLOOM_CPU_MINUTES` sets
another budget, `SOUNDLOOM_KEEP` a folder in which banks and runs stay, so that a second call only judges.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import common
from soundloom import audio, checkpoint, metrics, pace
from soundloom.bank import SoundBank, spread_evenly
from soundloom.condition import Condition
from soundloom.models.predictor import Prediction
from soundloom.models.wavenet import WaveNet, WaveNetConfig
from soundloom.optimise import Optimiser
from soundloom.runtime import keep_memory
from soundloom.train import TrainConfig, fit

CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "25"))
RATE = 16000
JUDGED = 40  # sounds of a bank
LONGEST_S = 2.0  # of a judged sound


def main() -> list[dict]:
    common.one_thread()
    keep_memory()
    rows = speed()
    with _folder() as folder:
        digits = SoundBank.scan(common.sounds("spoken-digits"), folder / "bank-digits", label_from=r"^(\d)_")
        rows += training(digits)
        rows += vocoder("spoken digits, 8 kHz", digits, folder / "run-digits")
        piano = SoundBank.scan(_resampled(common.sounds("piano"), folder / "piano"), folder / "bank-piano")
        rows += vocoder("piano, 16 kHz", piano, folder / "run-piano")
    return rows


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    if kept := os.environ.get("SOUNDLOOM_KEEP"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def _resampled(source: Path, folder: Path) -> Path:
    for path in sorted(source.rglob("*.flac")):
        place = (folder / path.relative_to(source)).with_suffix(".wav")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            audio.write(place, audio.resample(audio.read(path).mono(), RATE))
    return folder


def speed() -> list[dict]:
    model = WaveNet.build(WaveNetConfig(sample_rate=RATE), seed=0).eval()
    config = model.config
    noise = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))

    def vocode() -> None:
        model.resynthesise(noise[None])

    def free() -> None:
        model.sample(1, seconds=1.0, condition=None, generator=torch.Generator().manual_seed(0))

    reach = -(-config.reach // config.piece)  # pieces

    with torch.no_grad():
        guide, prediction = model.guided(model._measured(noise), Condition.of(1), free=torch.tensor([False]))
    window = noise[:, : reach * config.piece]
    near = Prediction(prediction.taps[:, :reach], prediction.error[:, :reach], prediction.level[:, :reach])

    @torch.no_grad()
    def naive() -> None:
        model.judged(window, guide[:, :reach], near)

    return [
        {"what": "vocoding, samples/s", "figure": RATE / common.cpu_seconds(vocode), "target": ">= 16000"},
        {"what": "playing freely, samples/s", "figure": RATE / common.cpu_seconds(free), "target": ">= 16000"},
        {"what": "the naive loop, samples/s", "figure": 1 / common.cpu_seconds(naive)},
        {"what": "parameters, millions", "figure": sum(p.numel() for p in model.parameters()) / 1e6},
    ]  # fmt: skip


def training(bank: SoundBank) -> list[dict]:
    model = WaveNet.build(WaveNet.configure(bank), seed=0)
    optimiser, spec, at = Optimiser(model, steps=model.config.steps), model.batch_spec, [0]

    def one() -> None:
        generator = torch.Generator().manual_seed(at[0])
        batch = bank.draw(spec, split="train", generator=generator)
        model.train_step(batch, step=at[0], generator=generator, update=optimiser)
        optimiser.end_step()
        at[0] += 1

    seconds = common.cpu_seconds(one, repeats=16, warm_up=3)
    return [
        {"what": "training, samples/s", "figure": spec.size * spec.samples / seconds, "CPU-seconds a step": seconds}
    ]


def vocoder(name: str, bank: SoundBank, folder: Path) -> list[dict]:
    fit("wavenet", bank, TrainConfig(cpu_minutes=CPU_MINUTES, threads=1), folder)
    model = checkpoint.load(folder, device="cpu")
    assert isinstance(model, WaveNet)
    clips = spread_evenly(bank.clips("test"), JUDGED)
    untrained = WaveNet.build(model.config, seed=0).eval()
    nats, before = (pace.validate(net, bank, seed=0, clips=clips) for net in (model, untrained))
    made, start, noise = [], [], []
    for clip in clips:
        real = _at_peak(bank.audio(clip).samples[0][: int(LONGEST_S * bank.sample_rate)])
        sound = torch.from_numpy(real)[None, None]
        for net, found in ((model, made), (untrained, start)):
            found.append(_distance(real, net.eval().resynthesise(sound, seed=clip)[0, 0].numpy(), bank.sample_rate))
        other = metrics.noise_with_envelope(real, sample_rate=bank.sample_rate, generator=np.random.default_rng(clip))
        noise.append(_distance(real, other, bank.sample_rate))
    beside = f"untrained {before['score']:.2f}; without mel frames {nats['free']:.2f}"
    return [
        {"what": f"{name}: nats a sample", "figure": nats["score"], "beside it": beside},
        {"what": f"{name}: log-mel distance", "figure": float(np.mean(made)), "target": f"<= {np.mean(noise) / 2:.2f}",
         "beside it": f"noise with its envelope {np.mean(noise):.2f}; untrained {np.mean(start):.2f}"},
    ]  # fmt: skip


def _at_peak(sound: np.ndarray) -> np.ndarray:
    return (0.5 * sound / max(float(np.abs(sound).max()), 1e-9)).astype(np.float32)


def _distance(real: np.ndarray, other: np.ndarray, sample_rate: int) -> float:
    return metrics.log_mel_distance(real, other, sample_rate=sample_rate)
