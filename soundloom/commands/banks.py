"""What makes and looks at banks."""

from pathlib import Path

from soundloom.commands.flags import OUTPUT, Out, Output, app, quoted
from soundloom.terminal import counted


@app.command(sort_key=1)
def scan(
    folder: Path,
    /,
    *,
    out: Out,
    label_from: str | None = None,
    labels: Path | None = None,
    split: Path | None = None,
    output: Output = OUTPUT,
) -> None:
    """Listen to a folder of sounds once and make a bank of it: audio, pitch, labels, and a page that shows them.

    Any audio file in any folder below is taken; what cannot be used is listed with the reason. Scanning again reads
    only what changed.

    Parameters
    ----------
    folder
        Your sounds.
    out
        Where the bank goes.
    label_from
        Where labels come from: `folder`, `name`, or a regular expression with one group. Left out: whichever fits.
    labels
        A CSV file with columns path and label, which decides instead.
    split
        A CSV file with columns path and split (train, validation or test), which decides instead.
    """
    from soundloom import api

    terminal = output.terminal()
    with terminal.only_document(), terminal.bar("scanning") as bar:
        bank = api.scan(folder, out, label_from=label_from, labels=labels, split=split, progress=counted(bar))
    terminal.say(f"{api.bank_words(bank)}\npage: {bank.report()}\nnext: soundloom train {quoted(out)} -o my-run")
    terminal.document(api.bank_facts(bank))
