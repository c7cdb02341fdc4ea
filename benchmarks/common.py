"""What the benchmarks share: one thread, CPU-seconds, the machine's own speed beside every figure, tables."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

THREADS = 1
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, str(THREADS))  # before torch, numpy and numba load

import soundloom  # noqa: E402, F401  (sets OMP_WAIT_POLICY)


class Missing(Exception):
    """A benchmark cannot run here; the text says what it needs."""


def sounds(name: str = "") -> Path:
    """The folder of real recordings that `SOUNDLOOM_SOUNDS` names, or one of its folders."""
    folder = os.environ.get("SOUNDLOOM_SOUNDS")
    if not folder or not (Path(folder) / name).is_dir():
        raise Missing(
            f"needs the recordings in {name or 'a folder'}: set SOUNDLOOM_SOUNDS to the folder that holds them"
        )
    return Path(folder) / name


def one_thread() -> None:
    """Torch on one thread: figures are per core."""
    import torch

    torch.set_num_threads(THREADS)


def cpu_seconds(work: Callable[[], object], *, repeats: int = 5, warm_up: int = 1) -> float:
    """The median CPU time of `work` in seconds, over all threads of this process; other programs do not count."""
    for _ in range(warm_up):
        work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def gemm_gflops(size: int = 1024, *, dtype: str = "float32") -> float:
    """Billions of operations a CPU-second in a square matrix product: how fast this machine is right now."""
    import torch

    one_thread()
    a, b = (torch.randn(size, size, dtype=getattr(torch, dtype)) for _ in range(2))
    return 2e-9 * size**3 / cpu_seconds(lambda: a @ b, repeats=9, warm_up=2)


def machine() -> str:
    """One line: processor, cores, system, Python and torch."""
    import torch

    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line.split(":", 1)[1].strip() for line in listing.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every key of every row, in the order of first sight."""
    return list(dict.fromkeys(key for row in rows for key in row))


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table in Markdown."""
    keys = columns(rows)
    lines = [keys, ["---"] * len(keys), *([cell(row.get(key)) for key in keys] for row in rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "/") for text in line) + " |" for line in lines)


def print_table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """Rows as a table in the terminal, columns aligned."""
    keys = columns(rows)
    lines = [keys, *([cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keys))]
    if title:
        print(f"\n{title}")
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
