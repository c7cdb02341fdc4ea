"""Playing live: the load, blocks that came too late, and how late a key is heard

The command `soundloom play` against a JACK server with the dummy driver, blocks of 128 at 48 kHz, on whatever else the
machine does: eight parts with their effects, a room and a chorus, one of them a neural instrument with its model in a
process of its own, 64 voices held; four times a second all parts strike a key at the same frame and let go of another,
wheels and bends move in between. The load is CPU time of the callback as a share of the block; beside the blocks that
came too late (xruns) stand those of a client that does nothing, on a server of its own, in the same minutes. So does
the CPU time of a piece of work that is always the same, against its median: what the machine adds by itself. The
latency is from the frame of a key to the frame of its sound. Ten minutes; `python -m benchmarks.playing 1` takes one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from soundloom.backends import JackCallback

RATE, BLOCK = 48000, 128
PATCHES = ("drawbar-organ", "strings", "warm-pad", "choir", "synth-brass", "saw-lead", "drive-guitar")
HELD = 8  # notes on each part
NOTE_S, WHEEL_S = 0.25, 0.05  # from one new note on a part to the next, and between moves of its wheel
WARM_S = 5.0
ON, OFF, CC, BEND = 0x90, 0x80, 0xB0, 0xE0
SILENT = """
import json, sys, time, jack, numpy
client, late, took = jack.Client("silent"), [], []
client.set_xrun_callback(lambda microseconds: late.append(1))
client.set_process_callback(lambda n: None)
client.activate()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    start = time.thread_time()
    sum(range(5000))
    took.append(time.thread_time() - start)
    time.sleep(0.003)
parts = numpy.percentile(took, [50, 99, 99.99]) / numpy.median(took)
print(json.dumps({"late": len(late), "same work": parts.tolist()}))
"""


def main(minutes: float = 10.0) -> list[dict[str, Any]]:
    if shutil.which("jackd") is None:
        raise common.Missing("needs a JACK server: apt install jackd2")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOUNDLOOM_HOME"] = folder  # nobody's own sounds are touched
        run = _model(Path(folder))
        with _server("soundloom-busy"), _server("soundloom-silent"):
            for driver in ("jack", "portaudio"):
                onsets = _onsets(driver)
                rows.append({
                    "what": f"key to sound by {driver}, blocks", "median": float(np.median(onsets)) / BLOCK,
                    "worst of 30": max(onsets) / BLOCK,
                })  # fmt: skip
            rows += _evening(run, 60 * minutes)
    return rows


def _model(folder: Path) -> Path:
    """A VAE as it is before training, which sounds like nothing and takes as long."""
    import torch

    from soundloom import checkpoint
    from soundloom.models.vae import VAE, VAEConfig

    vae = VAE.build(VAEConfig(clips=64), seed=0).eval()
    vae.memory.normal_(generator=torch.Generator().manual_seed(0))
    vae.memory_facts[:] = torch.tensor([[36.0 + 0.75 * i, 1.0, -1.0] for i in range(64)])
    checkpoint.save(vae, folder / "run", card=checkpoint.Card("nothing", "0", 0, "none", 0))
    return folder / "run"


def _evening(run: Path, seconds: float) -> list[dict[str, Any]]:
    """Eight parts for so long, and a silent client beside them."""
    parts = ",".join(f"{k}=patch:{name}" for k, name in enumerate(PATCHES)) + f",{len(PATCHES)}={run}"
    with _fingers() as send, _playing("--map", parts, "--driver", "jack", "--midi", "fingers") as process:
        _wait_for_sound()
        silent = _process([sys.executable, "-c", SILENT, str(seconds)], "soundloom-silent")
        end = time.monotonic() + seconds
        for at, message in _score(len(PATCHES) + 1):
            if time.monotonic() > end:
                break
            send(at, message)
        anyway = json.loads(silent.communicate()[0])
        process.terminate()  # a polite kill ends what plays as Ctrl-C does
        told = json.loads(process.communicate()[0])
    names = [f"load, {percent} of 100 blocks" for percent in told["load"]]
    load, same = (dict(zip(names, parts, strict=True)) for parts in (told["load"].values(), anyway["same work"]))
    return [
        {"what": f"{len(PATCHES) + 1} parts, {HELD * (len(PATCHES) + 1)} voices", "minutes": seconds / 60, **load},
        {"what": "the same work over and over, against its median", **same},
        {"what": "blocks that came too late", "of": told["blocks"], "playing": told["xruns"], "silent": anyway["late"]},
    ]


def _score(parts: int) -> Iterator[tuple[float, bytes]]:
    """Without end: (seconds from the start, message), each part's keys, wheel and bend."""
    rng = np.random.default_rng(0)
    held: list[list[int]] = [[] for _ in range(parts)]
    happening = [(WARM_S + NOTE_S * k / parts, "note", k) for k in range(parts)]
    happening += [(WARM_S + WHEEL_S * k / parts, "wheel", k) for k in range(parts)]
    while True:
        happening.sort(reverse=True)
        at, what, part = happening.pop()
        if what == "note":
            if len(held[part]) >= HELD:
                yield at, bytes([OFF | part, held[part].pop(0), 0])
            key = int(rng.choice([key for key in range(40, 84) if key not in held[part]]))
            held[part].append(key)
            yield at, bytes([ON | part, key, int(rng.integers(30, 110))])
            happening.append((at + NOTE_S / (1 + 7 * (at < WARM_S + 3)), what, part))
        else:
            yield at, bytes([CC | part, 1, int(rng.integers(0, 128))])
            yield at, bytes([BEND | part, 0, int(rng.integers(50, 78))])
            happening.append((at + WHEEL_S, what, part))


