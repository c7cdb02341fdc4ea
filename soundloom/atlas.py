"""A map of a bank: sounds that are alike lie together, in a plane and in space."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from soundloom.bank import SoundBank
from soundloom.errors import BankError, ConfigError
from soundloom.hearing import Hearing
from soundloom.paths import replacing
from soundloom.similar import LEAST, Floats, Space, placed

Method = Literal["pca", "tsne"]
VERSION = 1


@dataclass(frozen=True, eq=False)
class Atlas:
    """Where N sounds lie: `plane` [N, 2] and `space` [N, 3], centred, the farthest at a distance of 1.

    `clips` [N] are their rows in the bank, `kept` [N] the labels they are drawn by; `explained` is the part of the
    embedding's variance that plane and space show (NaN where the method has no such figure); `unplaced` are clips that
    the ear could not place.
    """

    method: Method
    ear: str
    clips: NDArray[np.int64]
    labels: tuple[str | None, ...]
    plane: Floats
    space: Floats
    explained: tuple[float, float]
    unplaced: tuple[int, ...]

    def document(self, bank: SoundBank) -> dict[str, Any]:
        """What the studio reads: x, y, z in space, u, v in the plane."""
        paths, starts, hashes = (bank.column(name) for name in ("path", "start_s", "hash"))
        return {
            "version": VERSION,
            "method": self.method,
            "ear": self.ear,
            "explained_variance": {"plane": self.explained[0], "space": self.explained[1]},
            "sounds": [
                {
                    "id": str(hashes[clip]),
                    "clip": int(clip),
                    "path": paths[clip],
                    "start_s": float(starts[clip]),
                    "label": label,
                    **dict(zip("xyz", (round(float(v), 5) for v in self.space[i]), strict=True)),
                    **dict(zip("uv", (round(float(v), 5) for v in self.plane[i]), strict=True)),
                }
                for i, (clip, label) in enumerate(zip(self.clips.tolist(), self.labels, strict=True))
            ],
            "unplaced": [str(paths[clip]) for clip in self.unplaced],
        }


def draw_map(bank: SoundBank, hearing: Hearing, *, method: Method = "pca", seed: int = 0) -> Atlas:
    """The map of a bank from what an ear heard in it. Labels are the bank's, where it has some, else the ear's.

    `pca` keeps distances as far as two or three directions can, the same every time; `tsne` keeps neighbours together,
    at the price of the distances between groups (van der Maaten and Hinton, 2008; extra `soundloom[analysis]`).
    `BankError` where fewer than three sounds can be placed.
    """
    known = placed(hearing.embedding)
    clips = np.flatnonzero(known)
    if len(clips) < LEAST:
        raise BankError(
            f"{bank.folder} has {len(clips)} sounds that can be placed, of {len(hearing)}: a map takes {LEAST}; "
            "scan a folder with more sounds"
        )
    points = Space.of(hearing.embedding[clips]).points
    spread = principal(points, 3)
    if method == "pca":
        plane, space, explained = spread.points[:, :2], spread.points, (sum(spread.parts[:2]), sum(spread.parts))
    else:
        plane, space = (neighbours(points, dimensions=d, seed=seed) for d in (2, 3))
        explained = (float("nan"), float("nan"))
    own = bank.column("label")
    labelled = any(label is not None for label in own)
    labels = [own[i] if labelled else hearing.heard[i].label for i in clips]
    return Atlas(
        method=method,
        ear=hearing.ear,
        clips=clips.astype(np.int64),
        labels=tuple(labels),
        plane=_fitted(plane),
        space=_fitted(space),
        explained=explained,
        unplaced=tuple(np.flatnonzero(~known).tolist()),
    )


@dataclass(frozen=True, eq=False)
class Principal:
    """Points along their principal directions, [N, d], and the part of the variance that each direction has."""

    points: Floats
    parts: tuple[float, ...]


def principal(points: Floats, dimensions: int) -> Principal:
    """Principal component analysis of points [N, E] by singular values; missing directions are 0.

    The sign of a direction means nothing: it is such that the point farthest out along it is on the positive side.

    >>> found = principal(np.float32([[0, 0], [0, 0], [3, 4]]), 2)
    >>> [round(float(x), 2) for x in found.points[:, 0]], [round(part, 6) for part in found.parts]
    ([-1.67, -1.67, 3.33], [1.0, 0.0])
    """
    centred = torch.from_numpy(np.asarray(points, np.float64))
    centred = centred - centred.mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    made = np.zeros((len(points), dimensions))
    found = min(dimensions, len(values))
    made[:, :found] = (left[:, :found] * values[:found]).numpy()
    for column in made.T:
        column *= np.sign(column[np.abs(column).argmax()]) or 1.0
    total = max(float(values.square().sum()), 1e-12)
    parts = [float(value) ** 2 / total for value in values[:found]]
    return Principal(made.astype(np.float32), tuple(parts + [0.0] * (dimensions - found)))


def neighbours(points: Floats, *, dimensions: int, seed: int) -> Floats:
    """t-SNE of points [N, E], begun from their principal components: [N, dimensions]."""
    try:
        manifold: Any = importlib.import_module("sklearn.manifold")
    except ImportError:
        raise ConfigError("t-SNE needs an extra: pip install 'soundloom[analysis]', or take --method pca") from None
    made = manifold.TSNE(
        n_components=dimensions,
        perplexity=min(30.0, (len(points) - 1) / 3),
        init="pca" if points.shape[1] >= dimensions < len(points) else "random",
        random_state=seed,
    ).fit_transform(points)
    return np.asarray(made, np.float32)


def save(bank: SoundBank, atlas: Atlas) -> dict[str, Any]:
    """Keeps the map beside the bank, `map.json`, and returns what is in it."""
    document = atlas.document(bank)
    plain = {**document, "explained_variance": _finite(document["explained_variance"])}
    with replacing(bank.folder / "map.json") as path:
        path.write_text(json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n", "utf-8")
    return plain


def load(folder: Path) -> dict[str, Any]:
    """The map that `save` kept in a bank's folder."""
    try:
        document = json.loads((folder / "map.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise BankError(f"{folder} has no map: draw one with soundloom map {folder}") from None
    if document.get("version") != VERSION:
        raise BankError(f"{folder / 'map.json'} is of another version: draw it again with soundloom map {folder}")
    return dict(document)


def _fitted(points: Floats) -> Floats:
    """Centred, the farthest point at a distance of 1."""
    centred = points - points.mean(axis=0)
    farthest = float(np.linalg.norm(centred, axis=1).max())
    return np.asarray(centred / max(farthest, 1e-9), np.float32)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def names(bank: SoundBank, clips: Sequence[int]) -> list[str]:
    """What clips are called: the path, and where in a long file they start."""
    paths, starts, cut = (bank.column(name) for name in ("path", "start_s", "cut"))
    return [paths[i] if cut[i] == "whole" else f"{paths[i]} at {starts[i]:.1f} s" for i in clips]
