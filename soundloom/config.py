"""Settings as frozen dataclasses: to and from JSON, `--set key=value`, and "did you mean" for what does not exist."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from soundloom.errors import ConfigError

T = TypeVar("T")


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known names, or all of them when nothing is close.

    >>> did_you_mean("chanels", ["channels", "depth"])
    'did you mean channels?'
    """
    known = sorted(known)
    close = difflib.get_close_matches(wrong, known, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are: {', '.join(known)}" if known else "there are none"


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen dataclass as plain JSON values (tuples become lists)."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "the config") -> T:
    """The dataclass `cls` from JSON values. Unknown keys and wrong types are refused with `ConfigError`."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    kept = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{where} has an unknown key '{key}': {did_you_mean(key, fields)}")
        kept[key] = _coerce(value, hints[key], f"{where}: {key}")
    try:
        return cls(**kept)
    except TypeError as error:
        raise ConfigError(f"{where} is incomplete: {error}") from None


def override(config: T, settings: Iterable[str]) -> T:
    """`config` with `key=value` texts applied, each value read as the type of its field.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Size: width: int = 3
    >>> override(Size(), ["width=5"])
    Size(width=5)
    """
    hints = typing.get_type_hints(type(config))
    changes = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"--set '{setting}' is not key=value, as in --set channels=192")
        if key not in hints:
            raise ConfigError(f"--set knows no '{key}': {did_you_mean(key, hints)}")
        changes[key] = _parse(text.strip(), hints[key], key)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _parse(text: str, hint: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() in ("none", "null", ""):
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)), key)
    if origin is tuple:
        return tuple(_parse(part.strip(), arguments[0], key) for part in text.split(",") if part.strip())
    if hint is bool:
        if text.lower() in ("true", "yes", "1", "on"):
            return True
        if text.lower() in ("false", "no", "0", "off"):
            return False
        raise ConfigError(f"{key} is yes or no, not '{text}'")
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ConfigError(f"{key} is {'a whole number' if hint is int else 'a number'}, not '{text}'") from None
    return text


def _coerce(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast(type, hint), value, where=where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _coerce(value, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(
            _coerce(
                item, arguments[min(i, len(arguments) - 1)] if arguments[-1] is not Ellipsis else arguments[0], where
            )
            for i, item in enumerate(value)
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, bool, str) and type(value) is not hint:
        raise ConfigError(f"{where} is {value!r}, which is no {hint.__name__}")
    return value