def _onsets(driver: str) -> list[int]:
    """How many frames after its key each of thirty notes begins to sound."""
    library = _jack()
    way = ["--driver", driver, *(["--device", "system"] if driver == "portaudio" else [])]
    with _fingers() as send, _playing("pluck,release_s=0.01", "--midi", "fingers", *way) as process:
        _wait_for_sound()
        ear = library.Client("ear")
        ins = [ear.inports.register(side) for side in ("left", "right")]
        blocks: list[tuple[int, Any]] = []
        hearing = JackCallback(ear, lambda n: blocks.append((ear.last_frame_time, ins[0].get_array().copy())))
        ear.activate()
        for port, mine in zip(ear.get_ports("soundloom|PortAudio", is_audio=True, is_output=True), ins, strict=True):
            ear.connect(port, mine)
        send(0.5, bytes([CC, 91, 0]))  # no room
        times = [1.0 + 0.15 * k + 0.0007 * k for k in range(30)]
        for at in times:
            send(at, bytes([ON, 69, 100]))
            send(at + 0.05, bytes([OFF, 69, 0]))
        time.sleep(0.5)
        zero = send.zero
        process.terminate()  # a polite kill ends what plays as Ctrl-C does
        process.communicate()
        hearing.end()
        ear.close()
    onsets = []
    for at in times:
        frame = zero + round(at * RATE)
        pieces = [(start - frame, block) for start, block in blocks if frame - BLOCK < start < frame + 6000]
        peak = max(float(np.abs(block).max()) for _, block in pieces)
        onsets.append(next(
            int(start + np.argmax(loud)) for start, block in pieces
            if (loud := (np.abs(block) > 0.05 * peak) & (np.arange(len(block)) + start >= 0)).any()
        ))  # fmt: skip
    return onsets


class _Fingers:
    """Sends MIDI at seconds from its first message on, and waits until a little before it is due."""

    def __init__(self) -> None:
        self.client = _jack().Client("fingers")
        self.port = self.client.midi_outports.register("keys")
        self.zero = 0
        self.waiting: list[tuple[int, bytes]] = []
        self.callback = JackCallback(self.client, self._block)
        self.client.activate()

    def __call__(self, at: float, message: bytes) -> None:
        if not self.zero:
            self.zero = self.client.frame_time
        frame = self.zero + round(at * RATE)
        self.waiting.append((frame, message))
        while self.client.frame_time < frame - RATE // 10:
            time.sleep(0.02)

    def _block(self, n: int) -> None:
        self.port.clear_buffer()
        start = self.client.last_frame_time
        while self.waiting and self.waiting[0][0] < start + n:
            frame, message = self.waiting.pop(0)
            self.port.write_midi_event(max(frame - start, 0), message)


@contextmanager
def _fingers() -> Iterator[_Fingers]:
    fingers = _Fingers()
    try:
        yield fingers
    finally:
        fingers.callback.end()
        fingers.client.close()


@contextmanager
def _playing(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command itself."""
    command = [sys.executable, "-m", "soundloom", "play", *arguments, "--block", str(BLOCK), "--json"]
    process = _process(command, "soundloom-busy")
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _server(name: str) -> Iterator[None]:
    command = ["jackd", "-n", name, "-r", "-d", "dummy", "-r", str(RATE), "-p", str(BLOCK)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = os.environ.get("JACK_DEFAULT_SERVER", "")
    os.environ["JACK_DEFAULT_SERVER"] = "soundloom-busy"
    time.sleep(1.0)
    try:
        yield
    finally:
        os.environ["JACK_DEFAULT_SERVER"] = before
        process.terminate()
        process.wait()


def _process(command: list[str], server: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"JACK_DEFAULT_SERVER": server}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _wait_for_sound() -> None:
    client = _jack().Client("watcher")
    while not client.get_all_connections("system:playback_1"):
        time.sleep(0.1)
    client.close()


def _jack() -> Any:
    try:
        import jack
    except (ImportError, OSError) as error:
        raise common.Missing(f"needs JACK-Client and libjack: {error}") from None
    return jack


if __name__ == "__main__":
    common.print_table(main(*map(float, sys.argv[1:])), title=__doc__.splitlines()[0])
