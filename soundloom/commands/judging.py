"""What says how good a model is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import soundloom
from soundloom.commands.flags import MAKING, Making, app
from soundloom.terminal import counted


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Naming:
    """Who names new sounds."""

    classifier: Annotated[
        Path | None,
        Parameter(help="A classifier trained on that bank: its folder. It gives the Inception scores, checks labels."),
    ] = None
    train_classifier: Annotated[
        float | None, Parameter(help="Train one first, for so many minutes; it stays in RUN/classifier.")
    ] = None


NAMING = Naming()


@app.command(sort_key=6)
def evaluate(
    run: Path,
    bank: Path,
    /,
    *,
    samples: int | None = None,
    naming: Naming = NAMING,
    split: Literal["train", "validation", "test"] = "test",
    most: int = 50,
    out: Annotated[Path | None, Parameter(name=["-o", "--out"])] = None,
    making: Making = MAKING,
) -> None:
    """Say how good a model is, beside what real sounds score, and make a page on which to hear it.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    bank
        The bank whose sounds are held against it.
    samples
        How many new sounds are drawn. Left out: as many as there are training sounds, 40 to 200. 0: none.
    split
        Which of the bank's sounds are re-synthesised or named: test (never used in training), validation or train.
    most
        At most so many of them.
    out
        The page. Left out: RUN/evaluation.html.
    """
    from soundloom.ears import Ear
    from soundloom.errors import ConfigError
    from soundloom.evalpage import write_page
    from soundloom.evaluate import Judges
    from soundloom.models.base import Samples
    from soundloom.paths import make_folder

    terminal = making.terminal()
    page = out or run / "evaluation.html"
    with terminal.only_document():
        trained, held_out = soundloom.load(run, device=making.device), soundloom.SoundBank.load(bank)
        classifier = naming.classifier
        if naming.train_classifier is not None:
            if classifier is not None:
                raise ConfigError("--classifier takes one that there is and --train-classifier trains one: choose one")
            if samples == 0 or not isinstance(trained.model, Samples):
                raise ConfigError("there are no new sounds for a classifier to judge: leave out --train-classifier")
            classifier = run / "classifier"
            terminal.say(f"training a classifier on {bank} for {naming.train_classifier:g} minutes, in {classifier}")
            soundloom.train(
                held_out,
                classifier,
                family="classifier",
                minutes=naming.train_classifier,
                seed=making.seed,
                device=making.device,
            )
        judges = Judges(classifier=Ear.load(classifier, device=making.device) if classifier else None)
        with terminal.bar("evaluating") as bar:
            result = soundloom.evaluate(
                trained,
                held_out,
                split=split,
                most=most,
                samples=samples,
                seed=making.seed,
                judges=judges,
                progress=counted(bar),
            )
        make_folder(page.parent)
        write_page(result, page)
    terminal.say(f"{result.table()}\n\npage: {page}")
    terminal.document({**result.document(), "page": page})
