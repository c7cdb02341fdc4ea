"""What an ear makes of every sound of a bank, kept beside it: heard once, and again only what is new."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from soundloom import finding
from soundloom.audio import Waveform
from soundloom.bank import SoundBank
from soundloom.describing import read_ready
from soundloom.ears import Ear, Heard
from soundloom.errors import AudioError
from soundloom.paths import replacing

FILE = "ears.parquet"
VERSION = 1  # of how an ear uses its weights: a new one makes every bank be heard again
AT_ONCE = 128  # sounds between two savings: a kill loses seconds
AT_ONCE_S = 300.0  # of files are in memory

_TEXT, _REAL, _LIST = pyarrow.string(), pyarrow.float64(), pyarrow.list_(pyarrow.float32())
_SCHEMA = {
    "hash": _TEXT,
    "label": _TEXT,
    "confidence": _REAL,
    "pitch": _REAL,
    "pitch_confidence": _REAL,
    "tonal": _REAL,
    "chances": _LIST,
    "embedding": _LIST,
}


@dataclass(frozen=True, eq=False)
class Hearing:
    """What an ear makes of N sounds: row i belongs to sound i."""

    ear: str
    heard: tuple[Heard, ...]

    def __len__(self) -> int:
        return len(self.heard)

    @property
    def embedding(self) -> NDArray[np.float32]:
        """Where each sound lies, [N, E]; NaN where the ear could not place it."""
        return np.stack([one.embedding for one in self.heard]).astype(np.float32)


def hear_bank(bank: SoundBank, ear: Ear, *, progress: Callable[[int, int], None] | None = None) -> Hearing:
    """Every clip as this ear hears it. What it heard before is read from `ears.parquet` in the bank's folder.

    Clips are known by their audio, and the ear by its weights: another ear hears everything anew. What is no longer in
    the bank is forgotten.
    """
    who = identity(ear)
    hashes = [str(value) for value in bank.column("hash")]
    kept = _load(bank.folder / FILE, who)
    known = {value: kept[value] for value in hashes if value in kept}
    fresh = list({value: i for i, value in reversed(list(enumerate(hashes))) if value not in known}.items())
    for start in range(0, len(fresh), AT_ONCE):
        some = fresh[start : start + AT_ONCE]
        opinions = ear.hear([bank.audio(i) for _, i in some])
        known.update({value: opinion for (value, _), opinion in zip(some, opinions, strict=True)})
        _save(bank.folder / FILE, who, known)
        if progress:
            progress(min(start + AT_ONCE, len(fresh)), len(fresh))
    return Hearing(who, tuple(known[value] for value in hashes))


@dataclass(frozen=True, eq=False)
class HeardFile:
    """A file and what an ear makes of it, or the reason why it cannot be heard."""

    path: Path
    heard: Heard | None
    reason: str | None = None


def hear_files(
    paths: Sequence[Path], ear: Ear, *, progress: Callable[[int, int], None] | None = None
) -> list[HeardFile]:
    """Every sound among files and folders, in order. What cannot be read has its reason, and the rest goes on."""
    files = [one for path in paths for one in _files(path)]
    results: list[HeardFile] = []
    waiting: list[tuple[Path, Waveform]] = []

    def hear() -> None:
        for (path, _), opinion in zip(waiting, ear.hear([sound for _, sound in waiting]), strict=True):
            results.append(HeardFile(path, opinion))
        waiting.clear()

    for done, one in enumerate(files):
        if one.reason is None:
            try:
                waiting.append((one.path, read_ready(one.path)))
            except AudioError as error:
                results.append(HeardFile(one.path, None, str(error)))
        else:
            results.append(HeardFile(one.path, None, one.reason))
        if len(waiting) >= AT_ONCE or sum(sound.seconds for _, sound in waiting) > AT_ONCE_S:
            hear()
        if progress:
            progress(done + 1, len(files))
    hear()
    order = {one.path: i for i, one in enumerate(files)}
    return sorted(results, key=lambda result: order[result.path])


def _files(path: Path) -> list[finding.Found]:
    """The sounds of a folder, or a file, whatever its suffix: who names it means it."""
    if path.is_dir():
        return list(finding.find(path, skip=path / ".none"))
    return [finding.Found(path.name, path)]


def identity(ear: Ear) -> str:
    """The ear's name, and a digest of its labels, its weights and `VERSION`: tells two ears of one name apart."""
    digest = blake2b("\n".join((str(VERSION), *ear.labels)).encode(), digest_size=8)
    for _, weights in sorted(ear.model.state_dict().items()):
        digest.update(weights.cpu().numpy().tobytes())
    return f"{ear.name} {digest.hexdigest()}"


def _save(path: Path, who: str, known: dict[str, Heard]) -> None:
    rows: list[dict[str, Any]] = [
        {**{name: getattr(one, name) for name in _SCHEMA if name != "hash"}, "hash": value}
        for value, one in known.items()
    ]
    columns = {name: [row[name] for row in rows] for name in _SCHEMA}
    schema = pyarrow.schema(list(_SCHEMA.items()), metadata={"ear": who})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), temporary)


def _load(path: Path, who: str) -> dict[str, Heard]:
    """What this ear has heard before, by the hash of the clip; nothing where the file is another ear's, or damaged."""
    try:
        read = pyarrow.parquet.read_table(path, memory_map=False)
    except (OSError, pyarrow.ArrowException):
        return {}
    if (read.schema.metadata or {}).get(b"ear", b"").decode() != who or set(_SCHEMA) != set(read.column_names):
        return {}
    known = {}
    for row in read.to_pylist():
        value = row.pop("hash")
        row["chances"], row["embedding"] = tuple(row["chances"]), np.array(row["embedding"], np.float32)
        known[value] = Heard(**row)
    return known
