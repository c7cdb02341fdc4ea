"""From a folder of sounds to a bank: what is new is read, what was read before is kept, what fails has its reason."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundloom import audio, bankpage, concluding, finding, licence, measuring, table
from soundloom.audio import AudioInfo
from soundloom.concluding import Rules
from soundloom.errors import AudioError, BankError
from soundloom.finding import Found
from soundloom.journal import Journal, Row, open_journal
from soundloom.measuring import Clip
from soundloom.paths import make_folder

SAMPLE_RATE = 44100  # or the highest rate of the sources, where all are lower
_NO_LICENCE = "No licence lies beside the sounds: a text file LICENSE among them would be named by every model."
_PENDING_S, _PENDING = 60.0, 256  # audio and clips that wait to be measured together


def scan(
    folder: Path, out: Path, *, rules: Rules, channels: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Fills the bank folder `out`. See `SoundBank.scan`."""
    if channels not in (1, 2):
        raise BankError(f"a bank has 1 or 2 channels, not {channels}")
    if not folder.exists():
        raise BankError(f"{folder} does not exist: give the folder that your sounds are in")
    found = list(finding.find(folder, skip=out))
    if not found:
        raise BankError(f"no audio files in {folder}: looked for {', '.join(sorted(audio.SUFFIXES))}, also below it")
    sources = {one.name: _info(one) for one in found}
    rates = [info.sample_rate for info in sources.values() if isinstance(info, AudioInfo)]
    if not rates:
        raise BankError(f"no readable audio in {folder}: {_why(found, sources)}")
    out = make_folder(out)
    with open_journal(out, sample_rate=min(SAMPLE_RATE, max(rates)), channels=channels) as journal:
        rows = _rows(found, sources, journal, progress)
        journal.save()
        clips = [row for row in rows if row.get("reason") is None]
        if not clips:
            raise BankError(f"no usable audio in {folder}: {rows[0]['path']}: {rows[0]['reason']}")
        concluded = concluding.conclude(
            rows,
            audio=table.mapped(out / journal.audio_name, np.int16),
            sample_rate=journal.sample_rate,
            channels=channels,
            rules=rules,
            edits=out / "edits.csv",
        )
        names = {"audio": journal.audio_name, "tracks": journal.tracks_name}
        allowed = licence.copy(folder if folder.is_dir() else folder.parent, out)
        said = f"The licence beside the sounds, which models will name: {allowed}." if allowed else _NO_LICENCE
        concluded = dataclasses.replace(concluded, facts={**concluded.facts, **names}, notes=(*concluded.notes, said))
        table.save(out, concluded.facts, ({**row, "fingerprint": _bytes(row)} for row in concluded.rows))
        concluding.write_edits_header(out / "edits.csv")
        bankpage.write(out, source=folder.resolve().name, concluded=concluded)
        journal.remove()


def _info(found: Found) -> AudioInfo | str:
    """What the file says of itself, or why it cannot be read."""
    if found.reason:
        return found.reason
    try:
        return audio.info(found.path)
    except AudioError as error:
        return str(error)


def _why(found: list[Found], sources: dict[str, AudioInfo | str]) -> str:
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0].name}: {sources[found[0].name]}{others}"


def _bytes(row: Row) -> bytes | None:
    return bytes.fromhex(row["fingerprint"]) if row.get("fingerprint") else None


def _rows(
    found: list[Found],
    sources: dict[str, AudioInfo | str],
    journal: Journal,
    progress: Callable[[int, int], None] | None,
) -> list[Row]:
    """The rows of all files: those that are known, and those that are read now."""
    rows: list[Row] = []
    waiting: list[Clip | Found] = []  # a file stands after its last clip: then it is done
    by_hash = {part[0]["file_hash"]: part for part in journal.known.values() if part and part[0].get("file_hash")}
    hashes: dict[str, str] = {}
    seconds = 0.0  # of the clips that wait

    def add(row: Row, samples: NDArray[np.int16], track: NDArray[np.float32]) -> None:
        row["file_hash"] = hashes[row["path"]]
        journal.add(row, samples, track)
        rows.append(row)

    def measure() -> None:
        clips = [one for one in waiting if isinstance(one, Clip)]
        measuring.measure(clips, sample_rate=journal.sample_rate, add=add)
        for one in waiting:
            if isinstance(one, Found):
                journal.done((one.name, one.size, one.mtime_ns))
        waiting.clear()

    for i, one in enumerate(found):
        if progress:
            progress(i, len(found))
        info, key = sources[one.name], (one.name, one.size, one.mtime_ns)
        if isinstance(info, str):
            rows.append(measuring.left_out(one, info))
            continue
        if key in journal.known:
            rows += journal.known[key]
            continue
        try:
            hashes[one.name] = one.hash()
        except OSError as error:
            rows.append(measuring.left_out(one, error.strerror or str(error), info))
            continue
        same = by_hash.get(hashes[one.name])
        if same is not None:
            for old in same:
                row = {**old, "path": one.name, "file_size": one.size, "file_mtime_ns": one.mtime_ns}
                row["section"] = (old.get("section") or "").replace(old["path"], one.name, 1)
                journal.note(row)
                rows.append(row)
            journal.done(key)
            continue
        begun = journal.partial.get(key, [])
        rows += begun
        starts = frozenset(row["start_s"] for row in begun)
        for clip in measuring.clips(
            one, info, sample_rate=journal.sample_rate, channels=journal.channels, known=starts
        ):
            if isinstance(clip, Clip):
                waiting.append(clip)
                seconds += clip.prepared.samples.shape[1] / journal.sample_rate
                if seconds > _PENDING_S or len(waiting) >= _PENDING:
                    measure()
                    seconds = 0.0
                continue
            clip["file_hash"] = hashes[one.name]
            if clip not in begun:
                journal.note(clip)
                rows.append(clip)
        waiting.append(one)
    measure()
    if progress:
        progress(len(found), len(found))
    return rows
