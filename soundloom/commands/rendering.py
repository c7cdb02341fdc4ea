"""What plays a score into a file, and what there is to play it: render, instruments."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import soundloom
from soundloom.commands.flags import MAKING, OUTPUT, Making, Out, Output, app
from soundloom.paths import make_folder

if TYPE_CHECKING:
    from soundloom.performing import Cast
    from soundloom.render import Performance
    from soundloom.score import Score


@app.command(sort_key=7)
def render(
    score: Annotated[str, Parameter(allow_leading_hyphen=True)],
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
        How loud the whole is made, -60 to 0 (integrated loudness, BS.1770); its true peaks stay below -1 dB.
    stems
        A folder that each part is written to by itself, and the room; together they are the mix before its master.
    """
    from soundloom.audio import written_as
    from soundloom.instruments.opening import Opener
    from soundloom.performing import cast, read_score
    from soundloom.render import arrange, perform

    terminal = making.terminal()
    written_as(out, sample_rate=sample_rate)  # what cannot be written is refused before it is played
    with terminal.only_document(), terminal.patience(), terminal.bar("render") as bar:
        notes, opener = read_score(score, bpm=bpm), Opener(seed=making.seed, device=making.device)
        chosen = cast(who or [], opener)
        players = arrange(notes, chosen.who(opener))
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
    for line in (*players.lines(), *_remarks(made, lufs, chosen, notes)):
        terminal.say(line)
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


def _remarks(made: "Performance", lufs: float, chosen: "Cast", score: "Score") -> Iterator[str]:
    """What the player of a piece may not have expected."""
    if chosen.drums_too(score):
        yield "note: who plays all channels plays the drums on channel 9 too: name them, as in 9=patch:drum-kit"
    for channel in chosen.idle(score):
        drums = "; drums are on 9" if channel == 10 else ""
        yield f"note: nothing is played on channel {channel} (channels count from 0{drums})"
    if not math.isfinite(made.loudness_lufs):
        yield "note: nothing is to be heard: the players may have no sound on these keys"
    elif abs(made.loudness_lufs - lufs) > 0.5:
        yield f"note: single peaks stand in the way of {lufs:g} LUFS"


@app.command(sort_key=7.05)
def instruments(
    what: str | None = None,
    /,
    *,
    output: Output = OUTPUT,
) -> None:
    """List what plays: engines, patches and effects; or the knobs of one of them, or what a SoundFont holds.

    Parameters
    ----------
    what
        As after `--map` in `soundloom render`: `fm`, `patch:choir`, a trained run, a patch file, a SoundFont.
    """
    from soundloom.instruments import listing

    terminal = output.terminal()
    with terminal.only_document():
        document, lines = listing.everything() if what is None else listing.one(what)
    for line in lines:
        terminal.say(line)
    terminal.document(document)
