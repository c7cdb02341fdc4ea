"""What a run tells: `log.jsonl`, TensorBoard where it is wanted, and progress for whoever watches."""

import importlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundloom.errors import StorageError, TrainingError
from soundloom.paths import replacing


@dataclass(frozen=True)
class Progress:
    """Where a run is, given to the `progress` callback after every step and before every longer pause.

    `doing` is "measuring", "training", "validating", "previewing", "saving" or "finished". `eta_s` is 0 while it is
    not known. `audio_s_per_s` are seconds of sound trained on per second of the clock. `verdict` is the doctor's.
    """

    doing: str
    step: int
    steps: int
    elapsed_s: float
    eta_s: float
    audio_s_per_s: float
    losses: Mapping[str, float]
    score: float | None
    verdict: str = ""


class Log:
    """`log.jsonl`, one JSON object a line: `{"step", "kind", "elapsed_s", "losses": {...}}`.

    The kinds are "train", "validation", "doctor" (the vitals, with a "verdict" and its "words") and "broke" (a loss
    that became NaN, in "words"). Opened at a step, it drops the lines past that step, which a killed process wrote
    after its last save.
    """

    def __init__(self, path: Path, *, step: int, tensorboard: bool = False) -> None:
        lines = [line for line in read_log(path) if line["step"] <= step] if step else []
        with replacing(path) as part:
            part.write_text("".join(_line(line) for line in lines), encoding="utf-8")
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (held open for the run, closed by `close`)
        self._board = _board(path.parent / "tensorboard", step) if tensorboard else None

    def write(
        self,
        step: int,
        kind: str,
        losses: Mapping[str, float],
        *,
        elapsed_s: float,
        said: Mapping[str, str] | None = None,
    ) -> None:
        shown = {name: value if math.isfinite(value) else None for name, value in losses.items()}
        line = {"step": step, "kind": kind, "elapsed_s": round(elapsed_s, 3), "losses": shown, **(said or {})}
        try:
            self._file.write(_line(line))
            self._file.flush()
        except OSError as error:
            raise StorageError(f"cannot write {self._file.name}: {error.strerror}; free some space") from None
        if self._board:
            for name, value in shown.items():
                if value is not None:
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Down to the disk, so that after a power cut too the log reaches as far as the saved state."""
        os.fsync(self._file.fileno())
        if self._board:
            self._board.flush()

    def close(self) -> None:
        self._file.close()
        if self._board:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl`; a last line cut short by a kill is left out, a missing file has none."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def curves(lines: Sequence[Mapping[str, Any]], kind: str) -> dict[str, list[tuple[float, float]]]:
    """The (step, value) of each loss in the lines of a kind; what was not finite is not."""
    lines = [line for line in lines if line["kind"] == kind]
    names = dict.fromkeys(name for line in lines for name in line["losses"])
    return {
        name: [(line["step"], line["losses"][name]) for line in lines if line["losses"].get(name) is not None]
        for name in names
    }


class Means:
    """Running means of named losses between two lines of the log; part of the saved state, so that a resumed run
    writes the same lines."""

    def __init__(self, sums: Mapping[str, list[float]]) -> None:
        self.sums = {name: list(pair) for name, pair in sums.items()}

    def add(self, losses: Mapping[str, float], weight: float = 1.0) -> None:
        for name, value in losses.items():
            pair = self.sums.setdefault(name, [0.0, 0.0])
            pair[0] += value * weight
            pair[1] += weight

    def take(self) -> dict[str, float]:
        means = {name: total / weight for name, (total, weight) in self.sums.items()}
        self.sums = {}
        return means


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


def _board(folder: Path, step: int) -> Any:
    try:
        module = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        raise TrainingError("TensorBoard is not installed: pip install 'soundloom[tensorboard]'") from None
    return module.SummaryWriter(str(folder), purge_step=step + 1)
