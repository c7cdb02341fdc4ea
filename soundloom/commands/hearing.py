"""What listens: tag, describe, similar, map."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from soundloom.commands.flags import ON, On, app, quoted
from soundloom.terminal import counted


@app.command(sort_key=1.2)
def tag(
    *paths: Path,
    write: Annotated[bool, Parameter(help="Write labels into a bank, for sounds that have none.")] = False,
    replace: Annotated[bool, Parameter(help="With --write: instead of the labels that the scan found, too.")] = False,
    on: On = ON,
) -> None:
    """Say what sounds are: label, how sure that is, and pitch.

    With `--write`, the labels go into the bank, into its edits.csv and its table: those of sounds without one; with
    `--replace`, also instead of labels from folders, names or a CSV file. Never over one that you wrote into edits.csv.

    Parameters
    ----------
    paths
        Sounds, folders of sounds, or banks. If the first is a folder made by `soundloom train --family classifier`,
        that model listens; otherwise the ear that comes with Soundloom.
    """
    from soundloom.bank import SoundBank
    from soundloom.ears import Ear
    from soundloom.errors import AudioError, BankError
    from soundloom.hearing import hear_bank, hear_files
    from soundloom.tagging import Tag, write_labels

    run = paths[0] if paths and (paths[0] / "config.json").is_file() else None
    sounds = paths if run is None else paths[1:]
    if not sounds:
        raise AudioError("there is nothing to tag: name sounds, folders of sounds or a bank")
    banks = {path: SoundBank.load(path) for path in sounds if (path / "bank.json").is_file()}
    for path in sounds:
        if write and path not in banks:
            raise BankError(
                f"--write writes into banks, and {path} is none: make one with soundloom scan {path} -o BANK"
            )
    terminal = on.terminal()
    rows: list[dict[str, Any]] = []
    refused: list[tuple[Path, str]] = []
    said: list[str] = []
    with terminal.only_document(), terminal.bar("listening") as bar:
        ear = Ear.bundled(device=on.device) if run is None else Ear.load(run, device=on.device)
        for path in sounds:
            if path not in banks:
                for one in hear_files([path], ear, progress=counted(bar)):
                    if one.heard is None:
                        refused.append((one.path, one.reason or ""))
                    else:
                        rows.append(_tagged(str(one.path), one.heard))
                continue
            bank = banks[path]
            heard = hear_bank(bank, ear, progress=counted(bar)).heard
            clips = list(zip(bank.column("path"), bank.column("start_s"), heard, strict=True))
            rows += [_tagged(name, one) for name, _, one in clips]
            if write:
                tags = [Tag(name, start, one.label) for name, start, one in clips if one.label]
                done = write_labels(path, tags, replace=replace)
                said.append(
                    f"{path}: {done.written} labels written to edits.csv and in force, {done.renamed} of them instead "
                    f"of another; {done.kept} left as they were (--replace writes over those from names and folders); "
                    f"{sum(one.label is None for one in heard)} unknown, left as they were; "
                    "report.html shows them after the next scan"
                )
    if not rows:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        why = f"{refused[0][0]}: {refused[0][1]}{more}" if refused else f"no audio files in {sounds[0]}"
        raise AudioError(f"no sound can be read: {why}")
    terminal.say(_table(rows))
    for name, reason in refused:
        terminal.say(f"left out: {name}: {reason}")
    for words in said:
        terminal.say(words)
    terminal.document(rows)


@app.command(sort_key=1.4)
def describe(file: Path, /, *, on: On = ON) -> None:
    """Say in a sentence what a sound is like; of a recording longer than 6 s also its tempo, key and parts.

    Parameters
    ----------
    file
        Any audio file; of a longer one the first ten minutes are heard.
    """
    from soundloom import audio, describing
    from soundloom.describing import LONGEST_S, Judgement
    from soundloom.ears import Ear

    terminal = on.terminal()
    with terminal.only_document():
        whole_s, sound = audio.info(file).seconds, audio.read(file, seconds=LONGEST_S)
        (heard,) = Ear.bundled(device=on.device).hear([describing.ready(sound)[0]])
        opinion = Judgement(heard.label, heard.confidence, heard.pitch, heard.pitch_confidence)
        description = describing.describe(sound, opinion)
    terminal.say(description.sentence)
    if whole_s > LONGEST_S:
        terminal.say(f"only the first {LONGEST_S / 60:.0f} minutes of {whole_s / 60:.1f} were heard")
    heard_s = min(whole_s, LONGEST_S)
    terminal.document({"path": file, "file_seconds": whole_s, "heard_seconds": heard_s, **description.document()})


@app.command(sort_key=1.6)
def similar(
    file: Path,
    bank: Path,
    /,
    *,
    count: Annotated[int, Parameter(name=["-n", "--count"])] = 10,
    on: On = ON,
) -> None:
    """Find the sounds of a bank that are most like another one.

    Parameters
    ----------
    file
        Any audio file, of the bank's own too: it is not named as similar to itself.
    bank
        A folder made by `soundloom scan`.
    count
        How many.
    """
    from soundloom import atlas, describing
    from soundloom.bank import SoundBank
    from soundloom.ears import Ear
    from soundloom.hearing import hear_bank
    from soundloom.similar import similar_to

    terminal = on.terminal()
    with terminal.only_document(), terminal.bar("listening") as bar:
        sounds, sound = SoundBank.load(bank), describing.read_ready(file)
        ear = Ear.bundled(device=on.device)
        hearing = hear_bank(sounds, ear, progress=counted(bar))
        own = blake2b(file.read_bytes(), digest_size=16).hexdigest()
        others = [i for i, known in enumerate(sounds.column("file_hash")) if known != own]
        found = similar_to(ear.hear([sound])[0].embedding, hearing.embedding, others, count=count)
    names = atlas.names(sounds, [clip for clip, _ in found])
    rows = [
        {
            "id": str(sounds.column("hash")[clip]),
            "clip": clip,
            "path": sounds.column("path")[clip],
            "start_s": float(sounds.column("start_s")[clip]),
            "label": sounds.column("label")[clip],
            "similarity": likeness,
        }
        for clip, likeness in found
    ]
    terminal.say("\n".join(f"{row['similarity']:6.3f}  {name}" for row, name in zip(rows, names, strict=True)))
    terminal.document({"file": file, "bank": bank, "ear": hearing.ear, "sounds": rows})


@app.command(name="map", sort_key=1.8)
def map_(bank: Path, /, *, method: Literal["pca", "tsne"] = "pca", on: On = ON) -> None:
    """Draw a map of a bank, on which sounds that are alike lie together: map.html, map.svg and map.json in its folder.

    Parameters
    ----------
    bank
        A folder made by `soundloom scan`.
    method
        pca: the same every time, distances kept as far as they can be; tsne: neighbours kept together, by
        scikit-learn (pip install 'soundloom[analysis]').
    """
    from soundloom import atlas, atlaspage
    from soundloom.bank import SoundBank
    from soundloom.ears import Ear
    from soundloom.hearing import hear_bank

    terminal = on.terminal()
    with terminal.only_document(), terminal.bar("listening") as bar:
        sounds = SoundBank.load(bank)
        hearing = hear_bank(sounds, Ear.bundled(device=on.device), progress=counted(bar))
        drawn = atlas.draw_map(sounds, hearing, method=method)
        document = atlas.save(sounds, drawn)
        atlaspage.write(sounds, drawn)
    left = f"; {len(drawn.unplaced)} could not be placed" if drawn.unplaced else ""
    terminal.say(f"{len(drawn.clips)} sounds on the map{left}\npage: {quoted(bank / 'map.html')}")
    terminal.document({"bank": bank, "page": bank / "map.html", "picture": bank / "map.svg", **document})


def _tagged(path: str, heard: Any) -> dict[str, Any]:
    return {"path": path, "label": heard.label, "confidence": round(heard.confidence, 4), "pitch": heard.pitch}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """For people: what is unknown is a dash."""
    from soundloom.score import pitch_name

    cells = [("sound", "label", "sure", "pitch")] + [
        (
            row["path"],
            row["label"] or "–",
            f"{row['confidence']:.0%}",
            "–" if row["pitch"] is None else pitch_name(row["pitch"]),
        )
        for row in rows
    ]
    width = [max(len(line[i]) for line in cells) for i in range(4)]
    return "\n".join(
        "  ".join(
            (text.rjust if i == 2 else text.ljust)(size) for i, (text, size) in enumerate(zip(line, width, strict=True))
        ).rstrip()
        for line in cells
    )
