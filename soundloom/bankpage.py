"""`report.html` of a bank: what was found, what was left out and why, how it sounds."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soundloom import table
from soundloom.audio import Waveform
from soundloom.concluding import SPLITS, Conclusion
from soundloom.draw import Report, histogram_svg, scatter_svg
from soundloom.score import pitch_name

Row = dict[str, Any]
_SHOWN_SOUNDS, _SHOWN_ROWS, _SHOWN_S = 12, 300, 8.0


def write(folder: Path, *, source: str, concluded: Conclusion) -> None:
    rows, facts = concluded.rows, concluded.facts
    kept = [row for row in rows if row.get("reason") is None]
    out = [row for row in rows if row.get("reason") is not None]
    minutes = sum(row["seconds"] for row in kept) / 60
    page = Report(
        f"Bank: {source}",
        f"{len(kept)} clips, {minutes:.1f} minutes at {facts['sample_rate']} Hz, {facts['channels']} channel(s); "
        f"{len(out)} left out",
    )
    page.section("What it is")
    for note in concluded.notes:
        page.text(note)
    _labels(page, kept)
    _figures(page, kept)
    page.section("Sounds")
    for row in _examples(kept):
        pitch = pitch_name(row["pitch"]) if np.isfinite(row["pitch"]) else "no pitch"
        page.sound(row["path"], _audio(folder, facts, row), note=f"{row['caption']} ({pitch}, {row['split']})")
    same = [row for row in kept if row["duplicate_of"] is not None]
    if same:
        page.section("The same sound twice")
        page.table(["clip", "same as"], [[row["path"], row["duplicate_of"]] for row in same[:_SHOWN_ROWS]])
    wrong = [row for row in kept if row["track_ratio"] != 1.0]
    if wrong:
        page.section("Pitches put right")
        page.table(
            ["clip", "measured", "used"],
            [[r["path"], _pitch(r["measured_pitch"]), _pitch(r["pitch"])] for r in wrong[:_SHOWN_ROWS]],
        )
    cut = [row for row in kept if row["cut"] != "whole"]
    if cut:
        page.section("Long recordings")
        words = {"onset": "at onsets", "piece": "into overlapping pieces"}
        counts = Counter((row["path"], row["cut"]) for row in cut)
        page.table(["file", "cut", "clips"], [[path, words[how], n] for (path, how), n in counts.items()])
    page.section("Left out")
    if out:
        page.table(["file", "why"], [[row["path"], row["reason"]] for row in out[:_SHOWN_ROWS]])
        if len(out) > _SHOWN_ROWS:
            page.text(f"… and {len(out) - _SHOWN_ROWS} more: all are in bank.parquet.")
    else:
        page.text("Nothing: every file is in the bank.")
    page.section("Corrections")
    page.text(
        "Write them into edits.csv, one line a clip (an empty start_s means all clips of a file), and scan again."
    )
    page.save(folder / "report.html")


def _labels(page: Report, kept: Sequence[Row]) -> None:
    counts = Counter((row["label"] or "–", row["split"]) for row in kept)
    labels = sorted({label for label, _ in counts}, key=lambda name: (-sum(counts[name, s] for s in SPLITS), name))
    rows: list[list[str | float]] = [[label, *(counts[label, split] for split in SPLITS)] for label in labels]
    page.table(["label", *SPLITS], rows[:_SHOWN_ROWS])


def _figures(page: Report, kept: Sequence[Row]) -> None:
    for name, words, label in (
        ("seconds", "Length of the clips", "seconds"),
        ("pitch", "Pitch", "MIDI number"),
        ("loudness_lufs", "Loudness in the files", "LUFS"),
        ("brightness_hz", "Brightness", "Hz"),
    ):
        values = [row[name] for row in kept if row[name] is not None and np.isfinite(row[name])]
        if len(values) > 1:
            page.figure(histogram_svg(values, title=words, x_label=label))
    step = -(-len(kept) // 1000)
    shown = [row for row in kept[::step] if row["brightness_hz"] is not None and row["noisiness"] is not None]
    page.figure(
        scatter_svg(
            [(float(np.log2(max(row["brightness_hz"], 1.0))), row["noisiness"]) for row in shown],
            groups=[row["label"] or "–" for row in shown],
            names=[row["path"] for row in shown],
            title="Brightness (octaves above 1 Hz) and noisiness",
        ),
        caption="Each dot a clip, dark to bright from left to right, tones below and noise above",
    )


def _examples(kept: Sequence[Row]) -> list[Row]:
    """A few sounds, the labels taking turns."""
    turns: Counter[str] = Counter()
    order = []
    for i, row in enumerate(kept):
        label = row["label"] or ""
        order.append((turns[label], i))
        turns[label] += 1
    if len(turns) == 1:  # nothing to take turns: spread over the bank
        return list(kept[:: -(-len(kept) // _SHOWN_SOUNDS)])
    return [kept[i] for _, i in sorted(order)[:_SHOWN_SOUNDS]]


def _audio(folder: Path, facts: dict[str, Any], row: Row) -> Waveform:
    channels = facts["channels"]
    stored = table.mapped(folder / facts["audio"], np.int16)[row["offset"] :][: channels * row["frames"]]
    samples = stored.reshape(channels, row["frames"])[:, : int(_SHOWN_S * facts["sample_rate"])]
    return Waveform(samples.astype(np.float32) / np.float32(32767), facts["sample_rate"])


def _pitch(pitch: float | None) -> str:
    return "–" if pitch is None or not np.isfinite(pitch) else f"{pitch_name(pitch)} ({pitch:.2f})"
