"""Where Soundloom keeps things, and how it writes them so that a crash never leaves half a file."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from soundloom.errors import SoundloomError, StorageError


def home() -> Path:
    """The user's library and caches: `SOUNDLOOM_HOME`, or a folder `.soundloom` in the home folder."""
    return Path(os.environ.get("SOUNDLOOM_HOME") or Path.home() / ".soundloom")


def make_folder(folder: Path | str) -> Path:
    """The folder, made if need be and really writable; refused with `StorageError` otherwise."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"cannot write into {folder}: {error.strerror or error}; choose another folder with -o"
        ) from None
    return folder


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path to write to; when the block ends well, it takes the place of `path` in one step, flushed to disk.

    A crash, a full disk or an error inside the block leaves the old `path` as it was and nothing else behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from None
    finally:
        with suppress(OSError):  # where its folder is none, there is nothing to clear away
            temporary.unlink(missing_ok=True)


@contextmanager
def sole_writer(*folders: Path, refusal: SoundloomError) -> Iterator[None]:
    """Keeps other processes out of the first folder for the length of the block, by raising `refusal` in them, and
    clears away what a killed one left half-written in any. The lock is the system's: it goes with its process,
    however that ends.
    """
    handle = os.open(folders[0], os.O_RDONLY) if os.name == "posix" else None
    try:
        if handle is not None:
            fcntl = importlib.import_module("fcntl")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise refusal from None
        for folder in folders:
            for part in folder.glob(".*.*.part"):
                part.unlink()
        yield
    finally:
        if handle is not None:
            os.close(handle)
