"""What file names say: labels, notes, velocities; each by a rule that is found in the names and shown to the person."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from soundloom.errors import BankError

Span = tuple[int, int]

_BEFORE = r"(?:(?<![A-Za-z0-9#])|(?<=[a-z])(?=[A-G]))"  # a word of its own, or the C4 of PianoC4
_SIGNED = re.compile(_BEFORE + r"([A-Ga-g])([#♯s]|[b♭])?(-?\d)(?![A-Za-z0-9])")
_UNSIGNED = re.compile(_BEFORE + r"([A-Ga-g])([#♯s]|[b♭])?()-?(\d)(?![A-Za-z0-9])")
_NUMBER = re.compile(r"(?<![0-9.])\d{1,3}(?![0-9])")
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SEPARATORS = re.compile(r"[\s_\-.,;:()\[\]{}'\"]+")

_DYNAMICS = {name: (i + 1) / 8 for i, name in enumerate(("ppp", "pp", "p", "mp", "mf", "f", "ff", "fff"))}
_WORDS = {"soft": 0.3, "quiet": 0.3, "med": 0.6, "medium": 0.6, "hard": 0.9, "loud": 0.9}
_DYNAMIC = re.compile(r"(?<![A-Za-z0-9])(ppp|pp|p|mp|mf|fff|ff|f)(?![A-Za-z0-9#])", re.IGNORECASE)
_WORD = re.compile(r"(?<![A-Za-z])(soft|quiet|medium|med|hard|loud)(?![A-Za-z])", re.IGNORECASE)
_VELOCITY = re.compile(r"(?<![A-Za-z])v(?:el(?:ocity)?)?[ _-]?(\d{1,3})(?![0-9A-Za-z])", re.IGNORECASE)

# How a tracker errs: it hears a partial, or a common divisor, as the fundamental.
_ERRORS = (1 / 4, 1 / 3, 1 / 2, 2.0, 3.0, 4.0)
_NEAR = 0.75  # semitones: piano octaves are stretched, the top notes of one by 51 cents


@dataclass(frozen=True)
class NamedPitches:
    """Notes found in names. `pitch` [n] as written (NaN: none there), `offset` how far the sounds are above it.

    `spans` are the places in the file names; `agreement` is the part of the measured pitches that the names explain.
    """

    rule: str
    pitch: NDArray[np.float64]
    spans: tuple[Span | None, ...]
    offset: float
    agreement: float


@dataclass(frozen=True)
class NamedVelocities:
    """Velocities found in names, 0 to 1 (NaN: none there)."""

    rule: str
    velocity: NDArray[np.float64]
    spans: tuple[Span | None, ...]


def stem(path: str) -> str:
    return PurePosixPath(path).stem


def find_pitches(paths: Sequence[str], measured: NDArray[np.float64]) -> NamedPitches | None:
    """The rule by which the names carry notes, if the measured pitches [n] (MIDI, NaN: none) bear it out.

    Tried are note names (the first or last in a name; `A-1` with a sign and with a dash) and MIDI numbers at each
    place. A rule must explain seven measurements of ten up to octaves (numbers, which are common in names, eight of
    ten exactly, over five different ones), a constant distance apart. The best one wins; None if there is none.
    """
    found: list[tuple[tuple[float, float], NamedPitches]] = []
    for rule, parse, strict in _hypotheses():
        parsed = [parse(stem(path)) for path in paths]
        pitch = np.array([np.nan if p is None else p[0] for p in parsed])
        both = np.isfinite(pitch) & np.isfinite(measured)
        if np.isfinite(pitch).mean() < 0.5 or len(np.unique(pitch[both])) < (5 if strict else 3):
            continue
        distance = measured[both] - pitch[both]
        offset = float(Counter(np.round(distance).tolist()).most_common(1)[0][0])
        exact = float(np.mean(np.abs(distance - offset) < _NEAR))
        agreement = exact if strict else float(np.mean(np.abs((distance - offset + 6) % 12 - 6) < _NEAR))
        if agreement < (0.8 if strict else 0.7):
            continue
        spans = tuple(None if p is None else p[1] for p in parsed)
        found.append(((exact, agreement), NamedPitches(rule, pitch, spans, offset, exact)))
    return max(found, key=lambda item: item[0])[1] if found else None


def _hypotheses() -> Iterable[tuple[str, Callable[[str], tuple[float, Span] | None], bool]]:
    def note(pattern: re.Pattern[str], which: int) -> Callable[[str], tuple[float, Span] | None]:
        def parse(text: str) -> tuple[float, Span] | None:
            matches = list(pattern.finditer(text))
            return (_note(matches[which]), matches[which].span()) if matches else None

        return parse

    def number(which: int) -> Callable[[str], tuple[float, Span] | None]:
        def parse(text: str) -> tuple[float, Span] | None:
            matches = list(_NUMBER.finditer(text))
            if not -len(matches) <= which < len(matches) or not 12 <= int(matches[which][0]) <= 120:
                return None
            return float(matches[which][0]), matches[which].span()

        return parse

    yield "the last note name", note(_SIGNED, -1), False
    yield "the first note name", note(_SIGNED, 0), False
    yield "the last note name, dashes apart", note(_UNSIGNED, -1), False
    yield "the first note name, dashes apart", note(_UNSIGNED, 0), False
    for i, place in enumerate(("first", "second", "third")):
        yield f"the {place} number as a MIDI number", number(i), True
    yield "the last number as a MIDI number", number(-1), True
    yield "the last number but one as a MIDI number", number(-2), True


def _note(match: re.Match[str]) -> float:
    letter, accidental, octave = match[1], match[2] or "", match[match.re.groups]
    shift = 1 if accidental in ("#", "♯", "s") and accidental else -1 if accidental in ("b", "♭") else 0
    return 12.0 * (int(octave) + 1) + _STEPS[letter.lower()] + shift


def correction(measured: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factor [n] that puts a measured pitch right where it missed the expected one (both MIDI) by a tracker's
    error: an octave, a twelfth or two octaves. 1 elsewhere: a name that is simply wrong does not move a measurement.
    """
    factor = np.ones(len(measured))
    for ratio in _ERRORS:
        missed = np.abs(measured - expected - 12 * np.log2(ratio)) < _NEAR
        factor[missed] = 1 / ratio
    return factor


