"""What plays a score into a file: render."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import soundloom
from soundloom.commands.flags import MAKING, Making, Out, app
from soundloom.paths import make_folder


@app.command(sort_key=7)
def render(
    score: str,
    /,
    *,
    out: Out,
    who: Annotated[list[str] | None, Parameter(name="--map")] = None,
    bpm: float = 120.0,
    sample_rate: int = 44100,
    lufs: Annotated[float, Parameter(allow_leading_hyphen=True)] = -16.0,
    stems: Path | None = None,
    making: Making = MAKING,
) -> None:
    """Play a MIDI file, or a phrase typed in, into an audio file: mixed in stereo, with a room, as loud as asked.

    A phrase: notes one after the other, `:` beats, `@` loudness, `[ ]` chords, `-` rests, as in
    "C4 E4:0.5 [C4 E4 G4]:2@0.5 -".

    Parameters
    ----------
    score
        A .mid file, or the phrase itself in quotes.
    out
        The audio file to write.
    who
        Who plays which channel, as in "0=my-run,1=patch:finger-bass,9=patch:drum-kit"; an entry without a number plays
        all channels that are not named. What is not said at all sounds as General MIDI has it. A player is a folder
        made by `soundloom train`, `patch:NAME`, a patch file, an engine such as `subtractive` or `pluck`, an .sfz or
        .sf2 file, or a folder of sounds. Knobs follow after commas, as in `subtractive,cutoff_hz=800`; labels too, as
        in `my-run,label=bass`. May be given several times.
    bpm
        The tempo of a typed phrase.
    lufs
        How loud the whole is made (integrated loudness, BS.1770); its true peaks stay below -1 dB.
    stems
        A folder that each part is written to by itself, and the room; together they are the mix before its master.
    """
    from soundloom.audio import written_as
    from soundloom.instruments.opening import Opener
    from soundloom.performing import arranged, cast, read_score
    from soundloom.render import perform

    terminal = making.terminal()
    written_as(out)  # what cannot be written is refused before it is played
    with terminal.only_document(), terminal.bar("render") as bar:
        notes, opener = read_score(score, bpm=bpm), Opener(seed=making.seed, device=making.device)
        players = arranged(notes, cast(who or [], opener), opener)
        folders = [make_folder(folder) for folder in (out.parent, stems) if folder is not None]
        made = perform(
            notes,
            players,
            sample_rate=sample_rate,
            seed=making.seed,
            lufs=lufs,
            stems=stems is not None,
            progress=lambda done, total: bar(done / max(total, 1e-9), f"{done:.0f} of {total:.0f} s"),
        )
        soundloom.write(folders[0] / out.name, made.sound)
        for name, stem in made.stems.items():
            soundloom.write(folders[1] / f"{name}.wav", stem, subtype="FLOAT")
    terminal.say(f"{made.sound.seconds:.2f} s in {out}, {made.loudness_lufs:.1f} LUFS")
    terminal.document(
        {
            "file": out,
            "seconds": made.sound.seconds,
            "sample_rate": made.sound.sample_rate,
            "loudness_lufs": made.loudness_lufs,
            "true_peak_db": made.true_peak_db,
            "gain_db": made.gain_db,
            "notes": len(notes.notes),
            "players": [player.name for player in players.players],
            "stems": sorted(made.stems),
        }
    )
