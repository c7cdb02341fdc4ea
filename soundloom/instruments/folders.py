"""A folder of sounds as an instrument: notes where their names say so, drums on their keys, all else one key each."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soundloom import audio
from soundloom.audio import Waveform
from soundloom.errors import AudioError, InstrumentError
from soundloom.finding import find
from soundloom.instruments.drumnames import HATS, assign, drum_keys
from soundloom.instruments.samplestore import MOST_FRAMES
from soundloom.instruments.zones import Keymap, Sound, spread
from soundloom.naming import NamedPitches, NamedVelocities, find_pitches, find_velocities, stem

FIRST_KEY = 36  # C2: where sounds without a pitch start
MIDDLE = 60.0
SURE = 0.5  # confidence from which a measured pitch counts without a name
NEARLY_ALL = 0.8
HEARD_S = 2.0  # of each sound are listened to for its pitch
_TURN = re.compile(r"[\s_\-.]*(?:rr|take|var)[\s_-]?\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class _File:
    name: str
    waveform: Waveform


def load(folder: Path | str, *, pitches: Literal["named", "measured"] = "named") -> Keymap:
    """The sounds of a folder over the keyboard. `InstrumentError` where it has none that can be read.

    If the names of half of them say what drum they are, each gets its key of General MIDI, and one more of a kind a
    key like it or a spare one. If the names say notes, and what sounds bears it out (an octave off or not), each
    sounds at its note; velocities in the names become layers. `pitches="measured"` takes the measured pitch in place
    of the note, which puts a stretched or careless tuning right. Where names say nothing, and four in five have a
    clear pitch, those sound at it. All else goes up from C2, a sound a key. Files whose names differ in a last `rr1`
    or `take2` only take turns.
    """
    files, ignored = _read(Path(folder))
    named = [file.name for file in files]
    kinds = [bool(drum_keys(_kind(name))) for name in named]
    if sum(kinds) >= len(files) / 2 and pitches == "named":
        sounds = _kit(files, ignored)
    else:
        measured, sure = _measured(files)
        rule = find_pitches(named, measured)
        found = _pitches(rule, measured, sure, pitches)
        if np.isfinite(found).mean() >= 0.5:
            sounds = _notes(files, found, find_velocities(named, rule), ignored)
        else:
            keys = [FIRST_KEY + i if FIRST_KEY + i < 128 else None for i in range(len(files))]
            sounds = _placed(files, keys, [0] * len(files), ignored)
    made = spread(sounds, name=Path(folder).resolve().name)
    return Keymap(made.zones, made.name, tuple(ignored))


def single(path: Path) -> Keymap:
    """One recording over all keys, at the note that its name says or that is heard in it; else it is taken for a C4."""
    waveform = audio.read(path)
    if not waveform.samples.any():
        raise InstrumentError(f"there is nothing in '{path.name}': it is silent")
    one = [_File(path.name, Waveform(waveform.samples[:2], waveform.sample_rate))]
    measured, sure = _measured(one)
    pitch = float(_pitches(find_pitches([path.name], measured), measured, sure, "named")[0])
    return spread([Sound(one[0].waveform, pitch if math.isfinite(pitch) else MIDDLE)], name=path.stem)


def _read(folder: Path) -> tuple[list[_File], list[str]]:
    """The readable sounds of a folder by name, and why the others are not."""
    if not folder.is_dir():
        raise InstrumentError(f"there is no folder '{folder}' of sounds")
    files: list[_File] = []
    ignored: list[str] = []
    frames = 0
    for found in find(folder, skip=folder / ".soundloom"):
        try:
            if found.reason:
                raise AudioError(found.reason)
            frames += min(audio.info(found.path).frames, MOST_FRAMES)
            if frames > MOST_FRAMES:
                raise InstrumentError(
                    f"'{folder}' holds more than {MOST_FRAMES} frames of sound: give fewer or shorter"
                )
            waveform = audio.read(found.path)
            if not waveform.samples.any():
                raise AudioError("there is nothing in it")
            samples = waveform.samples[:2] if waveform.channels > 2 else waveform.samples
            files.append(_File(found.name, Waveform(samples, waveform.sample_rate)))
        except AudioError as error:
            ignored.append(f"{found.name}: {error}")
    if not files:
        why = f"; {ignored[0]}" if ignored else ""
        raise InstrumentError(f"'{folder}' has no sound that can be read{why}")
    return files, ignored


def _kind(name: str) -> str:
    """What says which drum a file is: its own name, or else its folder's."""
    parts = Path(name).parts
    return next((part for part in (stem(name), *parts[-2:-1]) if drum_keys(part)), stem(name))


def _kit(files: Sequence[_File], ignored: list[str]) -> list[Sound]:
    kinds = [_TURN.sub("", _kind(file.name)) for file in files]
    places = [str(Path(file.name).with_name(_TURN.sub("", stem(file.name)))) for file in files]
    first = {place: i for i, place in reversed(list(enumerate(places)))}  # those that only take turns count once
    keys = dict(zip(first, assign([kinds[i] for i in first.values()]), strict=True))
    hats = [HATS if set(drum_keys(kind)) & {42, 44, 46} else 0 for kind in kinds]
    return _placed(files, [keys[place] for place in places], hats, ignored)


def _placed(
    files: Sequence[_File], keys: Sequence[int | None], groups: Sequence[int], ignored: list[str]
) -> list[Sound]:
    ignored += [f"{file.name}: no key is left for it" for file, key in zip(files, keys, strict=True) if key is None]
    return [
        Sound(file.waveform, key=key, group=group)
        for file, key, group in zip(files, keys, groups, strict=True)
        if key is not None
    ]


def _measured(files: Sequence[_File]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pitch [n] of each sound (MIDI, NaN: none) and how sure that is, 0 to 1."""
    import torch

    from soundloom.features import describe

    pitch, sure = np.full(len(files), np.nan), np.zeros(len(files))
    for i, file in enumerate(files):
        rate = file.waveform.sample_rate
        heard = torch.from_numpy(file.waveform.mono().samples[:, : round(HEARD_S * rate)])
        with torch.no_grad():
            said = describe(heard, torch.tensor([heard.shape[1]]), sample_rate=rate)
        pitch[i], sure[i] = float(said.pitch), float(said.pitch_confidence)
    return pitch, sure


def _pitches(
    rule: NamedPitches | None, measured: NDArray[np.float64], sure: NDArray[np.float64], source: str
) -> NDArray[np.float64]:
    """The note of each sound [n], NaN where it has none."""
    heard = np.where(sure >= SURE, measured, np.nan)
    if source == "measured":
        return heard
    if rule is None:  # names say nothing: where nearly all have a pitch that is sure, they are notes
        return heard if np.isfinite(heard).mean() >= NEARLY_ALL else np.full(len(measured), np.nan)
    return np.where(np.isfinite(rule.pitch), rule.pitch + rule.offset, heard)


def _notes(
    files: Sequence[_File], pitch: NDArray[np.float64], touch: NamedVelocities | None, ignored: list[str]
) -> list[Sound]:
    sounds = []
    for i, file in enumerate(files):
        if np.isfinite(pitch[i]):
            velocity = float(touch.velocity[i]) if touch and np.isfinite(touch.velocity[i]) else None
            sounds.append(Sound(file.waveform, float(pitch[i]), velocity))
        else:
            ignored.append(f"{file.name}: no note is known of it")
    return sounds