def find_velocities(paths: Sequence[str], pitches: NamedPitches | None) -> NamedVelocities | None:
    """The rule by which the names carry velocities: dynamics (`pp` … `ff`), words, `v64`, or the number after a note.

    A rule must hold for half of the names and give more than one value. A level says nothing in normalised packs.
    """
    stems = [stem(path) for path in paths]

    def after_note(i: int, text: str) -> tuple[float, Span] | None:
        span = pitches.spans[i] if pitches else None
        match = _NUMBER.search(text, span[1]) if span else None
        return (float(match[0]), match.span()) if match else None

    def by(pattern: re.Pattern[str], value: Callable[[str], float]) -> Callable[[int, str], tuple[float, Span] | None]:
        def parse(_: int, text: str) -> tuple[float, Span] | None:
            match = pattern.search(text)
            return (value(match[1]), match.span()) if match else None

        return parse

    rules: list[tuple[str, Callable[[int, str], tuple[float, Span] | None], bool]] = [
        ("dynamics from ppp to fff", by(_DYNAMIC, lambda text: _DYNAMICS[text.lower()]), False),
        ("soft, medium and hard", by(_WORD, lambda text: _WORDS[text.lower()]), False),
        ("the number after v", by(_VELOCITY, float), True),
        ("the number after the note", after_note, True),
    ]
    for rule, parse, whole in rules:
        parsed = [parse(i, text) for i, text in enumerate(stems)]
        values = np.array([np.nan if p is None else p[0] for p in parsed])
        there = values[np.isfinite(values)]
        if len(there) < 0.5 * len(stems) or len(np.unique(there)) < 2:
            continue
        if whole:
            # Layers are counted from 1 up to perhaps 16; MIDI velocities go to 127; take numbers are rarely repeated.
            if there.max() > 127 or len(np.unique(there)) > len(there) / 2:
                continue
            if rule.endswith("note") and there.max() <= 16:
                continue
            values = values / (127 if there.max() > 16 else there.max())
        return NamedVelocities(rule, values, tuple(None if p is None else p[1] for p in parsed))
    return None


