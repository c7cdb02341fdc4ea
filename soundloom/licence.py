"""What the sounds' makers allow: the licence that lies beside them, kept with the bank and named by a model's card."""

import re
from pathlib import Path

from soundloom.paths import replacing

_NAMES = ("license", "licence", "copying")
_SPEAKS = re.compile(r"licen[cs]e|\bCC[ -]?(0|BY)\b|public domain|copyright|all rights reserved", re.IGNORECASE)
_HEADING = re.compile(r"(the )?(licen[cs]es?|copyright)( and \w+)?:?", re.IGNORECASE)
_MOST = 100_000  # characters


def copy(source: Path, bank: Path) -> str | None:
    """Keeps the licence of a folder of sounds as `LICENSE` in its bank; returns its name, None where there is none.

    A file LICENSE, LICENCE or COPYING is kept whole; of a README, the lines that speak of a licence.
    """
    text = _text(source)
    if text is None:
        return None
    with replacing(bank / "LICENSE") as part:
        part.write_text(text, encoding="utf-8")
    return name(bank)


def name(folder: Path) -> str | None:
    """The first line of the licence that lies in a folder, which is its name: CC0, CC BY 4.0 …"""
    lines = [line.strip() for line in (_text(folder) or "").splitlines()]
    return next((line for line in lines if line), None)


def _text(folder: Path) -> str | None:
    """What the files say, those that are called a licence first; None where no file speaks of one."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    for path in files:
        if path.stem.lower() in _NAMES and (text := _read(path).strip()):
            return text + "\n"
    for path in files:
        if path.stem.lower() == "readme" and (lines := _spoken(_read(path))):
            return "\n".join(lines) + "\n"
    return None


def _spoken(text: str) -> list[str]:
    """The lines of a README that speak of a licence; of a heading that says no more than the word, the line below."""
    plain = [line.strip(" \t#*=-_>|") for line in text.splitlines()]
    plain = [line for line in plain if line]
    spoken: list[str] = []
    for line, before in zip(plain, ["", *plain], strict=False):
        says_it = bool(_SPEAKS.search(line)) and not _HEADING.fullmatch(line)
        if says_it or _HEADING.fullmatch(before):
            spoken.append(line)
    return spoken


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:_MOST]
    except OSError:
        return ""  # a file that may not be read says nothing
