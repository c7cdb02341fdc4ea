"""From a few words to something that plays: an engine, a patch, a trained run, a SoundFont, a folder of sounds.

subtractive,cutoff_hz=800      an engine, its knobs after commas
patch:warm-pad                 a patch that comes along
my-patch.toml                  one of your own
my-run,label=kick              a folder made by `soundloom train`
piano.sfz   gm.sf2,program=4   a sampled instrument
my-sounds                      a folder of sounds, spread over the keys
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from soundloom.audio import Waveform, read
from soundloom.config import did_you_mean
from soundloom.errors import ConfigError
from soundloom.instruments import patch as patches
from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.instruments.controls import Playable
from soundloom.instruments.engines import ENGINES, SOURCED
from soundloom.instruments.generalmidi import DRUMS, KIT, KITS, PATCHES
from soundloom.instruments.patch import Patch
from soundloom.instruments.zones import Keymap, Sound, spread

SHIPPED = "patch:"
WORDS = ("label", "played_as")  # what is said of a trained run in words; all else are knobs
PLAYED_AS: dict[str, Literal["sounds", "texture", "melody"] | None] = {
    "": None, "sounds": "sounds", "texture": "texture", "melody": "melody",
}  # fmt: skip
PLACES = ("program", "bank")  # where in a SoundFont
NEURAL = "neural"  # the engine of a trained run, which is no class by itself
SOURCE_PITCH = 60.0  # at which a patch is recorded to be the source of another
SOURCE_S, SOURCE_HELD_S = 4.0, 2.5
SOURCE_KEYS = range(36, 97, 6)  # and for a sampler, these
SOURCE_RATE = 44100


@dataclass(frozen=True)
class Opener:
    """How trained runs are opened: with which seed, on which device; `live`: models in a process of their own."""

    seed: int = 0
    device: str | None = None
    live: bool = False

    def opened(self, text: str, *, folder: Path = Path()) -> Playable:
        """What plays, from one text; paths are looked for from `folder` on. `ConfigError` where there is nothing."""
        name, *pairs = (part.strip() for part in text.split(","))
        if not name:
            raise ConfigError(f"'{text}' names no instrument: an engine, a patch or a folder comes first")
        said = {pair: pair.partition("=")[0].strip() for pair in pairs}
        words = [pair for pair in pairs if said[pair] in WORDS]
        place = [pair for pair in pairs if said[pair] in PLACES]
        knobs = patches.numbers([pair for pair in pairs if said[pair] not in (*WORDS, *PLACES)], where=text)
        path = folder / name
        if name.startswith(SHIPPED) and name.endswith(".toml"):
            raise ConfigError(f"'{name}': a patch file of yours goes without {SHIPPED}")
        if name.startswith(SHIPPED):
            return self._patch(_told(patches.named(name.removeprefix(SHIPPED)), words + place), knobs, folder)
        if name in ENGINES:
            return self._patch(_told(Patch(name, engine=name), words + place), knobs, folder)
        if path.suffix.lower() == ".toml":
            return self._patch(_told(patches.load(path), words + place), knobs, path.parent)
        if (path / "config.json").is_file():
            return self._run(_told(Patch(path.name, NEURAL, source=name), words + place), path, knobs)
        if path.exists():
            patch = Patch(path.stem, "sampler", source=",".join([name, *place]))
            return self._patch(_told(patch, words), knobs, folder)
        if path.suffix or "/" in name:
            raise ConfigError(f"cannot play '{name}': there is no such file or folder")
        known = did_you_mean(name, [*ENGINES, *(SHIPPED + one for one in patches.shipped())])
        if not known.endswith("?"):
            known = "`soundloom instruments` lists them."
        raise ConfigError(
            f"there is no instrument '{name}': {known} The folder of a trained run or of sounds plays too, and .sfz, "
            ".sf2 and patch files (.toml)"
        )

    def usual(self, channel: int, program: int) -> Playable:
        """Who plays a channel where nobody says: the patch that stands for its program, or the drums."""
        return self.opened(SHIPPED + (KITS.get(program, KIT) if channel == DRUMS else PATCHES[program]))

    def _patch(self, patch: Patch, knobs: dict[str, float], folder: Path) -> Playable:
        if patch.engine == NEURAL:
            return self._run(patch, folder / patch.source, knobs)
        if not patch.source:
            return patches.build(patch, settings=knobs)
        if patch.engine not in SOURCED:
            raise ConfigError(f"{patch.name}: a {patch.engine} plays no source; {', '.join(SOURCED)} do")
        return patches.build(patch, source=self._source(patch, folder), settings=knobs)

    def _run(self, patch: Patch, path: Path, knobs: dict[str, float]) -> Playable:
        """A trained run with a patch's effects after it."""
        own = {**patch.parameters, **knobs}
        inner = {key: value for key, value in own.items() if "." not in key}
        instrument = neural(path, inner, self, patch)
        return patches.finished(patch, instrument, own)

    def _source(self, patch: Patch, folder: Path) -> Any:
        """What an engine plays from: a `Keymap` for the sampler, a recording for all others.

        A wavetable's file goes as it is: it says itself how long its frames are.
        """
        name, *pairs = (part.strip() for part in patch.source.split(","))
        path = folder / name
        if patch.engine == "sampler":
            return self._keymap(name, path, pairs)
        if name.startswith(SHIPPED) or (path / "config.json").is_file():
            return self._recorded(patch.source, folder, [SOURCE_PITCH])[0][0]
        return path if patch.engine == "wavetable" else read(path)

    def _keymap(self, name: str, path: Path, pairs: Sequence[str]) -> Keymap:
        """A sampled instrument from its file, or spread from a folder, a single sound, or what another one plays."""
        keys = [float(key) for key in SOURCE_KEYS]
        if (path / "config.json").is_file():
            from soundloom.instruments.neural import sounds_of
            from soundloom.run import Run

            label = next((pair.partition("=")[2] for pair in pairs if pair.startswith("label=")), None)
            made = sounds_of(Run.load(path, device=self.device), pitches=keys, label=label, seed=self.seed)
            return spread([Sound(sound, pitch) for sound, pitch, _ in made], name=name)
        if name.startswith(SHIPPED):
            return spread(
                [Sound(*one) for one in self._recorded(",".join([name, *pairs]), path.parent, keys)], name=name
            )
        if path.suffix.lower() == ".sf2":
            from soundloom.instruments.sf2 import load as load_sf2

            numbers = patches.numbers(pairs, where=name)
            if wrong := [key for key, value in numbers.items() if key not in PLACES or not value.is_integer()]:
                raise ConfigError(f"'{name}' has no {wrong[0]} as said: a program and a bank by their whole numbers")
            return load_sf2(path, **{key: int(value) for key, value in numbers.items()})
        if pairs:
            raise ConfigError(f"'{pairs[0]}' means nothing to '{name}': SoundFonts have programs, trained runs labels")
        if path.is_dir():
            from soundloom.instruments.folders import load as load_folder

            return load_folder(path)
        if path.suffix.lower() == ".sfz":
            from soundloom.instruments.sfz import load as load_sfz

            return load_sfz(path)
        from soundloom.instruments.folders import single

        return single(path)

    def _recorded(self, text: str, folder: Path, pitches: Sequence[float]) -> list[tuple[Waveform, float]]:
        """Notes of another instrument, held and rung out."""
        instrument = replace(self, live=False).opened(text, folder=folder).instrument
        n = round(SOURCE_S * SOURCE_RATE)
        made = []
        for pitch in pitches:
            on, off = Event(0, "on", 1, pitch, 0.8), Event(round(SOURCE_HELD_S * SOURCE_RATE), "off", 1)
            instrument.prepare([on, off], SOURCE_RATE)
            block, _ = instrument.process(instrument.init_state(SOURCE_RATE, seed=self.seed), [on, off], n)
            made.append((Waveform(np.ascontiguousarray(block), SOURCE_RATE), pitch))
        return made


