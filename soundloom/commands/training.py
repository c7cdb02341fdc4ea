"""What trains models."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from soundloom.commands.flags import MAKING, OUTPUT, Making, Out, Output, Settings, app, quoted
from soundloom.terminal import Terminal

if TYPE_CHECKING:
    from soundloom.train import RunResult, TrainConfig


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

    def config(self, making: Making) -> "TrainConfig":
        """The budget, ten minutes where none is given, with seed and device."""
        from soundloom.train import TrainConfig

        none = self.minutes is None and self.steps is None and self.cpu_minutes is None
        return TrainConfig(
            minutes=10.0 if none else self.minutes,
            steps=self.steps,
            cpu_minutes=self.cpu_minutes,
            seed=making.seed,
            device=making.device,
            patience=self.patience,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What is trained."""

    family: Annotated[
        str | None, Parameter(help="What kind of model. Left out: what suits the bank, which is said.")
    ] = None
    preset: Annotated[
        str | None, Parameter(help="drums, notes, speech, texture or tiny: family and settings for such a bank.")
    ] = None
    codec: Annotated[
        Path | None, Parameter(help="A trained codec, for a family that models its codes, as flow does.")
    ] = None
    codec_first: Annotated[
        bool, Parameter(help="Train that codec first, in OUT/codec, within the same time. Presets do so by themselves.")
    ] = False


LASTING, CHOOSING = Lasting(), Choosing()


@app.command(sort_key=2)
def train(
    bank: Path,
    /,
    *,
    out: Out,
    choosing: Choosing = CHOOSING,
    lasting: Lasting = LASTING,
    set_: Settings = None,
    making: Making = MAKING,
) -> None:
    """Train a model on a bank. Ctrl-C saves; the same command goes on where it stopped.

    Without `--family` it trains what suits the bank and says what that is. `--family vae` learns whole sounds: new
    ones, morphs, a playable instrument. `--family flow` learns whole sounds through a codec, which it needs.
    `--family codec` learns to take any sound apart and to put it together again: re-synthesis and transposition.
    `--family classifier` learns to tell your labels apart.

    Parameters
    ----------
    bank
        A folder made by `soundloom scan`.
    out
        Where the model goes: weights, log, previews, a page.
    """
    from soundloom import api, presets, recipe
    from soundloom.bank import SoundBank

    config = lasting.config(making)
    follows = os.environ.get("RANK", "0") != "0"  # of the processes that torchrun starts, one speaks
    terminal = Terminal(quiet=making.quiet or follows, json=making.json and not follows)
    sounds = SoundBank.load(bank)
    if len(sounds.clips("validation")) == 0:
        terminal.say(
            f"{bank} has {len(sounds)} sounds, too few to hold any out: scores are on the sounds trained on, "
            "so they do not tell how the model does on others"
        )
    choice = recipe.Choice(
        family=choosing.family,
        preset=presets.named(choosing.preset) if choosing.preset is not None else None,
        codec=choosing.codec,
        codec_first=choosing.codec_first,
        settings=set_ or (),
    )
    chosen = recipe.decide(sounds, choice, minutes=config.minutes or config.cpu_minutes)
    stages = recipe.stages(chosen, sounds, config, out)
    if chosen.words:
        terminal.say(chosen.words)
    if chosen.codec_first:
        share = f"{100 * recipe.CODEC_SHARE:.0f} % of the time"
        terminal.say(f"a {chosen.family} needs a codec: it is trained first, for {share}, in {stages[0].folder}")
    results = []
    for stage in stages:
        with terminal.only_document(), terminal.bar(f"training a {stage.family}") as bar:
            results.append(stage.fit(sounds, progress=api.shown_on(bar)))
        _tell(results[-1], terminal, of=f"{stage.family}: " if len(stages) > 1 else "")
    terminal.say(f"model: {out}\nnext: {_next_step(chosen.family, out)}")
    terminal.document(
        {
            **asdict(results[-1]),
            "verdict": results[-1].findings[0].name,
            "family": chosen.family,
            "preset": chosen.preset.name if chosen.preset else None,
            "codec": asdict(results[0]) if chosen.codec_first else None,
        }
    )


def _tell(result: "RunResult", terminal: Terminal, *, of: str) -> None:
    """How a run ended, for people."""
    score = "" if result.score is None else f", best score {result.score:.3f} (lower is better) on {result.judged_on}"
    said = "was already " if result.already else ""
    terminal.say(f"{of}{said}{result.message}{score}")
    for finding in result.findings:
        terminal.say(f"{of}doctor: {finding.name}: {finding.words}" + (f"; {finding.advice}" if finding.sick else ""))


@app.command(sort_key=2.5)
def doctor(run: Path, /, *, output: Output = OUTPUT) -> None:
    """Say whether a run is bad or just unfinished: a verdict in words, with the evidence and what to do about it.

    It goes by what `soundloom train` measured at each validation, and needs neither the bank nor the model. The
    verdicts are: diverging, silence, clipping, diverging adversary, collapsed latents, mode collapse, ignored noise,
    memorising, noise floor; and of a run that is well: improving, plateau, too early to say.

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
