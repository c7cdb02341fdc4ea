"""Engines and effects by name; a module is loaded when it is first asked for, so what is not played costs nothing."""

import importlib
from typing import Any

from soundloom.config import did_you_mean
from soundloom.errors import ConfigError

ENGINES = {
    "subtractive": "subtractive:Subtractive",
    "pluck": "pluck:Pluck",
    "sampler": "sampler:Sampler",
    "granular": "granular:Granular",
    "modal": "modal:Modal",
    "tube": "tube:Tube",
    "bowed": "bowed:Bowed",
    "fm": "fm:FM",
    "wavetable": "wavetable:Wavetable",
    "additive": "additive:Additive",
    "drums": "drums:Drums",
}
SOURCED = ("sampler", "granular", "wavetable")  # engines that play from a recording, given as `source`
EFFECTS = {
    "equaliser": "equaliser:Equaliser",
    "compressor": "compressor:Compressor",
    "drive": "drive:Drive",
    "chorus": "chorus:Chorus",
    "delay": "delay:Delay",
    "reverb": "reverb:Reverb",
}


def engine(name: str) -> Any:
    """The class of an engine: called with `settings` and `voices`, it gives an instrument."""
    return _named(name, ENGINES, "engine")


def effect(name: str) -> Any:
    """The class of an effect: called with `settings`, it gives an `AbstractEffect`."""
    return _named(name, EFFECTS, "effect")


def _named(name: str, known: dict[str, str], what: str) -> Any:
    if name not in known:
        raise ConfigError(f"there is no {what} '{name}': {did_you_mean(name, known)}")
    module, _, cls = known[name].partition(":")
    return getattr(importlib.import_module(f"soundloom.instruments.{module}"), cls)
