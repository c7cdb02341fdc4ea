"""What it costs to start

`import soundloom` alone, the help of a command, and the first use of torch, each in a fresh process.
"""

import resource
import statistics
import subprocess
import sys

CASES = {
    "import soundloom": "import soundloom",
    "soundloom sample --help": "from soundloom import cli; cli.run(['sample', '--help'])",
    "import soundloom, then all of its names": "import soundloom as sl; [getattr(sl, name) for name in sl.__all__]",
}


def child_cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> list[dict]:
    empty = statistics.median(child_cpu_seconds("pass") for _ in range(5))
    return [
        {
            "what": name,
            "CPU-seconds": statistics.median(child_cpu_seconds(code) for _ in range(5)) - empty,
            "target": 0.3 if code == "import soundloom" else None,
        }
        for name, code in CASES.items()
    ]
