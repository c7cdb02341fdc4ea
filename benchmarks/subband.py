"""The sub-band RNN: how fast it plays and trains, and how well, in the configuration that was timed

Trained with its defaults on the piano at 44.1 kHz. Held-out notes are measured as mel frames and played from these
alone; beside their log-mel distance stands that of noise with the real sound's envelope. The negative log-likelihood is
in nats a sample, as of a cell of 16 bits, within the sounds. `SOUNDLOOM_CPU_MINUTES` sets another budget of training.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import common
from soundloom import checkpoint, pace
from soundloom.bank import SoundBank
from soundloom.condition import Condition
from soundloom.metrics import log_mel_distance, noise_with_envelope, partials_found
from soundloom.models.subband import PIECE_SAMPLES, SubbandRNN
from soundloom.optimise import Optimiser
from soundloom.runtime import keep_memory
from soundloom.train import TrainConfig, fit

CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "20"))
JUDGED_S = 3.0


def main() -> list[dict]:
    common.one_thread()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        bank = SoundBank.scan(common.sounds("piano"), Path(folder) / "bank")
        fit("subband", bank, TrainConfig(cpu_minutes=CPU_MINUTES, threads=1), Path(folder) / "run")
        model = checkpoint.load(Path(folder) / "run", device="cpu")
        assert isinstance(model, SubbandRNN)
        return [*speed(model), training(bank), *quality(model, bank)]


def speed(model: SubbandRNN) -> list[dict]:
    """A stream running free, in blocks of half a second."""
    pieces = round(0.5 * model.config.sample_rate / PIECE_SAMPLES)
    steering = model.free_running(Condition.of(1), pieces)
    state = [model.init_state(seed=1)]

    def block() -> None:
        state[0] = model.step(steering, state[0])[1]

    seconds = common.cpu_seconds(block, repeats=9, warm_up=2)
    played = pieces * PIECE_SAMPLES / model.config.sample_rate
    return [
        {"what": "playing, x real time", "figure": played / seconds, "target": ">= 5"},
        {"what": "parameters, millions", "figure": sum(p.numel() for p in model.parameters()) / 1e6},
    ]


def training(bank: SoundBank) -> dict:
    config = SubbandRNN.configure(bank)
    model = SubbandRNN.build(config, seed=0)
    optimiser, at = Optimiser(model, steps=config.steps), [0]

    def step() -> None:
        generator = torch.Generator().manual_seed(at[0])
        batch = bank.draw(model.batch_spec, split="train", generator=generator)
        model.train_step(batch, step=at[0], generator=generator, update=optimiser)
        optimiser.end_step()
        at[0] += 1

    seconds = common.cpu_seconds(step, repeats=5, warm_up=2)
    audio_s = config.batch * model.batch_spec.samples / config.sample_rate
    return {"what": "training, s of sound per CPU-second", "figure": audio_s / seconds, "CPU-seconds a step": seconds}


def quality(model: SubbandRNN, bank: SoundBank) -> list[dict]:
    """Held-out notes, judged as they are and played from their mel frames."""
    clips = bank.clips("test").tolist()
    with torch.no_grad():
        scores = model.validate(bank.take(model.batch_spec, clips), generator=torch.Generator().manual_seed(0))
    untrained = pace.validate(SubbandRNN.build(model.config, seed=0), bank, seed=0)["score"]
    rate = bank.sample_rate
    distances, noise, found = [], [], []
    for clip in clips:
        real = bank.audio(clip).samples[0][: round(JUDGED_S * rate)]
        made = model.resynthesise(torch.from_numpy(real.copy())[None, None])[0, 0].numpy()
        noisy = noise_with_envelope(real, sample_rate=rate, generator=np.random.default_rng(0))
        distances.append(log_mel_distance(real, made, sample_rate=rate))
        noise.append(log_mel_distance(real, noisy, sample_rate=rate))
        found.append(partials_found(real, made, sample_rate=rate))
    beside = f"noise with its envelope {np.mean(noise):.3f}"
    return [
        {"what": f"nats a sample given mel frames, {len(clips)} held out", "figure": scores["score"],
         "beside it": f"validation, untrained: {untrained:.3f}"},
        {"what": "nats a sample running free", "figure": scores["free"]},
        {"what": "log-mel distance from mel frames", "figure": float(np.mean(distances)),
         "target": f"<= {np.mean(noise) / 2:.3f}", "beside it": beside},
        {"what": "partials found", "figure": float(np.mean(found))},
    ]  # fmt: skip
