"""The files of a bank folder: `bank.json`, the table `bank.parquet`, and the mapped audio and pitch tracks."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import DTypeLike, NDArray

from soundloom.errors import BankError
from soundloom.paths import replacing

VERSION = 1

_TEXT, _REAL, _WHOLE = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
# What other people's scripts may read.
COLUMNS: dict[str, Any] = {
    "path": _TEXT,
    "start_s": _REAL,
    "seconds": _REAL,
    "hash": _TEXT,
    "split": _TEXT,
    "reason": _TEXT,
    "label": _TEXT,
    "pitch": _REAL,
    "pitch_confidence": _REAL,
    "velocity": _REAL,
    "loudness_lufs": _REAL,
    "brightness_hz": _REAL,
    "noisiness": _REAL,
    "attack_s": _REAL,
    "decay_s": _REAL,
    "onset_s": _REAL,
    "inharmonicity": _REAL,
    "gain_db": _REAL,
    "caption": _TEXT,
    "duplicate_of": _TEXT,
    "sample_rate": _WHOLE,
    "channels": _WHOLE,
    "cut": _TEXT,
    "name_pitch": _REAL,
    # What the bank itself needs: where the audio and the track are, what was measured before any correction, and what
    # tells a new scan that a file is still the same.
    "measured_pitch": _REAL,
    "steadiness": _REAL,
    "group": _WHOLE,
    "section": _TEXT,
    "offset": _WHOLE,
    "frames": _WHOLE,
    "track_offset": _WHOLE,
    "track_frames": _WHOLE,
    "track_ratio": _REAL,
    "fingerprint": pyarrow.binary(),
    "file_size": _WHOLE,
    "file_mtime_ns": _WHOLE,
    "file_hash": _TEXT,
}


def save(folder: Path, facts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes the table, then `bank.json`: a bank is whole when its `bank.json` names files that are there."""
    rows = list(rows)
    columns = {name: [_known(row.get(name)) for row in rows] for name in COLUMNS}
    written = pyarrow.table(columns, schema=pyarrow.schema(list(COLUMNS.items())))
    with replacing(folder / "bank.parquet") as path:
        pyarrow.parquet.write_table(written, path)
    with replacing(folder / "bank.json") as path:
        path.write_text(json.dumps({"version": VERSION, **facts}, indent=2, ensure_ascii=False) + "\n", "utf-8")


def load(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """`bank.json` and the columns of `bank.parquet`: numbers as floats (NaN: missing) or integers, texts as objects."""
    facts = load_facts(folder)
    try:
        read = pyarrow.parquet.read_table(folder / "bank.parquet", memory_map=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise BankError(f"{folder / 'bank.parquet'} is missing or damaged ({_first(error)}): scan again") from None
    if set(COLUMNS) - set(read.column_names):
        missing = ", ".join(sorted(set(COLUMNS) - set(read.column_names)))
        raise BankError(f"{folder / 'bank.parquet'} lacks the columns {missing}: scan again")
    columns: dict[str, NDArray[Any]] = {}
    for name, kind in COLUMNS.items():
        values = read.column(name)
        if kind == _REAL:
            columns[name] = np.array(values.to_numpy(), dtype=np.float64)
        elif kind == _WHOLE:
            columns[name] = np.array(values.fill_null(0).to_numpy(), dtype=np.int64)
        else:
            columns[name] = np.array([*values.to_pylist(), None], dtype=object)[:-1]
    for file, bytes_each, ends in (
        (facts["audio"], 2, columns["offset"] + facts["channels"] * columns["frames"]),
        (facts["tracks"], 4, columns["track_offset"] + 2 * columns["track_frames"]),
    ):
        path, needed = folder / file, int(ends.max(initial=0)) * bytes_each
        there = path.stat().st_size if path.is_file() else 0
        if there < needed:
            raise BankError(f"{path} has {there} bytes of the {needed} that the table needs: scan again")
    return facts, columns


def load_facts(folder: Path) -> dict[str, Any]:
    """`bank.json`, refused where there is none or it is from another version."""
    path = folder / "bank.json"
    try:
        facts = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BankError(f"{folder} is not a bank: make one with soundloom scan FOLDER -o {folder}") from None
    except (OSError, ValueError) as error:
        raise BankError(f"{path} cannot be read ({_first(error)}): scan again") from None
    version = facts.get("version") if isinstance(facts, dict) else None
    if version != VERSION:
        raise BankError(f"{folder} is a bank of version {version}, this Soundloom reads {VERSION}: scan again")
    wanted = {"kind", "sample_rate", "channels", "label_rule", "name_pitch_offset_semitones", "labels"}
    missing = sorted((wanted | {"audio", "tracks"}) - set(facts))
    if missing:
        raise BankError(f"{path} lacks {', '.join(missing)}: scan again")
    return dict(facts)


def mapped(path: Path, kind: DTypeLike) -> NDArray[Any]:
    """A file as a read-only array that the system pages in and out as it is needed."""
    if not path.is_file() or os.path.getsize(path) == 0:
        return np.zeros(0, kind)
    whole = os.path.getsize(path) // np.dtype(kind).itemsize
    return np.memmap(path, kind, mode="r", shape=(whole,))


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value  # NaN is no measurement


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
