"""Which files of a folder may be sounds, and why the others cannot be read: links, pipes, permissions, loops."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soundloom.audio import SUFFIXES


@dataclass(frozen=True)
class Found:
    """A file that looks like a sound. `name` is its path from the scanned folder, with /; `reason`: why it is none."""

    name: str
    path: Path
    size: int = 0
    mtime_ns: int = 0
    reason: str | None = None

    def hash(self) -> str:
        """Of the file's bytes: tells whether a file that was touched, moved or renamed is still the same."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def find(folder: Path, *, skip: Path) -> Iterator[Found]:
    """Every file in `folder` with the suffix of a sound, in the order of its names; nothing below `skip`.

    Links are followed, each folder once.
    """
    if folder.is_file():
        yield _found(folder.parent, folder)
        return
    yield from _walk(folder, folder, skip.resolve(), {_identity(folder)})


def _walk(root: Path, folder: Path, skip: Path, seen: set[tuple[int, int]]) -> Iterator[Found]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield Found(_name(root, folder) + "/", folder, reason=f"the folder cannot be read: {error.strerror}")
        return
    for name in names:
        path = folder / name
        if os.path.isdir(path):
            if path.resolve() == skip:
                continue
            identity = _identity(path)
            if identity in seen:
                yield Found(_name(root, path) + "/", path, reason="a link to a folder that is scanned already")
                continue
            seen.add(identity)
            yield from _walk(root, path, skip, seen)
        elif path.suffix.lower() in SUFFIXES:
            yield _found(root, path)


def _found(root: Path, path: Path) -> Found:
    name = _name(root, path)
    if path.name.startswith("."):
        return Found(name, path, reason="a hidden file")  # ._kick.wav is what macOS leaves beside kick.wav
    try:
        facts = os.stat(path)
    except OSError as error:
        return Found(name, path, reason=error.strerror or str(error))
    if not stat.S_ISREG(facts.st_mode):
        return Found(name, path, reason="not a regular file")
    return Found(name, path, facts.st_size, facts.st_mtime_ns)


def _identity(path: Path) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def _name(root: Path, path: Path) -> str:
    """From `root`, with /. A name that is no UTF-8 is shown with escapes: a table of texts cannot hold it."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")
