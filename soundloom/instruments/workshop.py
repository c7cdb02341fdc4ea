"""A process of its own, in which models run: what they do there never holds up who plays.

    player ──tell──▶ queue ──▶ thread ──pipe──▶ workshop, one thread, low priority
    player ◀─arrived─ queue ◀── thread ◀──pipe── sounds

Nothing that the player calls waits. Messages are a line of JSON and the bytes of an array: no pickle, and nothing of
the caller's program is run again. The workshop ends with its player, however that ends; when it ends by itself the
player hears of it, and why.
"""

import contextlib
import importlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import soundloom
from soundloom.errors import SoundloomError

NICENESS = 5  # what is made ahead may take its time, what is waited for should not take too long
PATIENCE_S = 2.0  # for a workshop that was told to end
FRAME = struct.Struct("<II")  # bytes of the line of JSON, and of the array
MOST = 1 << 28  # bytes of a message
NOTHING = np.zeros(0, np.float32)
CALL = "from soundloom.instruments.workshop import open_up; open_up()"

Message = tuple[dict[str, Any], NDArray[np.float32]]


class Workshop:
    """`job` is a function by its module and name, "soundloom.instruments.neural:serve", which the process calls with
    `settings` and its `Bench`. Start it again after it broke down, as often as you like."""

    def __init__(self, job: str, settings: Mapping[str, Any], *, niceness: int = NICENESS) -> None:
        self.job, self.settings, self.niceness = job, dict(settings), niceness
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._made: deque[Message] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._finish: weakref.finalize[[subprocess.Popen[bytes]], Workshop] | None = None
        self._news: dict[str, str] = {}

    def start(self) -> None:
        """Returns at once; the workshop is ready some seconds later, when its libraries and the model are loaded."""
        self.close()
        self._orders, self._made, self._news = queue.SimpleQueue(), deque(), {}
        here = str(Path(soundloom.__file__).parent.parent)
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (what it says on its way out; `_reads` closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", CALL],  # -P: no module is taken from the folder it was started in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=os.environ | one | {"PYTHONPATH": path},
            bufsize=0,
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0) if self.niceness else 0,
        )
        self._finish = weakref.finalize(self, _end, self._process)
        self.tell({"job": self.job, "settings": self.settings, "niceness": self.niceness})
        # The threads know nothing of this object, so that one that is forgotten ends its process.
        threading.Thread(target=_writes, args=(self._process, self._orders), daemon=True).start()
        threading.Thread(target=_reads, args=(self._process, self._made, words, self._news), daemon=True).start()

    def close(self) -> None:
        """Ends the process, if there is one, within `PATIENCE_S`."""
        self._orders.put(None)
        if self._finish is not None:
            self._finish()
        self._process = self._finish = None

    @property
    def running(self) -> bool:
        return self._process is not None and "trouble" not in self._news

    @property
    def trouble(self) -> str:
        """Why the process is no longer there, in a sentence; empty where all is well, or where it was closed."""
        return self._news.get("trouble", "") if self._process is not None else ""

    @property
    def ready(self) -> str | None:
        """What it said when all was loaded (`Bench.ready`); None: it is not yet so far."""
        return self._news.get("ready")

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def tell(self, message: dict[str, Any]) -> None:
        self._orders.put(message)

    def arrived(self) -> list[Message]:
        """What has come since it was asked last, in order."""
        found = []
        while self._made:
            found.append(self._made.popleft())
        return found


class Bench:
    """The workshop's side: what it is told, and where it hands out what it made."""

    def __init__(self, told: IO[bytes], out: IO[bytes]) -> None:
        self._told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._out = out
        threading.Thread(target=self._listens, args=(told,), daemon=True).start()

    def next(self, *, wait: bool) -> dict[str, Any] | None:
        """The next message; None where there is none and it is not waited for."""
        with contextlib.suppress(queue.Empty):
            return self._told.get(block=wait)
        return None

    def ready(self, word: str) -> None:
        """All is loaded: from now on there is no more to be waited for than the work itself."""
        self.send({"ready": word})

    def send(self, message: dict[str, Any], sound: NDArray[np.float32] = NOTHING) -> None:
        _write(self._out, message, sound)

    def _listens(self, told: IO[bytes]) -> None:
        while (message := _read(told)) is not None:
            self._told.put(message[0])
        os._exit(0)  # the player is gone: whatever is being made, nobody will hear it


def open_up() -> None:
    """What the process does. Its standard output is the way to the player, so what else is printed goes to stderr."""
    told, out = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the player decides what an interrupt ends
    first = _read(told)
    if first is None:
        return
    if hasattr(os, "nice"):
        os.nice(first[0]["niceness"])
    module, _, name = first[0]["job"].partition(":")
    try:
        getattr(importlib.import_module(module), name)(first[0]["settings"], Bench(told, out))
    except SoundloomError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _write(out: IO[bytes], message: dict[str, Any], sound: NDArray[np.float32] = NOTHING) -> None:
    line, data = json.dumps(message).encode(), np.ascontiguousarray(sound, "<f4").tobytes()
    rest = memoryview(FRAME.pack(len(line), len(data)) + line + data)
    while rest:
        rest = rest[out.write(rest) :]
    out.flush()


def _read(file: IO[bytes]) -> Message | None:
    """The next message; None where there will be no more."""
    head = _exactly(file, FRAME.size)
    if head is None:
        return None
    sizes = FRAME.unpack(head)
    if sum(sizes) > MOST:
        return None
    line, data = (_exactly(file, size) for size in sizes)
    if line is None or data is None:
        return None
    return json.loads(line), np.frombuffer(data, np.float32)


def _exactly(file: IO[bytes], size: int) -> bytearray | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        some = file.readinto(view[at:])  # type: ignore[attr-defined]
        if not some:
            return None
        at += some
    return data


def _writes(process: "subprocess.Popen[bytes]", orders: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    assert process.stdin is not None
    while (message := orders.get()) is not None:
        try:
            _write(process.stdin, message)
        except (OSError, ValueError):  # it is gone, or was closed
            return


def _reads(process: "subprocess.Popen[bytes]", made: "deque[Message]", words: IO[bytes], news: dict[str, str]) -> None:
    """Until the process ends; then says why."""
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        while (message := _read(process.stdout)) is not None:
            if "ready" in message[0]:
                news["ready"] = message[0]["ready"]
            else:
                made.append(message)
    status = process.wait()
    words.seek(0)
    last = words.read().decode(errors="replace").strip().splitlines()[-1:]
    words.close()
    why = f"signal {-status}" if status < 0 else f"status {status}"
    news["trouble"] = f"the process that makes the sounds ended with {why}" + (f": {last[0]}" if last else "")


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