def _told(patch: Patch, pairs: Sequence[str]) -> Patch:
    """A patch of a trained run with what is said of it in words; nothing else understands any."""
    words = {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}
    wrong = next((key for key in words if patch.engine != NEURAL or key not in WORDS), None)
    if wrong is not None:
        raise ConfigError(f"{patch.name} has no {wrong}: SoundFonts have a program and a bank, trained runs a label")
    empty = next((key for key, value in words.items() if not value), None)
    if empty is not None:
        raise ConfigError(f"the {empty} of {patch.name} is not said: write it as in {empty}=kick")
    return replace(patch, label=words.get("label", patch.label), played_as=words.get("played_as", patch.played_as))


def neural(path: Path, knobs: dict[str, float], opener: Opener, patch: Patch) -> AbstractInstrument:
    """The model of a run folder as an instrument; of the patch it takes the label, and as what it is played."""
    from soundloom.instruments.neural import instrument_of, tuneful_label  # torch is loaded only where a model plays
    from soundloom.run import Run

    if patch.played_as not in PLAYED_AS:
        wrong = patch.played_as
        raise ConfigError(f"a model is not played as '{wrong}': {did_you_mean(wrong, filter(None, PLAYED_AS))}")
    run = Run.load(path, device=opener.device)
    label = patch.label or tuneful_label(run)
    return instrument_of(
        run, knobs, label=label, seed=opener.seed, live=opener.live, played_as=PLAYED_AS[patch.played_as]
    )


def instrument(text: str, *, seed: int = 0, device: str | None = None) -> AbstractInstrument:
    """What plays, from one text.

    >>> type(instrument("subtractive,cutoff_hz=800")).__name__
    'Subtractive'
    """
    return Opener(seed=seed, device=device).opened(text).instrument
