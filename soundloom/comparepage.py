"""A comparison on paper: `compare.json` with everything, `compare.md` with the table, `report.html` with players."""

import itertools
import json
from pathlib import Path

from soundloom.audio import Waveform
from soundloom.compare import Comparison
from soundloom.draw import Report
from soundloom.figures import number
from soundloom.paths import make_folder, replacing
from soundloom.terminal import plain

LONGEST_S = 6.0  # of a sound are on the page
REAL = (
    "Real sounds: what held-out ones score, where there are 20 or more, and in brackets two halves of the training "
    "sounds against each other; of a distance 19 in 20 halves stay below that. A family is good when it comes near. "
    "Brackets beside a figure hold the true value about 19 times in 20."
)
PLACES = "Empty cells are figures that could not be measured; the reasons stand below."


def write(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Writes all three; returns where they are."""
    folder = make_folder(folder)
    paths = {"json": folder / "compare.json", "table": folder / "compare.md", "page": folder / "report.html"}
    with replacing(paths["json"]) as part:
        part.write_text(json.dumps(plain(comparison.document()), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(paths["table"]) as part:
        part.write_text(markdown(comparison), encoding="utf-8")
    _page(comparison).save(paths["page"])
    return paths


def markdown(comparison: Comparison) -> str:
    """The table and what there is to say of it."""
    rows = [_head(comparison), *_rows(comparison)]
    table = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    table.insert(1, f"|{'---|' * len(rows[0])}")
    said = [f"- {who}: {_cell(words)}" for who, words in (*comparison.missing(), *comparison.verdicts())]
    return "\n".join([f"# {_title(comparison)}", "", comparison.budget_words(), "", *table, "", REAL, "", *said, ""])


def _title(comparison: Comparison) -> str:
    return f"Which family for {comparison.bank.folder.resolve().name}?"


def _head(comparison: Comparison) -> list[str]:
    return ["", *(entry.family for entry in comparison.judged), "real sounds", "what it says"]


def _rows(comparison: Comparison) -> list[list[str]]:
    """The lines, and above the first of each group its name."""
    rows: list[list[str]] = []
    for group, lines in itertools.groupby(comparison.lines(), key=lambda line: line.group):
        rows.append([group.upper(), *[""] * (len(comparison.judged) + 2)])
        rows += [[line.title, *line.texts(), line.real, line.help] for line in lines]
    return rows


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _page(comparison: Comparison) -> Report:
    contest, judged = comparison.contest, comparison.judged
    names = ", ".join(entry.family for entry in comparison.entries)
    page = Report(_title(comparison), f"{names}: {contest.budget} each")
    page.text(comparison.budget_words())
    page.section("In figures")
    if judged:
        page.table(_head(comparison), _rows(comparison))
        page.text(f"{REAL} {PLACES}" if comparison.missing() else REAL)
    if comparison.missing():
        page.section("What could not be measured")
        page.table(["family", "why"], [list(pair) for pair in comparison.missing()])
    if judged:
        page.section("What the figures say")
        page.table(["family", ""], [list(pair) for pair in comparison.verdicts()])
        _players(page, comparison)
    page.section("How they were trained")
    page.table(["family", "preset", "run", "steps", "minutes", "CPU-minutes", "the doctor says"], _runs(comparison))
    return page


def _players(page: Report, comparison: Comparison) -> None:
    page.section("To hear")
    page.text("All are asked for the same, after a real sound of the bank, which stands beside them.")
    for i, asked in enumerate(comparison.asked):
        page.text(asked.words)
        page.sound(f"real: {asked.path}", _cut(asked.real), note="held out" if asked.held_out else "trained on")
        for entry in comparison.judged:
            page.sound(entry.family, _cut(entry.sounds[i]))


def _runs(comparison: Comparison) -> list[list[str | float]]:
    rows: list[list[str | float]] = []
    for entry in comparison.entries:
        preset = entry.recipe.preset.name if entry.recipe.preset else "none"
        for i, result in enumerate(entry.trained):
            run = "its codec" if entry.recipe.codec_first and i == 0 else "itself"
            times = [number(seconds / 60) for seconds in (result.elapsed_s, result.cpu_s)]
            rows.append([entry.family, preset, run, result.step, *times, result.findings[0].name])
    return rows


def _cut(sound: Waveform) -> Waveform:
    return Waveform(sound.samples[:, : int(LONGEST_S * sound.sample_rate)], sound.sample_rate)
