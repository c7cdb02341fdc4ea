"""Where the numbers are crunched: devices, threads, processes that `torchrun` started together, and interrupts."""

import atexit
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor, nn

from soundloom.config import did_you_mean
from soundloom.errors import ConfigError, TrainingError
from soundloom.paths import sole_writer


def devices() -> list[str]:
    """The names of the devices of this machine, the best first; "cpu" is always the last."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def pick_device(name: str | None) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1", "mps"); None takes the best there is.

    >>> pick_device("cpu")
    device(type='cpu')

    Raises:
        ConfigError: no such device here; the message names those that exist.
    """
    here = devices()
    if name is None:
        return torch.device(here[0])
    if name in here:
        return torch.device(name)
    if name == "cuda" and here[0].startswith("cuda"):
        return torch.device(here[0])
    raise ConfigError(f"there is no device '{name}' on this machine: {did_you_mean(name, here)}")


def keep_memory() -> None:
    """Has the C library keep what is freed instead of giving it back to the system and asking again.

    Large tensors are otherwise mapped afresh every time, and clearing their pages costs a fifth of a training step.
    Only glibc knows this setting; elsewhere nothing happens.
    """
    trim_threshold, map_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(map_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def set_threads(threads: int | None) -> int:
    """Lets torch use so many threads and returns how many it uses; None keeps torch's own choice.

    One thread makes a run repeatable bit for bit: sums are then always taken in the same order.
    """
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"threads is {threads}: it starts at 1")
        torch.set_num_threads(threads)
    return torch.get_num_threads()


@dataclass(frozen=True)
class World:
    """The processes that train one model together. A run alone is a world of one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and decides when to save and to stop."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: every process of a machine has a GPU of its own."""
        return torch.device("cuda", self.local_rank) if device.type == "cuda" and self.size > 1 else device

    def mean_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Replaces each gradient by its mean over the processes and returns the mean loss (NaN if any one is).

        A parameter that this process' batch did not reach has None as gradient: it counts as zeros where another
        process has a gradient, and stays None where none has. Everything travels in one message, since latency is
        what costs here.
        """
        loss = loss.detach()
        if self.size == 1:
            return loss
        reached = [float(p.grad is not None) for p in parameters]
        message = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
            + [torch.tensor(reached, device=loss.device), loss.float().reshape(1)]
        )
        dist.all_reduce(message)
        message /= self.size
        sizes = [p.numel() for p in parameters]
        *gradients, anywhere, mean_loss = torch.split(message, [*sizes, len(sizes), 1])
        for parameter, gradient, reached_by in zip(parameters, gradients, anywhere.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if reached_by > 0 else None
        return mean_loss

    def agree(self, *flags: bool) -> list[bool]:
        """Each flag, raised if any process raises it, so that all of them stop and save at the same step."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.float32, device=self._message_device())
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def leaders(self, value: int) -> int:
        """The leading process' value, for what is measured and must be the same everywhere."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.int64, device=self._message_device())
        dist.broadcast(told, src=0)
        return int(told.item())

    def _message_device(self) -> torch.device:
        return torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")


def joined(device: torch.device) -> World:
    """The world that `torchrun` described in the environment, joined; without `torchrun` a world of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        # Until the process ends: a second group would find the first one's dead addresses in torchrun's store.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def alone_in(folder: Path, world: World) -> Iterator[None]:
    """Keeps other runs out of a folder for the length of the block; of one run's processes, the first stands guard."""
    if not world.leads:
        yield
        return
    refusal = TrainingError(f"another process is training in {folder}: wait for it, or choose another folder with -o")
    with sole_writer(folder, folder / "previews", refusal=refusal):
        yield


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets, so that the step in progress ends and is saved. A second Ctrl-C
    stops at once. Outside the main thread signals are not ours to catch, and the event stays unset."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def caught(number: int, frame: FrameType | None) -> None:
        event.set()
        restore()

    for number in before:
        signal.signal(number, caught)
    try:
        yield event
    finally:
        restore()
