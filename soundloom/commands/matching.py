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
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "from": source, "seconds": made.seconds, "channels": made.channels,
                       "sample_rate": made.sample_rate})  # fmt: skip
