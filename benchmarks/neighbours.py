"""Which sounds lie together: the nearest neighbour in a small bank of real recordings

How often the most similar other sound is of the same kind, and what share of the five most similar ones. Kinds are
told by the names of the one-shots, and for the drum machines by a truth table. `soundloom similar` and `soundloom map`
go by the embedding alone. The rest was tried on the one-shots and was no clear gain: chances are the ear's for its
labels, descriptors are brightness, attack, decay, length and noisiness. 95 % intervals are Wilson's, in brackets.
"Other machine": the nearest among the sounds of other machines.
"""

import csv
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.hearing import TRUTH, one_shot_kinds
from soundloom.bank import SoundBank
from soundloom.ears import Ear
from soundloom.figures import share_interval
from soundloom.hearing import Hearing, hear_bank
from soundloom.similar import Space, nearest

Floats = NDArray[np.float32]
FIVE = 5


def main() -> list[dict]:
    common.one_thread()
    ear = Ear.bundled()
    with TRUTH.open() as file:
        machines = {row["path"]: (row["kind"],) for row in csv.DictReader(file)}
    rows = []
    for name, kinds in (("one-shots", one_shot_kinds()), ("drum-machines", machines)):
        with tempfile.TemporaryDirectory() as folder:
            bank = SoundBank.scan(common.sounds(name), Path(folder) / "bank")
            rows += compared(name, bank, hear_bank(bank, ear), kinds)
    return rows


def compared(name: str, bank: SoundBank, hearing: Hearing, kinds: dict[str, tuple[str, ...]]) -> list[dict]:
    """A row for each way of placing the sounds of a bank whose kinds are known."""
    paths = [str(path) for path in bank.column("path")]
    known = [i for i, path in enumerate(paths) if path in kinds]
    own = [set(kinds[paths[i]]) for i in known]
    alike = np.array([[i != j and bool(a & b) for j, b in enumerate(own)] for i, a in enumerate(own)])
    machine = np.array([paths[i].split("/")[0] for i in known])
    elsewhere = machine[:, None] != machine
    embedding, chances, described = (_even(x[known]) for x in (hearing.embedding, _log(hearing), _descriptors(bank)))
    ways = {
        "embedding": embedding,
        "chances": chances,
        "descriptors": described,
        "embedding + chances": np.hstack([embedding, chances]),
        "embedding + half of descriptors": np.hstack([embedding, 0.5 * described]),
    }
    return [
        {
            "bank": name,
            "by": way,
            "sounds": len(known),
            "first of the same kind": _first(points, alike, ~np.eye(len(known), dtype=bool)),
            "of the first five": _share(points, alike),
            "other machine": _first(points, alike, elsewhere) if name == "drum-machines" else None,
        }
        for way, points in ways.items()
    ]


def _even(features: Floats) -> Floats:
    """Each dimension with deviation 1 and all of them together with length 1 on average: no kind of feature is louder
    than another because it has more dimensions."""
    points = Space.of(features).points
    return points / np.sqrt(np.square(points).sum(1).mean())


def _log(hearing: Hearing) -> Floats:
    return np.log(np.array([one.chances for one in hearing.heard], np.float32) + 1e-3)


def _descriptors(bank: SoundBank) -> Floats:
    logs = [np.log(np.maximum(bank.column(name), 1e-4)) for name in ("brightness_hz", "attack_s", "decay_s", "seconds")]
    found = np.stack([*logs, bank.column("noisiness")], 1).astype(np.float32)
    return np.where(np.isfinite(found), found, np.nanmean(found, 0))


def _first(points: Floats, alike: NDArray[np.bool_], allowed: NDArray[np.bool_]) -> str:
    """How often the nearest of the allowed others is alike, of the sounds that have an allowed other that is."""
    right = asked = 0
    for i in np.flatnonzero((alike & allowed).any(1)):
        others = np.flatnonzero(allowed[i])
        [(best, _)] = nearest(points[i], points[others], count=1)
        asked, right = asked + 1, right + int(alike[i, others[best]])
    low, high = share_interval(right, asked)
    return f"{right / asked:.3f} [{low:.2f}, {high:.2f}]"


def _share(points: Floats, alike: NDArray[np.bool_]) -> float:
    """Of the five nearest others of every sound, the share that is alike."""
    found = [[j for j, _ in nearest(point, points, count=FIVE + 1) if j != i] for i, point in enumerate(points)]
    return float(np.mean([alike[i, near[:FIVE]].mean() for i, near in enumerate(found)]))


if __name__ == "__main__":
    common.print_table(main())
