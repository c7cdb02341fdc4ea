"""What says how good a model is."""

from pathlib import Path
from typing import Literal

import soundloom
from soundloom.commands.flags import ON, On, app
from soundloom.terminal import counted


@app.command(sort_key=6)
def evaluate(
    run: Path,
    bank: Path,
    /,
    *,
    split: Literal["train", "validation", "test"] = "test",
    most: int = 50,
    on: On = ON,
) -> None:
    """Say how close a model's re-syntheses are to sounds it has never heard, beside what noise would score.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    bank
        The bank whose sounds are held against it.
    split
        Which of its sounds: test (never used in training), validation or train.
    most
        At most so many sounds.
    """
    terminal = on.terminal()
    with terminal.only_document(), terminal.bar("evaluating") as bar:
        trained, held_out = soundloom.load(run, device=on.device), soundloom.SoundBank.load(bank)
        result = soundloom.evaluate(trained, held_out, split=split, most=most, progress=counted(bar))
    terminal.say(result.table())
    terminal.document(result.document())
