"""The bundled ear on real recordings it was not trained on

Drum machines against a truth table made from their file names before any training (benchmarks/truth). "Looked at" are
the four machines on which versions of the ear were compared while it was made, as they were on every third piano note;
the other five were judged once, at the end. 95 % intervals are Wilson's, in brackets. "Right" leaves the threshold
aside: the likeliest label; "said" is how many got a label at all, "right of those said" how many of them a true one.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from soundloom.audio import Waveform, read
from soundloom.ears import Ear, Heard
from soundloom.figures import share_interval

TRUTH = Path(__file__).parent / "truth" / "drum_machines.csv"
LOOKED_AT = ("808-mini", "Casio-RZ1", "MFB-512", "Yamaha-MR10")
DRUMS = 11  # the first labels of the bundled ear
ONE_SHOTS = {  # what the names of these files say of them; the others name no kind
    "bd": ("kick",), "sn": ("snare",), "drum_bass": ("kick",), "drum_heavy": ("kick",), "drum_cowbell": ("cowbell",),
    "drum_cymbal_closed": ("closed hat",), "drum_cymbal_pedal": ("closed hat",), "drum_cymbal_open": ("open hat",),
    "drum_cymbal_hard": ("cymbal",), "drum_cymbal_soft": ("cymbal",), "drum_snare": ("snare",), "drum_tom": ("tom",),
    "ride": ("cymbal",), "hat": ("closed hat", "open hat"), "tabla": ("hand drum",), "bass": ("bass",),
    "guit": ("guitar",),
}  # fmt: skip


def main() -> list[dict]:
    common.one_thread()
    ear = Ear.bundled()
    return [*drum_machines(ear), *one_shots(ear), keyboards(ear), speech(ear), speed(ear)]


def drum_machines(ear: Ear) -> list[dict]:
    with TRUTH.open() as file:
        truth = {row["path"]: (row["kind"],) for row in csv.DictReader(file)}
    folder = common.sounds("drum-machines")
    heard = dict(zip(truth, ear.hear([read(folder / path) for path in truth]), strict=True))
    seen = [path for path in truth if path.split("/")[0] in LOOKED_AT]
    rows = [
        _row("drum machines, kind", ear, heard, truth) | {"target right": 0.8},
        _row("drum machines looked at while making it", ear, {p: heard[p] for p in seen}, truth),
        _row("drum machines never looked at", ear, {p: heard[p] for p in truth if p not in seen}, truth),
    ]
    kinds = sorted({kind for kinds in truth.values() for kind in kinds})
    return rows + [_row(f"… {k}", ear, {p: heard[p] for p in truth if k in truth[p]}, truth) for k in kinds]


def one_shot_kinds() -> dict[str, tuple[str, ...]]:
    """What each of the one-shots is whose name tells: one of these kinds."""
    found = {}
    for path in sorted(common.sounds("one-shots").glob("*.flac")):
        kinds = [kinds for start, kinds in ONE_SHOTS.items() if path.stem.startswith(start + "_")]
        if kinds:
            found[path.name] = kinds[-1]
    return found


def one_shots(ear: Ear) -> list[dict]:
    truth = one_shot_kinds()
    heard = _hear(ear, common.sounds("one-shots"), list(truth))
    return [_row("one-shots whose name tells a kind", ear, heard, truth)]


def keyboards(ear: Ear) -> dict:
    names = [path.name for path in sorted(common.sounds("piano").glob("*.flac"))]
    heard = _hear(ear, common.sounds("piano"), names)
    return _row("piano as keyboard", ear, heard, dict.fromkeys(names, ("keyboard",))) | {"target right": 0.95}


def speech(ear: Ear, *, every: int = 9) -> dict:
    names = [path.name for path in sorted(common.sounds("spoken-digits").glob("*.wav"))][::every]
    heard = _hear(ear, common.sounds("spoken-digits"), names)
    row = _row("spoken digits as speech", ear, heard, dict.fromkeys(names, ("speech",)))
    drums = sum(h.label in ear.labels[:DRUMS] for h in heard.values())
    return row | {"called a drum": f"{drums} of {len(names)}"}


def speed(ear: Ear) -> dict:
    rng = np.random.default_rng(0)
    sounds = [Waveform(rng.standard_normal((1, 44100)).astype(np.float32) * 0.1, 44100) for _ in range(100)]
    return {"what": "embedding 1000 clips of a second at 44.1 kHz",
            "CPU-s": 10 * common.cpu_seconds(lambda: ear.embed(sounds), repeats=3), "target CPU-s": 10}  # fmt: skip


def _hear(ear: Ear, folder: Path, names: Sequence[str]) -> dict[str, Heard]:
    return dict(zip(names, ear.hear([read(folder / name) for name in names]), strict=True))


def _row(what: str, ear: Ear, heard: dict[str, Heard], truth: dict[str, tuple[str, ...]]) -> dict:
    likeliest = {path: ear.labels[int(np.argmax(h.chances))] for path, h in heard.items()}
    right = sum(likeliest[path] in truth[path] for path in heard)
    said = [path for path, h in heard.items() if h.label is not None]
    good = sum(heard[path].label in truth[path] for path in said)
    low, high = share_interval(right, len(heard))
    of_said = f"{good / len(said):.3f}" if said else "-"
    return {"what": what, "sounds": len(heard), "right": f"{right / len(heard):.3f} [{low:.2f}, {high:.2f}]",
            "said": f"{len(said) / len(heard):.2f}", "right of those said": of_said}  # fmt: skip
