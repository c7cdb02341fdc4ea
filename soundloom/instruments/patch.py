"""Patches: an engine, where its knobs stand, what it plays from, its effects, as a small file that people can read.

name = "Warm pad"
about = "two detuned saws behind a slow filter"
engine = "subtractive"
voices = 12

[parameters]
cutoff_hz = 900.0

[controls.modulation]
param = "cutoff_hz"
to = 4000.0

[[effects]]
effect = "chorus"
mix = 0.4
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from numbers import Real
from pathlib import Path
from typing import Any

import tomli_w

from soundloom.config import did_you_mean, from_dict
from soundloom.errors import ConfigError
from soundloom.instruments.base import AbstractInstrument
from soundloom.instruments.chain import Chain
from soundloom.instruments.controls import MODULATION, PRESSURE, Playable, Route, between, usual_routes
from soundloom.instruments.engines import effect, engine
from soundloom.paths import replacing

CONTROLS = {"modulation": MODULATION, "pressure": PRESSURE}  # and any controller by its number, as in "cc74"
LARGEST = 1 << 16  # bytes of a patch file
MOST_VOICES = 512
SOFTEST_DB, LOUDEST_DB = -60.0, 24.0


@dataclass(frozen=True)
class Turn:
    """A controller turns `param` from where it stands to `to`."""

    param: str
    to: float


@dataclass(frozen=True)
class Patch:
    """An instrument as it is written down. `source` is what engines play from that play recordings: a file, a
    folder, a trained run, another patch (see `opening`)."""

    name: str
    engine: str
    about: str = ""
    kind: str = ""
    source: str = ""
    label: str = ""  # of a trained run: which kind of its sounds
    played_as: str = ""  # and as what: "sounds", "texture" or "melody"; else what suits its family
    voices: int = 16
    gain_db: float = 0.0
    room: float = 0.15  # how much of it goes into the room that all share
    parameters: Mapping[str, float] = field(default_factory=dict)
    controls: Mapping[str, Any] = field(default_factory=dict)
    effects: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (("voices", 1, MOST_VOICES), ("gain_db", SOFTEST_DB, LOUDEST_DB), ("room", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{self.name}: {name} is {getattr(self, name):g}: it goes from {low:g} to {high:g}")
        if not isinstance(self.effects, tuple):
            raise ConfigError(f"{self.name}: effects are tables: write [[effects]] before each")
        _checked(self.parameters, where=f"{self.name}: parameters")


def load(path: Path | str) -> Patch:
    """A patch from its file; `ConfigError` where it is none."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"{path.name} has more than {LARGEST >> 10} KiB: that is no patch")
    return parsed(content, where=path.name)


def parsed(content: bytes, *, where: str) -> Patch:
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is no patch: {' '.join(str(error).split())}") from None
    for key in ("name", "engine"):
        if key not in values:
            raise ConfigError(f'{where} has no {key}: write {key} = "..." as its first lines')
    return from_dict(Patch, values, where=where)


def save(path: Path | str, patch: Patch) -> None:
    """The patch as a file; what is as usual is left out."""
    values: dict[str, Any] = {}
    for one in fields(patch):
        value = getattr(patch, one.name)
        if one.name in ("name", "engine") or (value and value != one.default):
            values[one.name] = list(value) if isinstance(value, tuple) else value
    with replacing(path) as part:
        part.write_bytes(tomli_w.dumps(values).encode())


def shipped() -> list[str]:
    """The names of the patches that come along."""
    return sorted(one.name.removesuffix(".toml") for one in _folder().iterdir() if one.name.endswith(".toml"))


def named(name: str) -> Patch:
    """A patch that comes along, by the name of its file."""
    if name not in shipped():
        raise ConfigError(f"there is no patch '{name}': {did_you_mean(name, shipped())}")
    return parsed((_folder() / f"{name}.toml").read_bytes(), where=name)


def build(patch: Patch, *, source: Any = None, settings: Mapping[str, float] | None = None) -> Playable:
    """The patch as an instrument. `source` is what the engine plays from, opened; `settings` override parameters."""
    own = {**patch.parameters, **(settings or {})}
    inner = {key: value for key, value in own.items() if "." not in key}
    instrument: AbstractInstrument = (
        engine(patch.engine)(inner, voices=patch.voices)
        if source is None
        else engine(patch.engine)(inner, voices=patch.voices, source=source)
    )
    return finished(patch, instrument, own)


def finished(patch: Patch, instrument: AbstractInstrument, settings: Mapping[str, float]) -> Playable:
    """An instrument with a patch's effects after it and its controls on it. `settings` say where its knobs stand, and
    those of the effects, as in "reverb.mix", over what the patch says."""
    own = dict(settings)
    effects = []
    for number, table in enumerate(patch.effects):
        if not isinstance(table, Mapping) or not isinstance(table.get("effect"), str):
            raise ConfigError(f'{patch.name}: effect {number + 1} has no name: write effect = "reverb"')
        name = table.get("name", table["effect"])  # two of a kind have names of their own
        if not isinstance(name, str) or "." in name:
            raise ConfigError(f"{patch.name}: effect {number + 1} is named {name!r}: a name is a word without a dot")
        said = {f"{name}.{key}": value for key, value in table.items() if key not in ("effect", "name")}
        own = _checked(said, where=f"{patch.name}: effect {number + 1}") | own
        knobs = {key.removeprefix(f"{name}."): own[key] for key in own if key.startswith(f"{name}.")}
        effects.append((name, effect(table["effect"])(knobs)))
    stray = next((key for key in own if "." in key and key.partition(".")[0] not in dict(effects)), None)
    if stray is not None:
        raise ConfigError(f"{patch.name} has no effect for '{stray}'")
    if effects:
        instrument = Chain(instrument, effects)
    return Playable(patch.name, instrument, _routes(patch, instrument, own), patch.gain_db, patch.room)


def _checked(values: Mapping[str, Any], *, where: str) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ConfigError(f"{where}: {name} is {value!r}, which is no number")
    return dict(values)


def _routes(patch: Patch, instrument: AbstractInstrument, settings: Mapping[str, float]) -> dict[int, Route]:
    """What controllers turn, from where the knobs stand."""
    own = {param.name: settings.get(param.name, param.default) for param in instrument.params}
    params = {param.name: param for param in instrument.params}
    routes = usual_routes(instrument, own)
    for key, turn in patch.controls.items():
        number = CONTROLS.get(key, int(key[2:]) if key.startswith("cc") and key[2:].isdecimal() else None)
        if number is None:
            raise ConfigError(f"{patch.name}: there is no control '{key}': {did_you_mean(key, [*CONTROLS, 'cc74'])}")
        if not isinstance(turn, Mapping):
            raise ConfigError(f"{patch.name}: controls.{key} is {turn!r}: write a param, and what it goes to")
        turn = from_dict(Turn, turn, where=f"{patch.name}: controls.{key}")
        if turn.param not in params:
            raise ConfigError(f"{patch.name}: no parameter '{turn.param}': {did_you_mean(turn.param, params)}")
        param = params[turn.param]
        routes[number] = between(param, own[turn.param], param.checked(turn.to))
    return routes


def numbers(pairs: Iterable[str], *, where: str) -> dict[str, float]:
    """`key=value` texts as knobs."""
    knobs = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        try:
            knobs[key] = float(value)
        except ValueError:
            if not equals:
                raise ConfigError(f"'{key}' in '{where}' is not key=value, as in subtractive,cutoff_hz=800") from None
            raise ConfigError(f"the knob {key} is '{value}', which is no number") from None
    return knobs


def _folder() -> Any:
    return resources.files("soundloom") / "patches"