def find_labels(
    paths: Sequence[str], *, label_from: str | None = None, used: Sequence[Sequence[Span]] = ()
) -> tuple[str, list[str | None]]:
    """The rule for labels, in words, and the label of each path (None where it has none).

    `label_from` "folder", "name" or a regular expression; None finds out: the folders if there are several, else the
    first word of the names that repeats but differs. `used` are the places in the names that say something else.
    """
    if label_from not in (None, "folder", "name"):
        assert label_from is not None
        return _labels_by_pattern(paths, label_from)
    if label_from != "name":
        labels = _labels_by_folder(paths)
        several = len(set(labels) - {None}) > 1 and sum(label is not None for label in labels) > 0.8 * len(labels)
        if several or label_from == "folder":
            return "folder", labels
    words = [_words(path, used[i] if used else ()) for i, path in enumerate(paths)]
    for place in range(4):
        labels = [word[place] if len(word) > place else None for word in words]
        different, there = len(set(labels) - {None}), sum(label is not None for label in labels)
        if there >= 0.9 * len(paths) and 1 < different <= there / 2:
            return f"name: word {place + 1}", labels
    if label_from == "name":
        return "name: word 1", [word[0] if word else None for word in words]
    return "none", [None] * len(paths)


def _words(path: str, used: Sequence[Span]) -> list[str]:
    text = stem(path)
    for start, end in used:
        text = text[:start] + " " * (end - start) + text[end:]
    words = [word.lower() for word in _SEPARATORS.split(text) if word]
    return [word.rstrip("0123456789") or word for word in words]  # kick1 is a kick; 7 stays 7


def _labels_by_folder(paths: Sequence[str]) -> list[str | None]:
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    while folders and all(folders) and len({parts[0] for parts in folders}) == 1:
        folders = [parts[1:] for parts in folders]
    return [parts[0] if parts else None for parts in folders]


def _labels_by_pattern(paths: Sequence[str], pattern: str) -> tuple[str, list[str | None]]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise BankError(
            f"--label-from '{pattern}' is neither folder nor name, and as a regular expression it fails: {error}"
        ) from None
    matches = [compiled.search(path) for path in paths]
    if not any(matches):
        raise BankError(f"--label-from '{pattern}' matches none of the {len(paths)} names, as '{paths[0]}'")
    return f"pattern: {pattern}", [m and (m[1] if compiled.groups else m[0]) for m in matches]


def read_csv(path: Path, *, needed: Sequence[str], known: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file as texts. `BankError` where it lacks a needed column or has an unknown one."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BankError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    reader = csv.DictReader(text.splitlines(keepends=True))
    columns = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in needed if name not in columns]
    unknown = [name for name in columns if known and name not in (*needed, *known)]
    if missing or unknown:
        what = f"lacks the column {missing[0]}" if missing else f"has an unknown column '{unknown[0]}'"
        raise BankError(f"{path} {what}: its first line must name columns of {', '.join((*needed, *known))}")
    reader.fieldnames = columns
    rows = []
    for row in reader:
        if None in row:
            raise BankError(f"{path}, line {reader.line_num}, has more values than columns: put names in quotes")
        rows.append({name: (value or "").strip() if name != "path" else value or "" for name, value in row.items()})
    return rows
