"""RNN over codec frames: how fast it plays, that it keeps no more the longer it plays, how well it foretells

Speed and memory are those of the default network for 44.1 kHz (its speed does not depend on what its weights are).
Quality is that on the spoken digits, a tenth of them held out: nats per latent value beside those of a Gaussian fitted
to all frames, of one with all covariances, and of one about the last frame. The codec has half the time of the RNN.
`SOUNDLOOM_CPU_MINUTES` sets another budget of training.
"""

import math
import os
import resource
import tempfile
from pathlib import Path

import torch

from benchmarks import common
from soundloom import checkpoint, pace
from soundloom.bank import SoundBank
from soundloom.models.codec import CodecConfig
from soundloom.models.rnn import BLOCK, RNN, RNNConfig
from soundloom.train import TrainConfig, fit

CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "10"))
AIM = 30  # times real time
TIMED_S = 6.0
LONG_S = 600.0


def main() -> list[dict]:
    common.one_thread()
    model = RNN.build(RNNConfig(codec=CodecConfig(), endless=True), seed=0).eval()
    with torch.no_grad():
        model.next.single.bias[1] = 9.0  # every frame has a pitch, which is the most work for the decoder
    rows = [*speed(model), memory(model)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bank = SoundBank.scan(common.sounds("spoken-digits"), folder / "bank", label_from=r"^(\d)_")
        fit("codec", bank, TrainConfig(cpu_minutes=CPU_MINUTES / 2, threads=1), folder / "codec")
        settings = [f"codec={folder / 'codec'}"]
        fit("rnn", bank, TrainConfig(cpu_minutes=CPU_MINUTES, threads=1), folder / "rnn", settings=settings)
        trained = checkpoint.load(folder / "rnn", device="cpu")
        assert isinstance(trained, RNN)
        trained.prepare(bank, fresh=False)
        return rows + quality(trained, bank)


def speed(model: RNN) -> list[dict]:
    """Times real time: the frames alone, and with their decoding, block by block as a stream plays them."""
    frames = math.ceil(TIMED_S * model.space.frame_rate / BLOCK) * BLOCK
    seconds = frames / model.space.frame_rate

    def codes() -> None:
        model.foretell(frames, model.begin(seed=1))

    def audio() -> None:
        state = model.begin(seed=1)
        for _ in range(frames // BLOCK):
            _, state = model.advance(BLOCK, state)

    return [
        {"what": "frames alone, × real time", "value": seconds / common.cpu_seconds(codes)},
        {"what": "with decoding, × real time", "value": seconds / common.cpu_seconds(audio), "aim": AIM},
    ]


def memory(model: RNN) -> dict:
    """By how much the most memory that the process ever had grows between ten seconds and ten minutes of sound."""

    def most() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    early, played = 0.0, 0
    for block in model.stream(model.begin(seed=2), samples=round(LONG_S * model.config.sample_rate)):
        played += block.shape[-1]
        if not early and played > 10 * model.config.sample_rate:
            early = most()
    return {"what": f"memory after {LONG_S / 60:.0f} minutes beside after 10 s, MB more", "value": most() - early}


@torch.no_grad()
def quality(model: RNN, bank: SoundBank) -> list[dict]:
    """Nats per latent value on held-out sounds; less is better. The Gaussians are fitted to the sounds trained on."""
    latent = model.config.codec.latent
    seen = [model._frames(int(clip))[:, :latent] for clip in bank.clips("train")]
    held = [model._frames(clip)[:, :latent] for clip in pace.held_out(bank, most=model.validation_clips)]
    every, judged = torch.cat(seen), torch.cat(held)
    steps = torch.cat([one.diff(dim=0) for one in seen])
    mean, spread, covariance = every.mean(0), every.std(0), torch.cov(every.T) + 1e-4 * torch.eye(latent)
    whole = torch.distributions.MultivariateNormal(mean, covariance)
    about = torch.distributions.Normal(steps.mean(0), steps.std(0))
    losses = pace.validate(model, bank, seed=0)
    figures = {
        "a Gaussian": -torch.distributions.Normal(mean, spread).log_prob(judged).mean(),
        "a Gaussian with all covariances": -whole.log_prob(judged).mean() / latent,
        "a Gaussian about the last frame": -torch.cat([about.log_prob(one.diff(dim=0)) for one in held]).mean(),
        "the RNN": losses["latent"] / latent,
    }
    rows = [
        {"what": f"nats per latent value, held-out digits: {name}", "value": float(v)} for name, v in figures.items()
    ]
    return [
        *rows,
        {"what": "nats per frame value, held-out digits: the RNN, pitch and end too", "value": losses["score"]},
    ]
