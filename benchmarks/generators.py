"""How fast new sounds are made, and an update of the GAN

Untrained models of default settings (speed does not depend on the weights), one sound of a second at 44.1 kHz from
noise to audio, batch 1, medians; the GAN's update is one of its generator and one of both adversaries, on 64 sounds of
a second at 16 kHz. In the first half of a run it is guided by the nearest real sounds too, which costs more.
"""

import torch

from benchmarks import common
from soundloom.bank import Batch
from soundloom.condition import Condition, Manner
from soundloom.models.codec import CodecConfig
from soundloom.models.flow import Flow, FlowConfig
from soundloom.models.gan import GAN, GANConfig
from soundloom.optimise import Optimiser
from soundloom.runtime import keep_memory

SECONDS = 1.0
RATE, HOP, BATCH, STEPS = 16000, 256, 64, 1000


def main() -> list[dict]:
    common.one_thread()
    keep_memory()
    rows = [{"what": "GAN: a second of sound, ms", "figure": 1e3 * _gan_sample(), "target": "<= 10"}]
    for method, steps, guidance in (("euler", 8, 1.0), ("midpoint", 8, 1.0), ("midpoint", 8, 2.0)):
        took = _flow_sample(Manner(steps=steps, solver=method, guidance=guidance))
        guided = f", guidance {guidance:g}" if guidance != 1 else ""
        target = {"target": "<= 60"} if method == "euler" else {}
        rows.append({"what": f"flow: a second of sound, {steps} steps of {method}{guided}, ms", "figure": 1e3 * took,
                     **target})  # fmt: skip
    later, guided_s = _gan_update(STEPS - 1), _gan_update(0)
    rows.append({"what": "GAN: update of both players, CPU-s", "figure": later, "target": "<= 1.5"})
    rows.append({"what": "GAN: update while guided, CPU-s", "figure": guided_s})
    return rows


def _gan_sample() -> float:
    model = GAN.build(GANConfig(seconds=SECONDS, clips=4), seed=0).eval()
    model.course[:] = 0.0
    model.facts[:] = torch.tensor([57.0, 200.0, -1.0])
    generator = torch.Generator().manual_seed(0)
    condition = Condition.of(1, pitch=57.0)
    return common.cpu_seconds(
        lambda: model.sample(1, seconds=SECONDS, condition=condition, generator=generator), repeats=31, warm_up=3
    )


def _flow_sample(manner: Manner) -> float:
    config = FlowConfig(codec=CodecConfig(latent=32), seconds=SECONDS, patch=4)
    model = Flow.build(config, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    condition = Condition.of(1, pitch=57.0)
    return common.cpu_seconds(
        lambda: model.sample(1, seconds=SECONDS, condition=condition, generator=generator, manner=manner),
        repeats=15,
        warm_up=2,
    )


def _gan_update(step: int) -> float:
    config = GANConfig(sample_rate=RATE, hop_length=HOP, batch=BATCH, seconds=SECONDS, steps=STEPS, labels=("a",))
    model = GAN.build(config, seed=0).train()
    optimiser = Optimiser(model, steps=STEPS)
    generator = torch.Generator().manual_seed(0)
    samples = config.frames * HOP
    f0_hz = torch.full((BATCH, 1, config.frames), 220.0)
    batch = Batch(
        audio=0.1 * torch.randn(BATCH, 1, samples, generator=generator),
        lengths=torch.full((BATCH,), samples),
        f0_hz=f0_hz,
        voiced=torch.ones_like(f0_hz),
        inharmonicity=torch.zeros(BATCH),
        condition=Condition.of(BATCH, ("a",), label="a", pitch=57.0),
        clips=torch.arange(BATCH),
    )
    return common.cpu_seconds(
        lambda: model.train_step(batch, step=step, generator=generator, update=optimiser), repeats=5, warm_up=2
    )
