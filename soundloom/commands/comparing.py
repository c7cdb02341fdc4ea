"""What compares families of models."""

from pathlib import Path

from soundloom.commands.flags import MAKING, Making, Out, Settings, app
from soundloom.commands.training import LASTING, Lasting


@app.command(sort_key=6.5)
def compare(
    bank: Path,
    /,
    *,
    out: Out,
    families: str | None = None,
    codec: Path | None = None,
    samples: int | None = None,
    lasting: Lasting = LASTING,
    set_: Settings = None,
    making: Making = MAKING,
) -> None:
    """Train several families on a bank, each for the same time, and say in one table and page how they compare.

    The page has the quality, the variety, the obedience, the memorisation, the speed and the size of each, and players
    beside real sounds. Ctrl-C saves; the same command goes on where it stopped. A setting says whose it is, as in
    `--set flow.width=128`; `--set codec.batch=4` is for codecs that come first.

    Parameters
    ----------
    bank
        A folder made by `soundloom scan`.
    out
        Where everything goes; open report.html in it. OUT/FAMILY is what `soundloom train` makes.
    families
        Their names with commas, as in gan,vae,flow. Left out: those that suit the bank.
    codec
        A trained codec for those that need one. Left out: each trains its own first, within its time.
    samples
        How many new sounds of each are judged. Left out: as many as there are training sounds, 40 to 200.
    """
    from soundloom import compare as comparing
    from soundloom import comparepage
    from soundloom.bank import SoundBank

    terminal = making.terminal()
    sounds = SoundBank.load(bank)
    names = comparing.contestants(sounds) if families is None else tuple(_split(families))
    contest = comparing.Contest(names, lasting.config(making), _by_family(set_ or ()), codec, samples)
    terminal.say(f"{len(names)} families, {contest.budget} each: {', '.join(names)}")
    with terminal.only_document():
        comparison = comparing.compare(sounds, out, contest, terminal=terminal)
        paths = comparepage.write(comparison, out)
    terminal.say(f"\n{comparison.table()}\n\npage: {paths['page']}")
    terminal.document({**comparison.document(), **paths})


def _split(families: str) -> list[str]:
    return [name.strip() for name in families.split(",") if name.strip()]


def _by_family(settings: list[str] | tuple[()]) -> dict[str, tuple[str, ...]]:
    """`FAMILY.key=value` texts by family."""
    from soundloom.errors import ConfigError

    found: dict[str, tuple[str, ...]] = {}
    for setting in settings:
        name, dot, rest = setting.partition(".")
        if not dot or "=" in name:
            raise ConfigError(f"--set {setting} does not say whose setting it is, as --set vae.{setting} does")
        found[name] = (*found.get(name, ()), rest)
    return found
