"""A trained codec between a microphone and the loudspeakers: who comes in goes out in its timbre, transposed.

callback ──▶ ring ──▶ to the model's rate ──▶ LiveCodec ──▶ to the device's rate ──▶ ring ──▶ callback
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from soundloom.backends import Sound
from soundloom.errors import ConfigError, ModelError
from soundloom.guard import Guard
from soundloom.live import Way, attend, described, interrupted_once, summary
from soundloom.midiin import Message
from soundloom.models.codec import Codec
from soundloom.models.live import LiveCodec
from soundloom.player import Load
from soundloom.rates import Resampler
from soundloom.ring import Ring
from soundloom.run import Run
from soundloom.tape import Tape
from soundloom.terminal import Terminal

ROOM_S = 2.0  # of each ring
CUSHION_S = 0.02  # what lies ready before sound goes out, beside two blocks: the model's breath
PAUSE_S = 0.001  # between two looks at what came in


class Transformer:
    """What a callback plays where a codec plays what is heard. The codec works in a thread of its own; where it falls
    behind there is a gap, counted in `gaps`, and from then on the sound is as much later."""

    def __init__(
        self,
        codec: LiveCodec,
        *,
        sample_rate: int,
        block: int,
        transpose: float = 0.0,
        seed: int = 0,
        tape: Tape | None = None,
    ) -> None:
        self.codec, self.transpose, self.tape = codec, transpose, tape
        self.sample_rate, self.block = sample_rate, block
        self.frames = self.gaps = self.overflows = 0
        self.load = Load()
        self.error: Exception | None = None
        rate = int(codec.codec.config.sample_rate)
        self._model_rate = rate
        self._in, self._out = (Ring(1, round(ROOM_S * sample_rate)) for _ in range(2))
        self._cushion = 2 * block + round(CUSHION_S * sample_rate)
        self._down, self._up = Resampler(sample_rate, rate), Resampler(rate, sample_rate)
        self._state = codec.init_state(seed=seed)
        self._guard = Guard(sample_rate)
        self._flowing = False
        self._told = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="codec", daemon=True)

    @property
    def latency_s(self) -> float:
        """From what comes into the computer to what goes out of it, as it is now; without the device's own."""
        waiting = (self._in.written - self._out.taken) / self.sample_rate
        return waiting + self._down.latency_s + self.codec.latency / self._model_rate + self._up.latency_s

    def __enter__(self) -> "Transformer":
        torch.set_num_threads(1)
        state = self.codec.init_state()
        for _ in range(3):  # what is compiled and loaded at first use is there before the first sound
            _, state = self.codec.process(torch.zeros(self._model_rate // 10), state, transpose=self.transpose)
        Resampler(2, 1).process(np.zeros(1, np.float32))
        self._guard.pass_through(np.zeros((2, 1), np.float32))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def render(self, heard: Sound | None, out: Sound, messages: Sequence[Message]) -> None:
        """Takes in [2, n], gives out what is ready; MIDI means nothing here."""
        start = time.thread_time()
        n = out.shape[1]
        made = np.zeros((2, n), np.float32)
        if heard is not None:
            self.overflows += self._in.write(heard.mean(axis=0, keepdims=True, dtype=np.float32)) < n
        if not self._flowing:
            self._flowing = self._out.ready >= self._cushion
        if self._flowing:
            short = n - self._out.read(made[:1])
            if short:
                self.gaps += 1
                self._flowing = False
        made[1] = made[0]
        self._guard.pass_through(made)
        out[:] = made
        if self.tape is not None:
            self.tape.hear(made)
        self.frames += n
        self.load.add((time.thread_time() - start) * self.sample_rate / n)

    def finish(self) -> None:
        """The next block falls to silence."""
        self._guard.ending = True

    def news(self) -> list[str]:
        """That there were gaps, if there were more than last time."""
        if self.gaps == self._told:
            return []
        self._told = self.gaps
        return [f"note: {self.gaps} gaps: the model did not keep up; {1000 * self.latency_s:.0f} ms late from now on"]

    def _work(self) -> None:
        try:
            while not self._over.is_set():
                if not self.pump():
                    time.sleep(PAUSE_S)
        except Exception as error:  # the main thread says why
            self.error = error

    def pump(self) -> bool:
        """Passes on what has come in; says whether there was anything."""
        block = np.zeros((1, self._in.ready), np.float32)
        if not self._in.read(block):
            return False
        down = self._down.process(np.nan_to_num(block[0], posinf=0.0, neginf=0.0))
        made, self._state = self.codec.process(torch.from_numpy(down), self._state, transpose=self.transpose)
        self._out.write(self._up.process(made.cpu().numpy())[None])
        return True


def transform(
    run: Run,
    way: Way,
    *,
    transpose: float = 0.0,
    seed: int = 0,
    record: Path | None = None,
    seconds: float | None = None,
    terminal: Terminal,
) -> dict[str, Any]:
    """Plays what comes in through a codec until Ctrl-C or for some seconds, and says how it went.

    Raises:
        ModelError: the run is no codec, or one that looks ahead.
        DeviceError: there is no device, or it went away.
    """
    if not isinstance(run.model, Codec):
        raise ModelError(
            f"a {run.family} does not play what it hears: train `--family codec --set causal=true`, "
            "or give this run to `soundloom play`"
        )
    if not -48 <= transpose <= 48:
        raise ConfigError(f"a transposition of {transpose:g} semitones was asked for: it goes from -48 to 48")
    codec = LiveCodec(run.model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupted_once())
        backend = way.opened()
        stack.callback(backend.stop)
        tape = stack.enter_context(Tape(record, backend.sample_rate)) if record else None
        transformer = stack.enter_context(
            Transformer(
                codec,
                sample_rate=backend.sample_rate,
                block=backend.block,
                transpose=transpose,
                seed=seed,
                tape=tape,
            )
        )
        late = 1000 * codec.latency / run.sample_rate
        terminal.say(f"{described(backend)}, and {late:.0f} ms in the codec")
        attend(backend, transformer, terminal=terminal, seconds=seconds)
    return summary(backend, transformer, tape) | {
        "run": run.folder,
        "transpose": transpose,
        "gaps": transformer.gaps,
        "overflows": transformer.overflows,
        "codec_latency_ms": late,
        "way_through_ms": 1000 * transformer.latency_s,
    }
