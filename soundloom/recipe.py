"""What is trained, and in which order: a family that a preset or a person chose, and before it the codec it needs."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from soundloom import checkpoint, resume
from soundloom.bank import SoundBank
from soundloom.config import to_dict
from soundloom.errors import ConfigError
from soundloom.presets import Look, Preset, suited
from soundloom.runtime import pick_device
from soundloom.train import ProgressCallback, RunResult, TrainConfig, data_hash, fit

CODEC_SHARE = 0.35  # of the budget, where a codec comes first
FOR_CODEC = "codec."  # begins settings that are the codec's


@dataclass(frozen=True)
class Choice:
    """What a person asked for. No `family`: a preset chooses, `preset` or the one that suits the bank. `codec`: a
    folder; `codec_first`: train one. `settings` are `key=value` texts; those of a codec that comes first begin with
    `codec.`, as in `codec.batch=8`."""

    family: str | None = None
    preset: Preset | None = None
    codec: Path | str | None = None
    codec_first: bool = False
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Recipe:
    """What is trained. `preset`: whose settings are among these, where there is one."""

    family: str
    settings: tuple[str, ...]
    preset: Preset | None
    codec_first: bool
    codec_settings: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Stage:
    """One run on the way."""

    family: str
    settings: tuple[str, ...]
    config: TrainConfig
    folder: Path

    def fit(self, bank: SoundBank, *, progress: ProgressCallback | None = None) -> RunResult:
        return fit(self.family, bank, self.config, self.folder, settings=self.settings, progress=progress)


def decide(bank: SoundBank, choice: Choice, *, minutes: float | None = None) -> Recipe:
    """The recipe for a bank; `minutes`: those there are, where they are counted.

    A family that was named takes the settings of the preset that suits the bank only where that is of this family. The
    person's own settings come last, and win.

    Raises:
        ConfigError: an unknown family, or flags that contradict each other.
    """
    preset = choice.preset
    if choice.family is None:
        preset = preset or suited(bank, minutes=minutes)
    elif preset is None:
        fitting = suited(bank)
        preset = fitting if fitting.family == choice.family else None
    elif preset.family != choice.family:
        raise ConfigError(
            f"the preset {preset.name} trains a {preset.family}, and a {choice.family} is asked for: leave out one"
        )
    name = choice.family or (preset.family if preset else "")
    needs_codec = checkpoint.family(name).needs_codec
    given = [f"codec={choice.codec}"] if choice.codec is not None else []
    given += [setting for setting in choice.settings if setting.startswith("codec=")]
    own = [setting for setting in choice.settings if not setting.startswith(("codec=", FOR_CODEC))]
    codecs = [setting.removeprefix(FOR_CODEC) for setting in choice.settings if setting.startswith(FOR_CODEC)]
    if not needs_codec and (given or codecs or choice.codec_first):
        raise ConfigError(f"a {name} needs no codec: leave out --codec, --codec-first and settings of one")
    if given and choice.codec_first:
        raise ConfigError("--codec names a codec that there is and --codec-first trains one: choose one")
    first = needs_codec and not given and (choice.codec_first or choice.family is None)
    if codecs and not first:
        raise ConfigError(
            f"--set {FOR_CODEC}{codecs[0]} is for a codec that is trained first: --codec-first trains one"
        )
    return Recipe(
        family=name,
        settings=(*given, *(preset.settings if preset else ()), *own),
        preset=preset,
        codec_first=first,
        codec_settings=(*(preset.codec_settings if preset else ()), *codecs) if first else (),
        words=_words(bank, choice, preset, minutes) if preset else "",
    )


def _words(bank: SoundBank, choice: Choice, preset: Preset, minutes: float | None) -> str:
    """Which preset, and why: what was found in the bank, where that has decided."""
    why = ""
    if choice.preset is None:
        time = "" if minutes is None else f", in {minutes:g} minutes"
        why = f", for {Look.at(bank).words()}{time}"
    return f"preset {preset.name} ({preset.family}){why}: {preset.words}"


def stages(recipe: Recipe, bank: SoundBank, config: TrainConfig, folder: Path | str) -> tuple[Stage, ...]:
    """The runs, each resumable by itself: with a codec first, it has `CODEC_SHARE` of the budget and lies in
    `folder`/codec. What any of them would refuse is refused before the first begins."""
    folder = Path(folder)
    pick_device(config.device)
    begun = resume.read(folder)
    if begun is None:
        _try(recipe, bank)
    else:
        run = {"family": recipe.family, "seed": config.seed, "data": data_hash(bank)}
        resume.refuse_other_run(begun, run, folder)
    if not recipe.codec_first:
        return (Stage(recipe.family, recipe.settings, config, folder),)
    codec = folder / "codec"
    share, rest = shares(config)
    return (
        Stage("codec", recipe.codec_settings, share, codec),
        Stage(recipe.family, (f"codec={codec}", *recipe.settings), rest, folder),
    )


def shares(config: TrainConfig) -> tuple[TrainConfig, TrainConfig]:
    """A budget as that of the codec and that of what comes after it.

    >>> [part.steps for part in shares(TrainConfig(steps=100))]
    [35, 65]
    """
    if config.steps is not None:
        first = max(1, round(CODEC_SHARE * config.steps))
        return replace(config, steps=first), replace(config, steps=max(1, config.steps - first))
    if config.minutes is not None:
        first_m = CODEC_SHARE * config.minutes
        return replace(config, minutes=first_m), replace(config, minutes=config.minutes - first_m)
    assert config.cpu_minutes is not None
    first_m = CODEC_SHARE * config.cpu_minutes
    return replace(config, cpu_minutes=first_m), replace(config, cpu_minutes=config.cpu_minutes - first_m)


def _try(recipe: Recipe, bank: SoundBank) -> None:
    """Configures the family, where a codec comes first for one that is configured and not trained."""
    if not recipe.codec_first:
        checkpoint.family(recipe.family).configure(bank, recipe.settings)
        return
    codec = checkpoint.family("codec").configure(bank, recipe.codec_settings)
    with tempfile.TemporaryDirectory() as folder:
        head = {"format": checkpoint.FORMAT, "family": "codec", "config": to_dict(codec)}
        (Path(folder) / "config.json").write_text(json.dumps(head), encoding="utf-8")
        checkpoint.family(recipe.family).configure(bank, [f"codec={folder}", *recipe.settings])
