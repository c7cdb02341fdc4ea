"""What goes from a sound or a picture to what makes it: match, picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import soundloom
from soundloom.commands.flags import MAKING, Making, Out, app
from soundloom.paths import make_folder


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a picture's height and its brightness stand for."""

    low_hz: Annotated[float, Parameter(help="What the lower edge of the picture stands for.")] = 55.0
    high_hz: Annotated[float, Parameter(help="What its upper edge stands for; octaves are equally high.")] = 14080.0
    range_db: Annotated[float, Parameter(help="From the brightest pixel down to black.")] = 60.0


SCALE = Scale()


@app.command(sort_key=7.2)
def picture(
    source: Path,
    /,
    *,
    out: Out,
    seconds: float | None = None,
    invert: bool = False,
    run: Path | None = None,
    scale: Scale = SCALE,
    making: Making = MAKING,
) -> None:
    """Hear a picture, or see a sound as such a picture: time runs to the right, octaves upwards, brightness is level.

    Red sounds on the left, blue on the right, green and grey on both. A sound drawn, edited in any program for
    pictures and heard again is that sound with the edits.

    Parameters
    ----------
    source
        A picture (PNG, JPEG, GIF, WebP, TIFF …), or any audio file.
    out
        The file to write: an audio file is the picture's sound, a .png the sound's picture.
    seconds
        How long the sound is; left out, 10 ms a column.
    invert
        Dark is loud: for ink on paper.
    run
        A codec made by `soundloom train`: the sound is played through it and takes on its timbre.
    """
    from soundloom import picture as pictures
    from soundloom.errors import ConfigError

    terminal = making.terminal()
    axes = pictures.Axes(scale.low_hz, scale.high_hz, scale.range_db)
    with terminal.only_document():
        if out.suffix.lower() == ".png":
            if seconds is not None or invert or run is not None:
                raise ConfigError(
                    "--seconds, --invert and --run are for a picture that is heard; here a sound is drawn"
                )
            drawn = pictures.draw(soundloom.read(source), axes=axes)
            pictures.write_picture(make_folder(out.parent) / out.name, drawn)
            terminal.say(f"{drawn.width} x {drawn.height} pixels in {out}")
            terminal.document({"file": out, "from": source, "width": drawn.width, "height": drawn.height})
            return
        seen = pictures.open_picture(source)
        made = pictures.sing(seen, axes=axes, seconds=seconds, invert=invert, seed=making.seed)
        if run is not None:
            made = soundloom.load(run, device=making.device).reconstruct(made, seed=making.seed)
        soundloom.write(make_folder(out.parent) / out.name, made)
    if seconds is None and seen.width * pictures.COLUMN_S > pictures.LONGEST_S:
        terminal.say(f"note: {seen.width} columns would take {seen.width * pictures.COLUMN_S:.0f} s: they are squeezed")
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "from": source, "seconds": made.seconds, "channels": made.channels,
                       "sample_rate": made.sample_rate})  # fmt: skip


@app.command(sort_key=7.1)
def match(
    target: Path,
    /,
    *,
    out: Out,
    engine: str = "subtractive",
    minutes: float = 1.0,
    tries: int | None = None,
    wav: Path | None = None,
    making: Making = MAKING,
) -> None:
    """Find the knobs of an engine whose sound comes closest to a recording, and write them as a patch.

    Ctrl-C stops; the best so far is kept.

    Parameters
    ----------
    target
        Any audio file; its first four seconds from its onset on.
    out
        The patch to write, such as lead.toml: `soundloom play lead.toml` plays it.
    engine
        Which engine: subtractive, fm, pluck, modal, additive, wavetable, tube, bowed or drums.
    minutes
        How long to look for them.
    tries
        How many candidates instead of minutes: the same seed then finds the same knobs.
    wav
        A file for the sound that was found.
    """
    from soundloom.audio import written_as
    from soundloom.errors import ConfigError
    from soundloom.instruments import patch as patches
    from soundloom.match import match as matched

    if out.suffix.lower() != ".toml":
        raise ConfigError(f"a patch is a .toml file: write it as {out.with_suffix('.toml').name}")
    if wav is not None:
        written_as(wav)
    terminal = making.terminal()
    with terminal.only_document(), terminal.patience(), terminal.bar("match") as bar:
        heard = soundloom.read(target)
        folder = make_folder(out.parent)
        found = matched(heard, engine, minutes=minutes, tries=tries, seed=making.seed, progress=bar)
        about = f"{found.engine} as close to {target.name} as it came, at MIDI pitch {found.pitch:.1f}"
        patch = patches.Patch(f"match of {target.stem}", found.engine, about=about, parameters=found.settings)
        patches.save(folder / out.name, patch)
        if wav is not None:
            soundloom.write(make_folder(wav.parent) / wav.name, found.sound)
    words = f"distance {found.before:.3f} before, {found.after:.3f} after {found.tries} tries"
    terminal.say(f"{words} in {found.seconds:.0f} s: {out}")
    terminal.document(
        {
            "file": out,
            "engine": found.engine,
            "pitch": found.pitch,
            "before": found.before,
            "after": found.after,
            "tries": found.tries,
            "seconds": found.seconds,
            "parameters": found.settings,
        }
    )
    if found.interrupted:
        raise KeyboardInterrupt
