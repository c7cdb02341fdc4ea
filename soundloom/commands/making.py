"""What makes sounds with trained models, and the demo of the whole way."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import soundloom
from soundloom.commands.flags import MAKING, Making, Out, app
from soundloom.paths import make_folder

if TYPE_CHECKING:
    from soundloom.condition import Manner


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How new sounds are drawn."""

    guidance: Annotated[
        float | None,
        Parameter(help="How strongly what is asked is obeyed: 1 as learnt, 2 more so and less varied (flow)."),
    ] = None
    temperature: Annotated[float, Parameter(help="How daring: 1 as learnt, lower is tamer.")] = 1.0
    solver_steps: Annotated[int | None, Parameter(help="Of a flow: more is finer and slower; 8 if left out.")] = None
    solver: Annotated[str | None, Parameter(help="Of a flow: euler, midpoint or heun.")] = None
    best_of: Annotated[int, Parameter(help="Draw so many for each sound and keep the most likely one (flow).")] = 1

    def manner(self) -> "Manner":
        from soundloom.condition import Manner

        return Manner(
            guidance=self.guidance,
            temperature=self.temperature,
            steps=self.solver_steps,
            solver=self.solver,
            best_of=self.best_of,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking:
    """What new sounds are asked to be; what is left out is as the bank had it."""

    label: Annotated[str | None, Parameter(help="What kind, one of the bank's labels.")] = None
    pitch: Annotated[str | None, Parameter(help="A note name such as C#4, or a MIDI number such as 61.")] = None
    seconds: Annotated[float | None, Parameter(help="How long each is.")] = None
    text: Annotated[str | None, Parameter(help='In words, such as "short dark click".')] = None
    velocity: Annotated[float | None, Parameter(help="How hard it is played, 0 to 1.")] = None
    brightness: Annotated[float | None, Parameter(help="0 the darkest of the bank, 1 the brightest.")] = None
    noisiness: Annotated[float | None, Parameter(help="0 the purest of the bank, 1 the noisiest.")] = None
    attack: Annotated[float | None, Parameter(help="0 the fastest onset of the bank, 1 the slowest.")] = None
    decay: Annotated[float | None, Parameter(help="0 the fastest fall of the bank, 1 the slowest.")] = None
    loudness: Annotated[float | None, Parameter(help="0 the thinnest of the bank, 1 the densest, at one peak.")] = None

    def values(self) -> dict[str, float]:
        every = {name: getattr(self, name) for name in QUANTILES}
        return {name: value for name, value in every.items() if value is not None}


QUANTILES = ("velocity", "brightness", "noisiness", "attack", "decay", "loudness")
ASKING, DRAWING = Asking(), Drawing()


@app.command(sort_key=3)
def sample(
    run: Path,
    /,
    *,
    out: Out,
    count: Annotated[int, Parameter(name=["-n", "--count"])] = 16,
    asking: Asking = ASKING,
    drawing: Drawing = DRAWING,
    making: Making = MAKING,
) -> None:
    """Make new sounds with a trained model: 000.wav, 001.wav … and samples.json.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    out
        Where the sounds go.
    count
        How many.
    """
    from soundloom import api

    terminal = making.terminal()
    wish = api.Wish(asking.label, asking.pitch, asking.seconds, asking.text, asking.values(), manner=drawing.manner())
    with terminal.only_document():
        trained = soundloom.load(run, device=making.device)
        document = api.write_samples(trained, out, count, wish, seed=making.seed)
    for warning in document["warnings"]:
        terminal.say(f"note: {warning}")
    terminal.say(f"{count} sounds in {out}")
    terminal.document(document)


@app.command(sort_key=4)
def reconstruct(
    run: Path,
    sound: Path,
    /,
    *,
    out: Out,
    transpose: float = 0.0,
    voices: int = 1,
    making: Making = MAKING,
) -> None:
    """Play a recording through a trained model: same length and rate, its timbre as the model knows it.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    sound
        Any audio file.
    out
        The file to write; its suffix (.wav, .flac, .aiff, .ogg) decides the format.
    transpose
        Semitones up (or down, below 0), at the same speed.
    voices
        How many notes sound at once: 1 for a melody, more for chords (codec only).
    """
    terminal = making.terminal()
    with terminal.only_document():
        heard = soundloom.read(sound)
        made = soundloom.load(run, device=making.device).reconstruct(
            heard, transpose=transpose, voices=voices, seed=making.seed
        )
        soundloom.write(make_folder(out.parent) / out.name, made)
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "seconds": made.seconds, "sample_rate": made.sample_rate, "transpose": transpose})


@app.command(sort_key=5)
def morph(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    out: Out,
    steps: int = 8,
    making: Making = MAKING,
) -> None:
    """Walk from one sound to another: 00.wav is the model's A, the last one its B, the others lie between.

    Parameters
    ----------
    run
        A folder made by `soundloom train --family vae`.
    a
        The sound to start from.
    b
        The sound to arrive at.
    out
        Where the sounds go.
    steps
        How many sounds, both ends included.
    """
    from soundloom import api

    terminal = making.terminal()
    with terminal.only_document():
        files = api.write_sounds(
            soundloom.load(run, device=making.device).morph(a, b, steps=steps, seed=making.seed), out
        )
    terminal.say(f"{len(files)} sounds in {out}")
    terminal.document({"from": a, "to": b, "seed": making.seed, "files": files})


@app.command(sort_key=8)
def demo(
    folder: Path | None = None,
    /,
    *,
    out: Out = Path("out"),
    minutes: float = 8.0,
    making: Making = MAKING,
) -> None:
    """The whole way in one go: sounds, bank, training, new sounds, a morph, a phrase, and a page that plays it all.

    Parameters
    ----------
    folder
        Your sounds. Left out: some 300 sounds that Soundloom makes itself.
    out
        Where everything goes; open report.html in it.
    minutes
        How long to train, by the clock; everything else takes about two minutes more.
    """
    from soundloom.demo import run_demo

    terminal = making.terminal()
    with terminal.only_document():
        document = run_demo(folder, out, minutes=minutes, seed=making.seed, device=making.device, terminal=terminal)
    terminal.document(document)
