"""What trains models."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from soundloom.commands.flags import MAKING, OUTPUT, Making, Out, Output, Settings, app, quoted
from soundloom.terminal import Terminal


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Lasting:
    """How long a run goes."""

    minutes: Annotated[
        float | None, Parameter(help="How long, by the clock. Ten are enough to hear where it goes.")
    ] = None
    steps: Annotated[int | None, Parameter(help="How long, in training steps, instead of minutes.")] = None
    cpu_minutes: Annotated[
        float | None, Parameter(help="How long, in minutes of processor time, instead: for comparisons.")
    ] = None
    patience: Annotated[
        int | None,
        Parameter(
            help="Stop after so many validations without a better score; a run has up to twenty. The best model is "
            "kept anyway."
        ),
    ] = None


LASTING = Lasting()


@app.command(sort_key=2)
def train(
    bank: Path,
    /,
    *,
    out: Out,
    family: str = "vae",
    lasting: Lasting = LASTING,
    set_: Settings = None,
    making: Making = MAKING,
) -> None:
    """Train a model on a bank. Ctrl-C saves; the same command goes on where it stopped.

    `--family vae` learns whole sounds: new ones, morphs, a playable instrument. `--family codec` learns to take any
    sound apart and to put it together again: re-synthesis and transposition. `--family classifier` learns to tell your
    labels apart.

    Parameters
    ----------
    bank
        A folder made by `soundloom scan`.
    out
        Where the model goes: weights, log, previews, a page.
    family
        vae, codec or classifier.
    """
    from soundloom import api
    from soundloom.bank import SoundBank
    from soundloom.train import TrainConfig, fit

    minutes = lasting.minutes
    if minutes is None and lasting.steps is None and lasting.cpu_minutes is None:
        minutes = 10.0
    config = TrainConfig(
        minutes=minutes,
        steps=lasting.steps,
        cpu_minutes=lasting.cpu_minutes,
        seed=making.seed,
        device=making.device,
        patience=lasting.patience,
    )
    follows = os.environ.get("RANK", "0") != "0"  # of the processes that torchrun starts, one speaks
    terminal = Terminal(quiet=making.quiet or follows, json=making.json and not follows)
    sounds = SoundBank.load(bank)
    if len(sounds.clips("validation")) == 0:
        terminal.say(
            f"{bank} has {len(sounds)} sounds, too few to hold any out: scores are on the sounds trained on, "
            "so they do not tell how the model does on others"
        )
    with terminal.only_document(), terminal.bar(f"training a {family}") as bar:
        result = fit(family, sounds, config, out, settings=set_ or (), progress=api.shown_on(bar))
    score = "" if result.score is None else f", best score {result.score:.3f} (lower is better) on {result.judged_on}"
    said = "was already " if result.already else ""
    terminal.say(f"{said}{result.message}{score}")
    for finding in result.findings:
        terminal.say(f"doctor: {finding.name}: {finding.words}" + (f"; {finding.advice}" if finding.sick else ""))
    terminal.say(f"model: {out}\nnext: {_next_step(family, out)}")
    terminal.document({**asdict(result), "verdict": result.findings[0].name, "family": family})


@app.command(sort_key=2.5)
def doctor(run: Path, /, *, output: Output = OUTPUT) -> None:
    """Say whether a run is bad or just unfinished: a verdict in words, with the evidence and what to do about it.

    It goes by what `soundloom train` measured at each validation, and needs neither the bank nor the model. The
    verdicts are: diverging, silence, clipping, diverging adversary, collapsed latents, mode collapse, memorising,
    noise floor; and of a run that is well: improving, plateau, too early to say.

    Parameters
    ----------
    run
        A folder made by `soundloom train`, finished or not.
    """
    from soundloom.doctor import examine

    terminal = output.terminal()
    examination = examine(run)
    terminal.say(examination.words())
    terminal.document(examination.document())


def _next_step(family: str, out: Path) -> str:
    if family == "codec":
        return f"soundloom reconstruct {quoted(out)} A-SOUND.wav -o again.wav --transpose 3"
    if family == "classifier":
        return f"soundloom tag {quoted(out)} SOUNDS"
    return f"soundloom sample {quoted(out)} -n 16 -o new-sounds"
