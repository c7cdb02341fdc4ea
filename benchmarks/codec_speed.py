"""How fast the codec trains, decodes and streams

One thread, default settings, on the piano: seconds of audio per CPU-second. Training counts all that a step needs:
crops drawn with pitch shift and gain, f0, the forward and backward pass, clipping, the optimiser, the running average.
A stream is decoded in torch, block by block, with explicit state; encoding includes tracking the pitch.
"""

import resource
import tempfile
from pathlib import Path

import torch

from benchmarks import common
from soundloom.bank import SoundBank
from soundloom.models.base import Code
from soundloom.models.codec import Codec
from soundloom.optimise import Optimiser
from soundloom.runtime import keep_memory


def main() -> list[dict]:
    common.one_thread()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        bank = SoundBank.scan(common.sounds("piano"), Path(folder) / "bank")
        rows = training(bank)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"what": "training, peak memory of the process, MB", "figure": peak_mb, "target": "<= 3000"})
        return rows + use(bank)


def training(bank: SoundBank) -> list[dict]:
    config = Codec.configure(bank)
    rows = []
    for what, step, target in (
        ("training before the adversary joins, s/s", 0, ">= 25"),
        ("training with the adversary, s/s", config.steps, ">= 10"),
    ):
        model = Codec.build(config, seed=0)
        optimiser = Optimiser(model, steps=config.steps)
        spec = model.batch_spec
        at = [step]

        def one(model: Codec = model, optimiser: Optimiser = optimiser, at: list[int] = at) -> None:
            generator = torch.Generator().manual_seed(at[0])
            batch = bank.draw(model.batch_spec, split="train", generator=generator)
            model.train_step(batch, step=at[0], generator=generator, update=optimiser)
            optimiser.end_step()
            at[0] += 1

        seconds = common.cpu_seconds(one, repeats=16, warm_up=4)
        audio = spec.size * spec.samples / config.sample_rate
        rows.append({"what": what, "figure": audio / seconds, "target": target, "CPU-seconds a step": seconds})
    millions = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("discriminator")) / 1e6
    rows.append({"what": "parameters without the adversary, millions", "figure": millions})
    return rows


def use(bank: SoundBank) -> list[dict]:
    model = Codec.build(Codec.configure(bank), seed=0).eval()
    config = model.config
    clip = int(bank.column("seconds").argmax())
    audio = torch.from_numpy(bank.audio(clip).samples.copy())[None]
    length = audio.shape[-1] / config.sample_rate
    code = model.encode(audio)
    encoding, decoding = (
        length / common.cpu_seconds(work) for work in (lambda: model.encode(audio), lambda: model.decode(code))
    )
    rows = [
        {"what": "encoding with pitch tracking, x real time", "figure": encoding},
        {"what": "decoding offline, x real time", "figure": decoding, "target": ">= 150"},
    ]
    for block, target in ((2048, ">= 15"), (512, ">= 5")):
        frames = block // config.hop_length
        count = min(100, code.z.shape[-1] // frames)

        def stream(frames: int = frames, count: int = count) -> None:
            state = model.init_state()
            for i in range(count):
                at = slice(i * frames, (i + 1) * frames)
                _, state = model.step(Code(code.z[..., at], code.f0_hz[..., at], code.voiced[..., at]), state)

        seconds = common.cpu_seconds(stream)
        speed = count * frames * config.hop_length / config.sample_rate / seconds
        rows.append({"what": f"streaming in blocks of {block}, x real time", "figure": speed, "target": target})
    return rows
