"""What only the whole bank can tell: its kind, what names mean, duplicates, the split; and a person's corrections."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom import duplicates, naming
from soundloom.caption import caption
from soundloom.errors import BankError, ScoreError
from soundloom.naming import NamedPitches
from soundloom.paths import replacing
from soundloom.score import parse_pitch

Row = dict[str, Any]
SPLITS = ("train", "validation", "test")
EDITS = ("label", "pitch", "velocity", "split", "leave_out")
HEARD = "heard"  # what an ear has written as the label: while the two agree, it is no person's
COLUMNS = ("start_s", *EDITS, HEARD)


@dataclass(frozen=True)
class Rules:
    """What a person says about the files: where labels come from, and tables of labels and splits (CSV)."""

    label_from: str | None = None
    labels: Path | str | None = None
    split: Path | str | None = None


@dataclass(frozen=True)
class Conclusion:
    """The rows as they go into the table, kept ones first, the facts of `bank.json`, and sentences for the report."""

    rows: list[Row]
    facts: dict[str, Any]
    notes: tuple[str, ...]


def conclude(
    rows: Sequence[Row],
    *,
    audio: NDArray[np.int16],
    sample_rate: int,
    channels: int,
    rules: Rules,
    edits: Path,
) -> Conclusion:
    """Completes the rows of a scan. `BankError` where a table that a person wrote does not fit."""
    corrections = _read_edits(edits)
    rows = [dict(row) for row in rows]
    notes: list[str] = []
    for row in rows:
        if row.get("reason") is None and _correction(corrections, row).get("leave_out"):
            row["reason"] = "left out by edits.csv"
    kept = sorted((row for row in rows if row.get("reason") is None), key=lambda row: (row["path"], row["start_s"]))
    out = sorted((r for r in rows if r.get("reason") is not None), key=lambda r: (r["path"], r.get("start_s") or 0.0))
    paths = [row["path"] for row in kept]

    pitches = naming.find_pitches(paths, _numbers(kept, "measured_pitch"))
    velocities = naming.find_velocities(paths, pitches)
    notes += _pitched(kept, pitches)
    used = [
        [span for spans in (pitches and pitches.spans, velocities and velocities.spans) if spans and (span := spans[i])]
        for i in range(len(kept))
    ]
    label_rule = _label(kept, rules, used)
    for i, row in enumerate(kept):
        spoken = velocities.velocity[i] if velocities else np.nan
        row["velocity"] = float(spoken) if np.isfinite(spoken) else None
    if velocities:
        notes.append(f"Velocities come from the names: {velocities.rule}.")
    notes.append(
        "No labels were found in folders or names; --label-from or --labels gives them."
        if label_rule == "none"
        else f"Labels are taken by the rule '{label_rule}'; --label-from changes it."
    )
    _edit(kept, corrections)
    notes += _grouped(kept, audio, channels, sample_rate)
    notes += _split(kept, rules, corrections)
    for row in kept:
        row["caption"] = in_words(row)
    kind, why = _kind(kept)
    facts = {
        "kind": kind,
        "sample_rate": sample_rate,
        "channels": channels,
        "label_rule": label_rule,
        "name_pitch_offset_semitones": pitches.offset if pitches else None,
        "labels": sorted({row["label"] for row in kept if row["label"] is not None}),
        "clips": len(kept),
        "hash": blake2b("".join(sorted(row["hash"] for row in kept)).encode(), digest_size=16).hexdigest(),
    }
    return Conclusion(kept + out, facts, (why, *notes))


def write_edits_header(path: Path) -> None:
    """An empty table of corrections to fill in, unless a person has begun one."""
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(",".join(("path", "start_s", *EDITS)) + "\n", "utf-8")


def _pitched(kept: Sequence[Row], pitches: NamedPitches | None) -> list[str]:
    """Pitches, measured and put right by the names."""
    measured = _numbers(kept, "measured_pitch")
    for row, pitch in zip(kept, measured, strict=True):
        row["pitch"], row["track_ratio"], row["name_pitch"] = float(pitch), 1.0, None
    if pitches is None:
        return []
    factor = naming.correction(measured, pitches.pitch + pitches.offset)
    for i, row in enumerate(kept):
        row["name_pitch"] = float(pitches.pitch[i]) if np.isfinite(pitches.pitch[i]) else None
        row["track_ratio"] = float(factor[i])
        row["pitch"] = float(measured[i] + 12 * np.log2(factor[i]))
    notes = [f"Notes in the names: {pitches.rule}; they explain {pitches.agreement:.0%} of the measured pitches."]
    if pitches.offset:
        octaves = f" ({pitches.offset / 12:+g} octaves)" if pitches.offset % 12 == 0 else ""
        notes.append(
            f"The sounds are {pitches.offset:+g} semitones{octaves} from the notes in their names. "
            "The measured pitch is used."
        )
    wrong = int(np.sum(factor != 1))
    if wrong:
        notes.append(f"{wrong} measured pitches missed by octaves or twelfths and were put right by the names.")
    return notes


def _label(kept: Sequence[Row], rules: Rules, used: Sequence[Sequence[naming.Span]]) -> str:
    paths = [row["path"] for row in kept]
    rule, labels = naming.find_labels(paths, label_from=rules.label_from, used=used)
    if rules.labels is not None:
        given = _by_path(Path(rules.labels), "label", paths)
        if rules.label_from is None:
            rule, labels = "none", [None] * len(paths)
        labels = [given.get(path, label) for path, label in zip(paths, labels, strict=True)]
        rest = "" if rule == "none" else f", the others by {rule}"
        rule = f"{Path(rules.labels).name} ({sum(path in given for path in paths)} of {len(paths)} clips){rest}"
    for row, label in zip(kept, labels, strict=True):
        row["label"] = label or None
    return rule


def _by_path(table: Path, column: str, paths: Sequence[str]) -> dict[str, str]:
    given = {row["path"]: row[column] for row in naming.read_csv(table, needed=("path", column))}
    if not given.keys() & set(paths):
        raise BankError(f"{table} names none of the {len(set(paths))} files: write their paths, as '{paths[0]}'")
    return given


def _edit(kept: Sequence[Row], corrections: dict[tuple[str, float | None], Row]) -> None:
    for row in kept:
        change = _correction(corrections, row)
        row["label"] = change.get("label", row["label"])
        row["velocity"] = change.get("velocity", row["velocity"])
        if "pitch" in change:
            measured = row["measured_pitch"]
            row["pitch"], row["track_ratio"] = change["pitch"], 0.0
            if np.isfinite(change["pitch"]) and measured is not None:
                away = change["pitch"] - measured
                factor = float(naming.correction(np.array([measured]), np.array([change["pitch"]]))[0])
                row["track_ratio"] = factor if factor != 1 else 2.0 ** round(away / 12)


def _grouped(kept: Sequence[Row], audio: NDArray[np.int16], channels: int, sample_rate: int) -> list[str]:
    """Near-duplicates: which clip is the same as an earlier one."""

    def mono(i: int) -> NDArray[np.float32]:
        start, frames = kept[i]["offset"], kept[i]["frames"]
        stored = audio[start : start + channels * frames].reshape(channels, frames)[:, :sample_rate]
        return np.asarray(stored.mean(axis=0, dtype=np.float32))

    groups = duplicates.group(
        [row["hash"] for row in kept], [bytes.fromhex(row["fingerprint"]) for row in kept], mono, rate=sample_rate
    )
    for i, (row, first) in enumerate(zip(kept, groups.tolist(), strict=True)):
        row["group"] = first
        row["duplicate_of"] = kept[first]["path"] if first != i else None
    same = int(np.sum(groups != np.arange(len(kept))))
    return [f"{same} clips are the same sound as another; each such group is in one split and drawn as one."] * (
        same > 0
    )


def _split(kept: Sequence[Row], rules: Rules, corrections: dict[tuple[str, float | None], Row]) -> list[str]:
    """What shares audio stays together: duplicates, and the overlapping pieces of one section of a long file."""
    section_of: dict[str, int] = {}
    parent = {row["group"]: row["group"] for row in kept}

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for row in kept:
        if row["cut"] == "piece":
            first = section_of.setdefault(row["section"], row["group"])
            parent[root(row["group"])] = root(first)
    together: dict[int, list[Row]] = {}
    for row in kept:
        together.setdefault(root(row["group"]), []).append(row)
    members = list(together.values())
    splits = duplicates.split([[row["hash"] for row in rows] for rows in members])
    given = {} if rules.split is None else _by_path(Path(rules.split), "split", [row["path"] for row in kept])
    for path, name in given.items():
        _check_split(name, f"{rules.split}, {path}")
    torn = 0
    for rows, name in zip(members, splits, strict=True):
        said = {_correction(corrections, row).get("split", given.get(row["path"])) for row in rows} - {None}
        torn += len(said) > 1
        # What a person holds back stays held back, whatever else is the same sound.
        chosen = next((s for s in reversed(SPLITS) if s in said), name)
        for row in rows:
            row["split"] = chosen
    counts = Counter(row["split"] for row in kept)
    notes = ["Split by content: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS) + "."]
    if torn:
        notes.append(f"{torn} groups of the same sound were given several splits: they went to the one held back most.")
    return notes


def _kind(kept: Sequence[Row]) -> tuple[str, str]:
    """What the bank is, and why."""
    seconds = sum(row["seconds"] for row in kept)
    pieces = sum(row["seconds"] for row in kept if row["cut"] == "piece")
    if pieces > seconds / 2:
        return "long", f"Long audio: {pieces / seconds:.0%} of the time is from recordings cut into overlapping pieces."
    steady = [row for row in kept if np.isfinite(row["pitch"]) and (row["steadiness"] or 0) > 0.8]
    different = len({round(row["pitch"]) for row in steady})
    part = f"{len(steady)} of {len(kept)} clips hold one pitch, {different} different ones"
    if len(steady) >= 0.6 * len(kept) and different >= 3:
        return "notes", f"Notes: {part}."
    return "one-shots", f"One-shots: {part}."


def in_words(row: Row) -> str:
    """The caption of a row."""

    def number(name: str) -> float:
        return float("nan") if row[name] is None else float(row[name])

    names = ("pitch", "seconds", "brightness_hz", "noisiness", "attack_s", "decay_s")
    return caption(label=row["label"], **{name: number(name) for name in names})


def _numbers(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _correction(corrections: dict[tuple[str, float | None], Row], row: Row) -> Row:
    exact = (row["path"], round(row["start_s"], 2))
    return {**corrections.get((row["path"], None), {}), **corrections.get(exact, {})}


def _read_edits(path: Path) -> dict[tuple[str, float | None], Row]:
    """A person's corrections by path and start (None: all clips of the file). An empty cell leaves what was found."""
    found: dict[tuple[str, float | None], Row] = {}
    if not path.exists():
        return found
    for i, row in enumerate(naming.read_csv(path, needed=("path",), known=COLUMNS)):
        where = f"{path}, entry {i + 1} ({row['path']})"
        change: Row = {}
        try:
            start = round(float(row["start_s"]), 2) if row.get("start_s") else None
            if row.get("velocity"):
                change["velocity"] = float(row["velocity"])
            if row.get("pitch"):
                change["pitch"] = float("nan") if row["pitch"].lower() == "none" else parse_pitch(row["pitch"])
        except ScoreError as error:
            raise BankError(f"{where}: {error}; write none for a sound without pitch") from None
        except ValueError as error:
            raise BankError(f"{where}: {error}: start_s and velocity are numbers") from None
        if not 0 <= change.get("velocity", 0.0) <= 1:
            raise BankError(f"{where}: the velocity is {change['velocity']:g}: it goes from 0 to 1")
        if row.get("label"):
            change["label"] = row["label"]
        if row.get("split"):
            change["split"] = _check_split(row["split"], where)
        if row.get("leave_out", "").lower() not in ("", "no", "0", "false"):
            change["leave_out"] = True
        found[row["path"], start] = change
    return found


def _check_split(name: str, where: str) -> str:
    if name not in SPLITS:
        raise BankError(f"{where}: the split is '{name}': it must be {', '.join(SPLITS[:2])} or {SPLITS[2]}")
    return name
