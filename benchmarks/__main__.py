"""Runs benchmarks, each in a process of its own, and writes docs/benchmarks.json and docs/benchmarks.md."""

import importlib
import json
import pkgutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import benchmarks
from benchmarks import common

DOCS = Path(__file__).parent.parent / "docs"
SHARED = {"__main__", "common"}


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in SHARED)


def run_here(name: str, out: Path) -> None:
    """Runs one benchmark in this process; the matrix product's rate is measured before and after, the median kept."""
    module = importlib.import_module(f"benchmarks.{name}")
    common.one_thread()
    before, start, cpu = common.gemm_gflops(), time.monotonic(), time.process_time()
    result: dict = {"title": (module.__doc__ or name).strip(), "machine": common.machine()}
    try:
        result["rows"] = module.main()
    except common.Missing as missing:
        result["missing"] = str(missing)
    result |= {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.monotonic() - start}
    result["gemm_gflops"] = (before + common.gemm_gflops()) / 2
    out.write_text(json.dumps(result))


def run(name: str) -> dict:
    """Runs one benchmark in a fresh process, so that memory and caches of one never colour another."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        done = subprocess.run([sys.executable, "-m", "benchmarks", "--here", name, str(out)], check=False)
        if done.returncode:
            return {"title": name, "failed": f"ended with {done.returncode}"}
        return json.loads(out.read_text())


def page(results: dict[str, dict]) -> str:
    """docs/benchmarks.md, all of it from docs/benchmarks.json."""
    lines = [
        "# Figures",
        "",
        "Written by `make bench`; do not edit. Every figure is per core: one thread, CPU-seconds, default settings.",
        "The speed of a matrix product (GEMM, float32, 1024 × 1024), measured in the same process, stands below each",
        "table: divide by it to compare machines.",
    ]
    for name, result in sorted(results.items()):
        title, _, more = result["title"].partition("\n")
        lines += ["", f"## {title}", "", f"`python -m benchmarks {name}`"]
        if more.strip():
            lines += ["", *[line.strip() for line in more.strip().splitlines()]]
        if "rows" in result:
            lines += ["", common.markdown(result["rows"])]
            lines += ["", f"{result['machine']}; GEMM {result['gemm_gflops']:.0f} GFLOP/s; "
                      f"{result['cpu_seconds']:.0f} CPU-seconds in all."]  # fmt: skip
        else:
            lines += ["", f"Not run: {result.get('missing') or result['failed']}."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--here"]:
        run_here(arguments[1], Path(arguments[2]))
        return 0
    unknown = set(arguments) - set(names())
    if unknown:
        print(f"error: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    kept = DOCS / "benchmarks.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    results = {name: result for name, result in results.items() if name in names()}
    failed = False
    for name in arguments or names():
        new = run(name)
        failed |= "failed" in new
        if "rows" in new:
            common.print_table(new["rows"], title=f"{name}  (GEMM {new['gemm_gflops']:.0f} GFLOP/s)")
            print(json.dumps(new["rows"]))
        else:
            print(f"{name}: not run: {new.get('missing') or new['failed']}", file=sys.stderr)
        if "rows" in new or "rows" not in results.get(name, {}):  # a run that could not be made keeps older figures
            results[name] = new
        kept.write_text(json.dumps(results, indent=1) + "\n")
        (DOCS / "benchmarks.md").write_text(page(results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
