"""Labels that an ear gives, written into a bank's corrections: what a person has written there stays as it is."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundloom import concluding, naming, table
from soundloom.concluding import EDITS, HEARD
from soundloom.errors import BankError
from soundloom.paths import replacing, sole_writer

Row = dict[str, str]


@dataclass(frozen=True)
class Tag:
    """A label for a clip: its file's path in the bank, where in the file it starts, and what it is."""

    path: str
    start_s: float
    label: str


@dataclass(frozen=True)
class Written:
    """How many clips have a new line in edits.csv, how many of them were called something else before, and how many
    were left as they were: a person's, or the scan's."""

    written: int
    renamed: int
    kept: int


def write_labels(bank: Path, tags: Sequence[Tag], *, replace: bool = False) -> Written:
    """Writes labels into the `edits.csv` of a bank, and into its table at once; its page follows with the next scan.

    A label that stands in `edits.csv` already, for the clip or for its whole file, is a person's and stays; but one
    that was written here, and not changed since, gives way: the column `heard` says what was written. Labels that the
    scan took from folders, names or a CSV file stay too, unless `replace`.
    """
    refusal = BankError(f"a scan is writing {bank}: wait for it")
    with sole_writer(bank, refusal=refusal):
        edits = bank / "edits.csv"
        rows = naming.read_csv(edits, needed=("path",), known=concluding.COLUMNS) if edits.exists() else []
        own = {(row["path"], _start(row)): row for row in rows}  # the last line on a clip counts
        new: dict[tuple[str, float], str] = {}
        kept = 0
        _, columns = table.load(bank)
        places = zip(columns["path"], columns["start_s"], columns["label"], strict=True)
        scanned = {(path, round(start, 2)): label for path, start, label in places if start is not None}
        for tag in tags:
            key = (tag.path, round(tag.start_s, 2))
            line, file = own.get(key), own.get((tag.path, None))
            if any(row and row.get("label") and row["label"] != row.get(HEARD) for row in (line, file)):
                kept += 1
                continue
            if not replace and scanned.get(key) is not None and not (line and line.get(HEARD) == scanned[key]):
                kept += 1
                continue
            new[key] = tag.label
            if line is None:
                line = {"path": tag.path, "start_s": f"{tag.start_s:g}"}
                rows.append(line)
            line["label"] = line[HEARD] = tag.label
        _write(edits, rows)
        return Written(len(new), _relabel(bank, new), kept)


def _start(row: Row) -> float | None:
    try:
        return round(float(row["start_s"]), 2) if row.get("start_s") else None
    except ValueError:
        raise BankError(f"edits.csv, {row['path']}: start_s is '{row['start_s']}': it is a number") from None


def _write(edits: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("path", "start_s", *EDITS, HEARD), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(edits) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")


def _relabel(bank: Path, new: dict[tuple[str, float], str]) -> int:
    """Puts labels into the table, with the captions and facts that follow from them; how many had another before."""
    facts, columns = table.load(bank)
    rows: list[dict[str, Any]] = [
        dict(zip(columns, values, strict=True))
        for values in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]
    kept, renamed = [row for row in rows if row["reason"] is None], 0
    for row in kept:
        label = new.get((row["path"], round(row["start_s"], 2)))
        if label is not None:
            renamed += row["label"] not in (None, label)
            row["label"] = label
            row["caption"] = concluding.in_words(row)
    facts["labels"] = sorted({row["label"] for row in kept if row["label"] is not None})
    table.save(bank, facts, rows)
    return renamed
