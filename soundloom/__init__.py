"""Soundloom turns a folder of sounds into instruments that can be played.

    import soundloom as sl

    bank = sl.scan("my-sounds", "my-bank")
    run = sl.train(bank, "my-run", minutes=10)
    for i, sound in enumerate(run.sample(16, seed=1)):
        sl.write(f"new-{i:03d}.wav", sound)

Nothing heavy is imported before it is used: torch loads on the first call that needs it.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Before torch or numpy load: waiting threads sleep instead of spinning (on two busy cores spinning is up to 60 times
# slower), and OpenBLAS stays out of the way of numba's loops.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from soundloom.api import scan, train
    from soundloom.audio import Waveform, read, resample, write
    from soundloom.bank import SoundBank
    from soundloom.errors import SoundloomError
    from soundloom.evaluate import evaluate
    from soundloom.instruments.opening import instrument
    from soundloom.performing import play
    from soundloom.render import render
    from soundloom.run import Run, load
    from soundloom.score import Note, Score, parse

# Public name -> where it lives.
_HOME = {
    "Waveform": "audio", "read": "audio", "resample": "audio", "write": "audio",
    "SoundBank": "bank", "scan": "api",
    "train": "api", "Run": "run", "load": "run", "evaluate": "evaluate",
    "Note": "score", "Score": "score", "parse": "score", "render": "render", "instrument": "instruments.opening",
    "play": "performing",
    "SoundloomError": "errors",
}  # fmt: skip

__all__ = [
    "Note", "Run", "Score", "SoundBank", "SoundloomError", "Waveform", "evaluate", "instrument", "load", "parse",
    "play", "read", "render", "resample", "scan", "train", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'soundloom' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"soundloom.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


class _Package(ModuleType):
    """`soundloom.train` is the function: importing the file of that name must not hide it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
