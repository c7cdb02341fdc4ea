"""What to train where nobody says it: a family and its settings, by what the scan found the bank to be."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from soundloom.bank import SoundBank, spread_evenly
from soundloom.config import did_you_mean
from soundloom.errors import ConfigError

FEW = 40  # sounds to train on, below which there is nothing to model the codes of
SHORTEST_MINUTES = 4.0  # of a run that trains a codec first, and then what models its codes
PITCHED = 0.5  # of the sounds, from which on pitch is what a bank is about
SPOKEN = 0.6  # of the sounds have a pitch, and of these as many move, where people speak or sing
SHORT_S = 0.5  # a hit; what is longer in the middle of a bank rings
GLIDE_SEMITONES = 1.5  # between the lowest and the highest tenth of a sound's pitch: it moves
LISTENED = 64  # sounds whose pitch is followed
VOICED_FRAMES = 8  # of a sound, below which nothing is said of how its pitch moves


SMALL_CODE = ("latent=32",)  # half of the codec's own: as much can be heard, and there is less to model


@dataclass(frozen=True)
class Preset:
    """A family and the settings that suit a kind of bank. `settings` and `codec_settings` are `key=value` texts, for
    the family and for the codec that is trained before it where it needs one; `words` say why, in a sentence."""

    name: str
    family: str
    words: str
    settings: tuple[str, ...] = ()
    codec_settings: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("drums", "flow", "a flow learns hits whole, noise and all, through a codec", codec_settings=SMALL_CODE),
        Preset(
            "notes",
            "flow",
            "a flow meets the pitch that is asked for, as pitch is a part of a codec's code",
            codec_settings=SMALL_CODE,
        ),
        Preset(
            "speech", "flow", "a flow learns how the pitch moves along with everything else", codec_settings=SMALL_CODE
        ),
        Preset("texture", "rnn", "a recurrent network goes on for as long as one likes"),
        Preset("tiny", "vae", "a vae needs no codec, and does with few sounds and little time"),
    )
}


@dataclass(frozen=True)
class Look:
    """What a bank is, by its training sounds: how many, their length in the middle, which share has a pitch, in which
    share of those whose pitch was followed it moves."""

    kind: str
    sounds: int
    seconds: float
    pitched: float
    moving: float

    @classmethod
    def at(cls, bank: SoundBank) -> "Look":
        clips = bank.clips("train")
        pitch = np.asarray(bank.column("pitch"), float)[clips]
        seconds = np.asarray(bank.column("seconds"), float)[clips]
        moved = [semitones for clip in spread_evenly(clips, LISTENED) if (semitones := _moved(bank, clip)) is not None]
        return cls(
            kind=bank.kind,
            sounds=len(clips),
            seconds=float(np.median(seconds)) if len(clips) else 0.0,
            pitched=float(np.isfinite(pitch).mean()) if len(clips) else 0.0,
            moving=float(np.mean([semitones > GLIDE_SEMITONES for semitones in moved])) if moved else 0.0,
        )

    def words(self) -> str:
        """For people, as in "205 one-shots to train on, half of them under 0.36 s, 41 % with a pitch"."""
        kind = {"one-shots": "one-shots", "notes": "notes", "long": "long sounds"}[self.kind]
        moving = f", which moves in {100 * self.moving:.0f} %" if self.moving and self.kind != "notes" else ""
        length = f"half of them under {self.seconds:.2g} s"
        return f"{self.sounds} {kind} to train on, {length}, {100 * self.pitched:.0f} % with a pitch{moving}"


def suited(bank: SoundBank, *, minutes: float | None = None) -> Preset:
    """The preset for a bank. `minutes`: those there are, where they are counted."""
    return PRESETS[_suited(Look.at(bank), minutes)]


def named(name: str) -> Preset:
    """A preset by its name; an unknown one is refused with `ConfigError`.

    >>> named("tiny").family
    'vae'
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset '{name}': {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def _suited(look: Look, minutes: float | None) -> str:
    if minutes is not None and minutes < SHORTEST_MINUTES:
        return "tiny"
    if look.kind == "long":  # few of them may last for hours
        return "texture"
    if look.sounds < FEW:
        return "tiny"
    if look.kind == "notes":
        return "notes"
    if look.pitched >= SPOKEN and look.moving >= SPOKEN:
        return "speech"
    return "notes" if look.pitched >= PITCHED and look.seconds >= SHORT_S else "drums"


def _moved(bank: SoundBank, clip: int) -> float | None:
    """By how many semitones the pitch of a clip moves; None where too little of it has one."""
    f0_hz, _ = bank.f0(clip)
    voiced = f0_hz[f0_hz > 0]
    if len(voiced) < VOICED_FRAMES:
        return None
    low, high = np.quantile(12 * np.log2(voiced), [0.1, 0.9])
    return float(high - low)
