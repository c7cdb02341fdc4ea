"""Trained runs as instruments: from a key to its sound, and what playing costs

Default models with untrained weights, which cost what trained ones do; 48 kHz, blocks of 256 in real time, the models
in their own process. `ms` is what lies between the key and the first sample of its sound: where the sound is there,
where a key near it is, and where nothing is (the median of several; the first block and the making included). `makes`
is CPU time for one sound. The last rows are the player's side: 64 voices that read sounds as they are or bent, in
blocks of 512, as voices in real time per core; and streams, whose latency is what is ordered ahead.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import common

RATE, BLOCK = 48000, 256
VOICES = 64
TRIES = 8
PATIENCE_S = 120.0


def main() -> list[dict[str, Any]]:
    common.one_thread()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOUNDLOOM_HOME"] = folder  # nobody's own sounds are touched
        rows = []
        for name, model in _models().items():
            rows += _keys(name, model, Path(folder) / name)
        rows += [_voices("as they are", 0.0), _voices("bent", 0.3)]
        return rows + _streams()


def _models() -> dict[str, Any]:
    """Whole default models that think they have heard a bank."""
    import torch

    from soundloom.models.gan import GAN, GANConfig
    from soundloom.models.vae import VAE, VAEConfig

    gan = GAN.build(GANConfig(clips=64), seed=0).eval()
    gan.course.zero_()
    frames = float(gan.config.frames)
    gan.facts[:] = torch.tensor([[36.0 + 0.75 * i, frames, -1.0] for i in range(64)])
    vae = VAE.build(VAEConfig(clips=64), seed=0).eval()
    vae.memory.normal_(generator=torch.Generator().manual_seed(0))
    vae.memory_facts[:] = torch.tensor([[36.0 + 0.75 * i, 1.0, -1.0] for i in range(64)])
    return {"gan, 1 s": gan, "vae, up to 2 s": vae}


def _keys(name: str, model: Any, folder: Path) -> list[dict[str, Any]]:
    from soundloom.checkpoint import Card, save
    from soundloom.instruments.asks import Ask, Maker
    from soundloom.instruments.base import Event
    from soundloom.instruments.neural import OneShot
    from soundloom.run import Run

    save(model, folder, card=Card(data="none", data_hash="0", sounds=0, licence="none", seed=0))
    maker = Maker(model)
    makes = common.cpu_seconds(lambda: maker([Ask(60.0)]))
    together = common.cpu_seconds(lambda: maker([Ask(float(pitch)) for pitch in range(56, 64)])) / 8
    instrument = OneShot(Run.load(folder, device="cpu"), live=True)
    start = time.monotonic()
    instrument.start()
    state = instrument.init_state(RATE)
    _until(lambda: instrument.ready)
    opened = time.monotonic() - start

    def note(pitch: float, variation: int) -> float:
        """Seconds from the key to its sound, in real time; the voice is silent again afterwards."""
        nonlocal state
        turn = Event(0, "set", param="variation", value=float(variation))
        events = [turn, Event(0, "on", 1, pitch, 0.8)]
        begun, heard = time.perf_counter(), None
        for number in range(round(2 * RATE / BLOCK)):
            block, state = instrument.process(state, events if number == 0 else [], BLOCK)
            time.sleep(max(0.0, begun + (number + 1) * BLOCK / RATE - time.perf_counter()))
            loud = abs(block[0]) > 1e-6
            if loud.any():
                heard = (number * BLOCK + int(loud.argmax())) / RATE
                break
        for events in ([Event(0, "stop")], [], [], []):
            _, state = instrument.process(state, events, BLOCK)
        if heard is None:
            raise RuntimeError(f"no sound of {name} came: {instrument.trouble}")
        return heard

    nothing = statistics.median(note(60.0 + number, number + 1) for number in range(TRIES))
    shelf = instrument._shelf(RATE)
    _until(lambda: instrument.process(state, [], 0) and len(shelf._sounds) > TRIES + 30)
    near = statistics.median(note(60.5, number + 1) for number in range(TRIES))
    there = statistics.median(note(60.5, number + 1) for number in range(TRIES))
    instrument.close()
    return [
        {"what": f"{name}: nothing is there", "ms": 1000 * nothing, "makes": 1000 * makes, "makes 8": 1000 * together},
        {"what": f"{name}: a key near it is there", "ms": 1000 * near},
        {"what": f"{name}: it is there", "ms": 1000 * there},
        {"what": f"{name}: the process opens", "ms": 1000 * opened},
    ]


def _until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the other process never came")
        time.sleep(0.01)


def _voices(what: str, bend: float) -> dict[str, Any]:
    import numpy as np

    from soundloom.instruments import playhead

    sound = playhead.padded(np.random.default_rng(0).standard_normal(20 * 44100).astype(np.float32))
    rows = np.zeros(VOICES, playhead.ROW)
    rows["active"] = rows["held"] = 1
    rows["fade"] = rows["gain"] = rows["aim"] = 1.0
    knobs = playhead.knobs(44100, attack_s=1e-3, release_s=1.0, gain_db=0.0)
    out = np.zeros(512)

    def second() -> None:
        for _ in range(44100 // 512):
            for i in range(VOICES):
                playhead.read(rows[i : i + 1], sound, len(sound), True, knobs, bend, playhead.sincs(), out)

    taken = common.cpu_seconds(second)
    assert rows["active"].all()
    return {
        "what": f"voices that read sounds {what}",
        "voices in real time": VOICES * 44100 // 512 * 512 / 44100 / taken,
    }


def _streams() -> list[dict[str, Any]]:
    """Default models: how many times faster than real time their pieces are made."""
    from soundloom.instruments.asks import Ask
    from soundloom.instruments.endless import source_of, wish
    from soundloom.instruments.melody import Melody
    from soundloom.models.ddsp import DDSP, DDSPConfig
    from soundloom.models.rnn import RNN, RNNConfig
    from soundloom.models.subband import SubbandConfig, SubbandRNN
    from soundloom.models.wavenet import WaveNet, WaveNetConfig

    asked = wish(Ask(), None)
    models = {
        "ddsp": (DDSP.build(DDSPConfig(), seed=0), {"f0_hz": 220.0, "level_db": -20.0}),
        "rnn": (RNN.build(RNNConfig(endless=True), seed=0), asked),
        "subband": (SubbandRNN.build(SubbandConfig(), seed=0), asked),
        "wavenet, 16 kHz": (WaveNet.build(WaveNetConfig(), seed=0), asked),
    }
    rows = []
    for name, (model, steer) in models.items():
        source = source_of(model.eval())
        state = source.begin(0)

        def piece(source: Any = source, steer: Any = steer) -> None:
            nonlocal state
            _, state = source.next(steer, state)

        taken = common.cpu_seconds(piece, repeats=40, warm_up=3)
        row = {"what": f"{name}, piece by piece", "x real time": source.piece / source.sample_rate / taken}
        if name == "ddsp":
            melody = Melody(model)
            melody.live = True
            row["ms"] = 1000 * melody.latency_s
        rows.append(row)
    return rows


if __name__ == "__main__":
    table = main()
    common.print_table(table, title=__doc__.splitlines()[0])
    print(json.dumps(table))
