"""SFZ instruments: a text that says which recording sounds on which key, and how (sfzformat.com, SFZ 1 and of ARIA)."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soundloom import audio
from soundloom.audio import Waveform
from soundloom.errors import AudioError, InstrumentError
from soundloom.instruments.samplestore import MOST_FRAMES
from soundloom.instruments.sfztext import Opcodes, Parsed, inside, parse
from soundloom.instruments.zones import OPEN_HZ, Envelope, Keymap, Loop, Motion, Zone
from soundloom.riff import wav_loop

# Players of SFZ let an envelope fall by e^9 (78 dB) in the time that is written; ours are for 60 dB.
FALL = 60 / (20 * 9 * math.log10(math.e))
LONGEST_S = 100.0
SMPL_BYTES = 1 << 26  # a WAV file up to here is searched for its loop

_PLAYED = re.compile(
    r"sample|(lo|hi)?key|pitch_key(center|track)|(lo|hi)vel|amp_veltrack|tune|transpose|volume|amplitude|pan|offset|end"
    r"|delay|loop_(mode|start|end|crossfade)|(amp|fil|pitch)eg_(delay|attack|hold|decay|sustain|release)|(fil|pitch)eg_depth"
    r"|(amp|fil|pitch)lfo_(delay|freq|depth)|cutoff|resonance|fil_type"
    r"|seq_(length|position)|(lo|hi)rand|group|off_by|trigger|(lo|hi)(hd)?cc\d{1,4}|sw_(last|default)|\w+_label"
)
_MOVERS = ("fileg", "pitcheg", "amplfo", "fillfo", "pitchlfo")
_CONTROLLER = re.compile(r"(lo|hi)(?:hd)?cc(\d{1,4})$")
_STARTED = re.compile(r"on_(?:lo|hi)(?:hd)?cc\d+$|start_(?:lo|hi)(?:hd)?cc\d+$")
_CONTROLLERS_AT = {7: 100.0, 10: 64.0, 11: 127.0}  # where controllers are until they move; all others at 0
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_NOTE = re.compile(r"([a-g])([#b]?)(-?\d{1,4})$")


def load(path: Path | str, *, root: Path | str | None = None) -> Keymap:
    """The instrument of an SFZ file. `InstrumentError` where it or a recording of it cannot be read.

    All files that it names must lie in `root`, the folder of the .sfz where left out. What is not played is said in
    `ignored`: regions that start at the end of a note or by a controller, and opcodes that mean nothing here. Regions
    that are only there for another position of a controller or another key switch than at the start are left out.
    """
    path = Path(path)
    home = path.parent if root is None else Path(root)
    parsed = parse(path, home)
    reader = _Regions(path, home, parsed)
    zones = [zone for region in parsed.regions for zone in reader.zones(region)]
    unknown = {name for name in parsed.opcodes if not _PLAYED.fullmatch(name)}
    ignored = [
        *(f"the header <{name}>" for name in sorted(parsed.headers)),
        *sorted(reader.notes),
        *(f"the opcode {name}" for name in sorted(unknown)),
    ]
    if not zones:
        why = f" ({ignored[0]})" if ignored else ""
        raise InstrumentError(f"'{path.name}' has no region that can be played{why}")
    return Keymap(tuple(zones), path.stem, tuple(ignored))


@dataclass(frozen=True)
class _Recording:
    waveform: Waveform
    loop: tuple[int, int] | None  # that the file itself has


class _Regions:
    """Makes zones of regions, reading each recording once."""

    def __init__(self, path: Path, root: Path, parsed: Parsed) -> None:
        self.path, self.root, self.control = path, root, parsed.control
        self.notes: set[str] = set()
        self.recordings: dict[str, _Recording] = {}
        self.frames = 0
        self.at = dict(_CONTROLLERS_AT)
        for name, value in parsed.control.items():
            if match := re.match(r"set_cc(\d{1,4})$", name):
                self.at[int(match[1])] = _number(value) or 0.0
        self.shift = int(self._of(parsed.control, "note_offset", -127, 127, 0))
        self.shift += 12 * int(self._of(parsed.control, "octave_offset", -10, 10, 0))

    def zones(self, region: Opcodes) -> Iterable[Zone]:
        """The zone of a region, if it is one that sounds."""
        name = region.get("sample", "")
        if not name or not self._sounds(region):
            return
        if name.startswith("*"):
            self.notes.add(f"the built-in sound {name}")
            return
        recording = self._recording(name)
        frames = recording.waveform.samples.shape[1]
        start = int(self._of(region, "offset", 0, 2**40, 0))
        end = int(self._of(region, "end", -1, 2**40, frames - 1)) + 1
        if end <= 0:
            return  # how SFZ switches a region off
        if start >= min(end, frames):
            self.notes.add(f"a region of {name} that starts after its end")
            return
        keys = self._keys(region)
        if keys is None:
            return
        filtered = region.get("fil_type", "lpf_2p").startswith("lpf")
        if not filtered:
            self.notes.add(f"the filter {region['fil_type']}")
        turns = int(self._of(region, "seq_length", 1, 1000, 1))
        loop, one_shot = self._loop(region, recording, start, min(end, frames))
        low_key, high_key, centre = keys
        amplitude = self._of(region, "amplitude", 0, 10_000, 100) / 100
        yield Zone(
            recording.waveform,
            pitch=float(centre),
            tune=self._of(region, "transpose", -127, 127, 0) + self._of(region, "tune", -9600, 9600, 0) / 100,
            low_key=low_key,
            high_key=high_key,
            low_velocity=int(self._of(region, "lovel", 0, 127, 0)),
            high_velocity=int(self._of(region, "hivel", 0, 127, 127)),
            start=start,
            end=min(end, frames),
            loop=loop,
            one_shot=one_shot,
            envelope=self._envelope(region, "ampeg"),
            motion=self._motion(region),
            gain_db=self._of(region, "volume", -144, 48, 0) + 20 * math.log10(max(amplitude, 1e-7)),
            pan=self._of(region, "pan", -100, 100, 0) / 100,
            cutoff_hz=self._of(region, "cutoff", 1, 1e6, OPEN_HZ) if filtered else OPEN_HZ,
            resonance_db=self._of(region, "resonance", 0, 40, 0),
            key_tracking=self._of(region, "pitch_keytrack", -1200, 1200, 100) / 100,
            velocity_tracking=self._of(region, "amp_veltrack", -100, 100, 100) / 100,
            group=int(self._of(region, "group", 0, 2**31, 0)),
            silenced_by=int(self._of(region, "off_by", 0, 2**31, 0)),
            turn=int(self._of(region, "seq_position", 1, 1000, 1)) - 1,
            turns=turns,
            chance=(self._of(region, "lorand", 0, 1, 0), self._of(region, "hirand", 0, 1, 1)),
        )

    def _sounds(self, region: Mapping[str, str]) -> bool:
        """Whether a region starts with its key, as the controllers and key switches are at the start."""
        trigger = region.get("trigger", "attack")
        if trigger not in ("attack", "first"):
            self.notes.add(f"regions with trigger={trigger}")
            return False
        for name, value in region.items():
            if _STARTED.match(name):
                self.notes.add("regions that a controller starts")
                return False
            if match := _CONTROLLER.match(name):
                at, bound = self.at.get(int(match[2]), 0.0), _number(value)
                at = at / 127 if "hd" in name else at
                if bound is not None and (at < bound if match[1] == "lo" else at > bound):
                    self.notes.add("regions for other positions of controllers")
                    return False
        if "sw_last" in region and region["sw_last"] != region.get("sw_default", ""):
            self.notes.add("regions for other key switches")
            return False
        return True

    def _keys(self, region: Mapping[str, str]) -> tuple[int, int, float] | None:
        key = region.get("key", "")
        low = self._key(region.get("lokey", key), 0)
        high = self._key(region.get("hikey", key), 127)
        centre = self._key(region.get("pitch_keycenter", key), 60)
        low, high = max(low + self.shift, 0), min(high + self.shift, 127)
        return (low, high, float(centre + self.shift)) if low <= high else None

    def _key(self, text: str, default: int) -> int:
        """A key as a number or as a note name, where c4 is 60."""
        if not text:
            return default
        if match := _NOTE.match(text.strip().lower()):
            shift = {"#": 1, "b": -1, "": 0}[match[2]]
            return min(max(12 * (int(match[3]) + 1) + _STEPS[match[1]] + shift, -1), 128)
        number = _number(text)
        if number is None:
            self.notes.add(f"the key '{text}', which is no note")
            return default
        return int(min(max(number, -1), 128))

    def _loop(self, region: Mapping[str, str], recording: _Recording, start: int, end: int) -> tuple[Loop | None, bool]:
        mode = region.get("loop_mode", "loop_continuous" if recording.loop else "no_loop")
        if mode not in ("loop_continuous", "loop_sustain"):
            return None, mode == "one_shot"
        first, last = recording.loop or (start, end)
        first = max(int(self._of(region, "loop_start", 0, 2**40, first)), start)
        last = min(int(self._of(region, "loop_end", 0, 2**40, last - 1)) + 1, end)
        if first >= last:
            self.notes.add("loops that end before they start")
            return None, False
        fade = self._of(region, "loop_crossfade", 0, LONGEST_S, 0) * recording.waveform.sample_rate
        return Loop(first, last, mode == "loop_sustain", int(fade)), False

    def _envelope(self, region: Mapping[str, str], name: str) -> Envelope:
        """The envelope of the level, or of the filter or the pitch, whose falls are straight lines."""

        def seconds(part: str, factor: float = 1.0) -> float | None:
            return factor * self._of(region, part, 0, LONGEST_S, 0) if part in region else None

        level = name == "ampeg"
        fall = FALL if level else 1.0
        rests = self._of(region, f"{name}_sustain", 0, 100, 100) / 100 if f"{name}_sustain" in region else None
        return Envelope(
            delay_s=(seconds(f"{name}_delay") or 0.0) + ((seconds("delay") or 0.0) if level else 0.0),
            attack_s=seconds(f"{name}_attack"),
            hold_s=seconds(f"{name}_hold") or 0.0,
            decay_s=seconds(f"{name}_decay", fall),
            sustain=rests,
            release_s=seconds(f"{name}_release", fall),
        )

    def _motion(self, region: Mapping[str, str]) -> Motion | None:
        """The envelopes and LFOs of filter, pitch and level: one envelope, one LFO besides that of the pitch."""
        depths = {name: self._of(region, f"{name}_depth", -12000, 12000, 0) for name in _MOVERS}
        if not any(depths.values()):
            return None
        for kept, left in (("fileg", "pitcheg"), ("amplfo", "fillfo")):
            if depths[kept] and depths[left]:
                self.notes.add(f"{left} beside {kept}")
                depths[left] = 0.0
        lfo = "amplfo" if depths["amplfo"] else "fillfo"
        return Motion(
            self._envelope(region, "pitcheg" if depths["pitcheg"] else "fileg"),
            envelope_semitones=depths["pitcheg"] / 100,
            envelope_octaves=depths["fileg"] / 1200,
            lfo_hz=self._of(region, f"{lfo}_freq", 0, 100, 0),
            lfo_delay_s=self._of(region, f"{lfo}_delay", 0, LONGEST_S, 0),
            lfo_octaves=depths["fillfo"] / 1200,
            lfo_db=min(max(depths["amplfo"], -24.0), 24.0),
            vibrato_hz=self._of(region, "pitchlfo_freq", 0, 100, 0),
            vibrato_delay_s=self._of(region, "pitchlfo_delay", 0, LONGEST_S, 0),
            vibrato_semitones=depths["pitchlfo"] / 100,
        )

    def _recording(self, name: str) -> _Recording:
        name = self.control.get("default_path", "") + name
        if name not in self.recordings:
            path = inside(self.root, name, where=f"'{self.path.name}'")
            if str(path) in self.recordings:  # under another name, as with letters of another case
                self.recordings[name] = self.recordings[str(path)]
                return self.recordings[name]
            try:
                self.frames += min(audio.info(path).frames, MOST_FRAMES + 1)
                if self.frames > MOST_FRAMES:
                    raise InstrumentError(f"'{self.path.name}' has more than {MOST_FRAMES} frames of recordings")
                waveform = audio.read(path)
            except AudioError as error:
                raise InstrumentError(f"'{self.path.name}' needs '{name}': {error}") from None
            if not waveform.samples.shape[1] or not np.isfinite(waveform.samples).all():
                raise InstrumentError(f"'{self.path.name}' needs '{name}', which has no sound in it")
            samples = waveform.samples[:2]
            loop = wav_loop(path.read_bytes()) if path.stat().st_size <= SMPL_BYTES else None
            made = _Recording(Waveform(samples, waveform.sample_rate), loop)
            self.recordings[name] = self.recordings[str(path)] = made
        return self.recordings[name]

    def _of(self, region: Mapping[str, str], name: str, low: float, high: float, default: float) -> float:
        """The number of an opcode, within its range; what is no number is noted."""
        if name not in region:
            return default
        number = _number(region[name])
        if number is None:
            self.notes.add(f"{name}={region[name][:40]}, which is no number")
            return default
        return min(max(number, low), high)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
