"""What makes sounds out of sounds with trained models: variations, parts made anew, continuations, other timbres."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import soundloom
from soundloom.commands.flags import MAKING, Making, Out, app
from soundloom.commands.making import DRAWING, Drawing
from soundloom.paths import make_folder


@app.command(sort_key=5.1)
def vary(
    run: Path,
    sound: Path,
    /,
    *,
    out: Out,
    count: Annotated[int, Parameter(name=["-n", "--count"])] = 8,
    strength: float = 0.4,
    drawing: Drawing = DRAWING,
    making: Making = MAKING,
) -> None:
    """Make sounds like one of yours: 00.wav and on, and again.wav, your sound as the model knows it.

    Parameters
    ----------
    run
        A folder made by `soundloom train --family flow`.
    sound
        Any audio file; what is longer than the model's sounds is cut.
    out
        Where the sounds go.
    count
        How many.
    strength
        How far from your sound: 0 is that sound again, 1 a new one.
    """
    from soundloom import api
    from soundloom.render import fit_peak

    terminal = making.terminal()
    with terminal.only_document():
        made = soundloom.load(run, device=making.device).vary(
            sound, count, strength=strength, seed=making.seed, manner=drawing.manner()
        )
        files = api.write_sounds(made.sounds, out)
        soundloom.write(make_folder(out) / "again.wav", fit_peak(made.again)[0])
    terminal.say(f"{len(files)} sounds in {out}; your sound from its noise is {made.error_db:.2f} dB off the codec's")
    document = {"from": sound, "strength": strength, "seed": making.seed, "error_db": made.error_db, "files": files}
    terminal.document(document)


@app.command(sort_key=5.2)
def fill(
    run: Path,
    sound: Path,
    /,
    *,
    out: Out,
    start: float,
    end: float,
    drawing: Drawing = DRAWING,
    making: Making = MAKING,
) -> None:
    """Make a part of a sound anew, so that it fits what is around it.

    Parameters
    ----------
    run
        A folder made by `soundloom train --family flow`.
    sound
        Any audio file.
    out
        The file to write.
    start
        Where the part begins, in seconds.
    end
        Where it ends, in seconds.
    """
    terminal = making.terminal()
    with terminal.only_document():
        made = soundloom.load(run, device=making.device).fill(
            sound, start_s=start, end_s=end, seed=making.seed, manner=drawing.manner()
        )
        soundloom.write(make_folder(out.parent) / out.name, made)
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "from": sound, "start_s": start, "end_s": end, "seconds": made.seconds})


@app.command(name="continue", sort_key=5.3)
def go_on(
    run: Path,
    sound: Path | None = None,
    /,
    *,
    out: Out,
    seconds: float = 30.0,
    drawing: Drawing = DRAWING,
    making: Making = MAKING,
) -> None:
    """Go on where a recording ends, for as long as you like; the file has what follows, not the recording itself.

    Parameters
    ----------
    run
        A folder made by `soundloom train` with a family that goes on: rnn, subband or wavenet.
    sound
        Any audio file. Left out: from nothing.
    out
        The file to write.
    seconds
        How long to go on.
    """
    terminal = making.terminal()
    with terminal.only_document():
        made = soundloom.load(run, device=making.device).go_on(
            sound, seconds=seconds, seed=making.seed, manner=drawing.manner()
        )
        soundloom.write(make_folder(out.parent) / out.name, made)
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "from": sound, "seconds": made.seconds, "seed": making.seed})


@app.command(sort_key=5.4)
def transfer(
    run: Path,
    sound: Path,
    /,
    *,
    out: Out,
    transpose: float | None = None,
    making: Making = MAKING,
) -> None:
    """Play a melody, sung or on any instrument, in the timbre that a model has learnt.

    Parameters
    ----------
    run
        A folder made by `soundloom train --family ddsp`.
    sound
        A recording of one voice at a time.
    out
        The file to write.
    transpose
        Semitones up, or down below 0. Left out: by octaves, to where the model's instrument plays.
    """
    terminal = making.terminal()
    with terminal.only_document():
        made = soundloom.load(run, device=making.device).transfer(sound, transpose=transpose, seed=making.seed)
        soundloom.write(make_folder(out.parent) / out.name, made)
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "from": sound, "seconds": made.seconds, "transpose": transpose})
