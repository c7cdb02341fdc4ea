"""How fast and how late the codec is on a live stream

One thread, default settings, a causal codec (untrained) on the piano's longest note: all that lies between the samples
that come in and those that go out, pitch and both networks included. Latency is what the windows wait for. The pitch on
the stream is judged as in the benchmark of pitch, over all the piano's notes, against the tracker that sees the whole.
"""

from dataclasses import replace

import numpy as np
import torch

from benchmarks import common
from benchmarks.pitch import HOP, _judge, _read, _soundloom
from soundloom.follow import DELAY, init_pitch_state, track_step
from soundloom.models.codec import Codec, CodecConfig
from soundloom.models.live import LiveCodec


def main() -> list[dict]:
    common.one_thread()
    notes = [_read(path) for path in sorted(common.sounds("piano").glob("*.flac"))]
    _, longest, rate = max(notes, key=lambda note: len(note[1]))
    audio = torch.from_numpy(longest)
    live = LiveCodec(Codec.build(replace(CodecConfig(sample_rate=rate, hop_length=HOP), causal=True), seed=0).eval())
    rows = [{"what": "latency, ms", "figure": 1000 * live.latency / rate}]
    for block in (2048, 512, 128):

        def stream(block: int = block) -> None:
            state = live.init_state()
            for piece in audio.split(block):
                _, state = live.process(piece, state)

        speed = len(audio) / rate / common.cpu_seconds(stream, repeats=3)
        rows.append({"what": f"blocks of {block}, x real time", "figure": speed})
    rows.append(_judge("pitch of the whole sound", _soundloom, notes))
    rows += [_judge(f"pitch on the stream, {delay} frames late", _followed(delay), notes) for delay in (0, DELAY)]
    return rows


def _followed(delay: int):
    def tracker(x: np.ndarray, rate: int) -> np.ndarray:
        state = init_pitch_state(sample_rate=rate, hop_length=HOP, delay=delay)
        # As much silence as lets the last frame be told.
        padded = torch.nn.functional.pad(torch.from_numpy(x), (0, state.follower.latency + HOP))
        return track_step(padded, state)[0].f0_hz[0].numpy()

    return tracker


if __name__ == "__main__":
    common.print_table(main())
