"""Where the sounds of a run come from: from disk, or made; and the process that makes them ahead of a player."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from soundloom import checkpoint
from soundloom.errors import ModelError, SoundloomError
from soundloom.instruments import playhead
from soundloom.instruments.asks import LAYERS, Ask, Maker, Makes
from soundloom.instruments.soundcache import SoundCache
from soundloom.instruments.workshop import Bench
from soundloom.models.base import Samples
from soundloom.run import Run, families_that


def opened(source: Run | Makes) -> tuple[Makes, Path | None]:
    """The model of a run or a bare one, and the folder it can be opened from again."""
    model = source.model if isinstance(source, Run) else source
    if not isinstance(model, Samples):
        raise ModelError(f"a {model.family} has no sounds of its own to play: train a {families_that('sample')}")
    folder = source.folder if isinstance(source, Run) and (source.folder / "config.json").is_file() else None
    return model, folder


def owner_of(run: Run) -> str:
    """The name under which the sounds of a run are kept: other weights make other sounds."""
    return checkpoint.fingerprint(run.model.state_dict())


def fetched(asks: Sequence[Ask], maker: Maker, cache: SoundCache | None) -> list[tuple[NDArray[np.float32], int]]:
    """Sounds [T] and their sample rates: from disk those that are there, the others made and kept."""
    found = {ask: kept for ask in asks if cache is not None and (kept := cache.get(ask)) is not None}
    missing = list(dict.fromkeys(ask for ask in asks if ask not in found))
    for ask, sound in zip(missing, maker(missing), strict=True):
        found[ask] = (sound, maker.sample_rate)
        if cache is not None:
            cache.put(ask, sound, maker.sample_rate)
    return [found[ask] for ask in asks]


def at_rate(sound: NDArray[np.float32], rate: int, sample_rate: int) -> NDArray[np.float32]:
    """A sound [T] at another rate, as `playhead.read` takes it."""
    if rate != sample_rate:
        sound = soxr.resample(sound, rate, sample_rate, quality="HQ")
    return playhead.padded(sound)


def keyboard(low: float, high: float, near: float) -> list[float]:
    """The keys from low to high, whole semitones from `near`, outwards: every sixth, every third, and those between.

    >>> keyboard(57, 63, near=60)
    [60.0, 57.0, 63.0, 59.0, 61.0, 58.0, 62.0]
    """
    first, last = math.ceil(low - near), math.floor(high - near)
    steps = range(min(first, 0), max(last, 0) + 1)
    order = sorted(steps, key=lambda step: (step % 6 > 0, step % 3 > 0, abs(step), step))
    return [float(near + step) for step in order]


def layers(velocity: float | None) -> list[float | None]:
    """The layers of velocity, the nearest first; of a model that knows none there is one."""
    if velocity is None:
        return [None]
    every = [(i + 0.5) / LAYERS for i in range(LAYERS)]
    return [every[i] for i in np.argsort([abs(layer - velocity) for layer in every], kind="stable")]


def plan(ask: Ask, low: float, high: float, sample_rate: int) -> Iterator[tuple[Ask, int]]:
    """What is made ahead of a player: the keyboard as it is being played, then its other layers of velocity."""
    for velocity in layers(ask.velocity):
        for pitch in keyboard(low, high, round(ask.pitch)):
            yield replace(ask, velocity=velocity, pitch=pitch), sample_rate


def serve(settings: Mapping[str, Any], bench: Bench) -> None:
    """The workshop's work. What was asked for last comes first, since a player waits for it; where nothing is asked
    for, the keyboard is filled. A sound is sent before it is kept: disks are slow."""
    torch.set_num_threads(1)
    run = Run.load(settings["folder"], device=settings["device"])
    maker, cache = Maker(opened(run)[0]), SoundCache(Path(settings["sounds"]), owner=owner_of(run))
    fetched([Ask.of(settings["usual"])], maker, cache)  # what is slow the first time is slow now
    bench.ready(cache.owner)
    asked: list[tuple[Ask, int]] = []
    ahead: Iterator[tuple[Ask, int]] = iter(())
    sent: set[tuple[Ask, int]] = set()
    told, idle = "", False
    with ThreadPoolExecutor(max_workers=1) as keeper:
        while True:
            message = bench.next(wait=idle and not asked)
            if message is not None:
                if "now" in message:
                    asked.append((Ask.of(message["now"]), message["rate"]))
                else:
                    ahead, idle = plan(Ask.of(message["fill"]), message["low"], message["high"], message["rate"]), False
                continue
            wish = asked.pop() if asked else next((one for one in ahead if one not in sent), None)
            idle = wish is None
            if wish is None:
                continue
            sent.add(wish)
            ask, sample_rate = wish
            kept = cache.get(ask)
            try:
                sound, own_rate = kept if kept is not None else (maker([ask])[0], maker.sample_rate)
            except SoundloomError as error:
                bench.send({"trouble": str(error)})
                continue
            bench.send({"made": ask.document(), "rate": sample_rate}, at_rate(sound, own_rate, sample_rate))
            if kept is None:
                keeper.submit(cache.put, ask, sound, own_rate)
            if cache.trouble != told:
                told = cache.trouble
                bench.send({"trouble": told})
