"""Standard MIDI files, read into a `Score` and written from one."""

import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import mido

from soundloom import riff
from soundloom.errors import InstrumentError, ScoreError
from soundloom.paths import replacing
from soundloom.score import Control, Note, Score

MICROSECONDS = 1e-6
BEND_SEMITONES = 2.0  # of a full bend, until the file says otherwise
SHORTEST_S = 0.01  # of a note: some programs write the strokes of drums with no length
LARGEST = 1 << 28  # bytes: an hour of the densest music has a few millions
_TICKS_PER_BEAT = 9600  # at 120 beats a minute a tick is 52 us: finer than what is heard
_DATA, _DATA_FINE, _NUMBER_FINE, _NUMBER = 6, 38, 100, 101  # the controllers by which a file sets the bend's range
_OTHER = (98, 99)  # and those that open a parameter of a maker's own, to which data belongs from then on


def read(path: Path | str) -> Score:
    """The notes of a MIDI file in seconds, by its tempo map, with programs, bends, pressure and controllers.

    Also in a RIFF wrapping (.rmi). `channel` is 0 to 15 (drums are 9). Notes last as long as their keys are down, but a
    hundredth of a second at least: the pedal is a control (number 64). A note that is struck again ends first the one
    that was struck first; a note that is never released ends with the file. A tempo of 0 is passed over. What is no
    MIDI file, or a damaged one, is refused with `ScoreError`.
    """
    try:
        content = _bytes(Path(path))
    except OSError as error:
        raise ScoreError(f"cannot read {path}: {error.strerror or error}; give a standard MIDI file (.mid)") from None
    try:
        file = mido.MidiFile(file=io.BytesIO(content), clip=True)
    except Exception as error:  # mido lets whatever its parser trips over escape: EOFError, IndexError, its own
        raise ScoreError(f"{path} is damaged, or no MIDI file ({str(error) or type(error).__name__})") from None
    if file.type == 2:
        raise ScoreError(f"{path} is a MIDI file of type 2 (separate patterns): save it as type 0 or 1")
    if file.ticks_per_beat == 0:
        raise ScoreError(f"{path} has 0 ticks a beat: the file is damaged")
    reader = _Reader()
    for reader.now, message in _timed(file):
        reader.take(message)
    return reader.score()


def write(path: Path | str, score: Score) -> None:
    """The score as a MIDI file of type 0 at 120 beats a minute. Pitches are rounded to semitones, times to 52 us."""
    per_second = 2 * _TICKS_PER_BEAT
    events: list[tuple[int, int, mido.Message]] = []
    program: dict[int, int] = {}
    for note in sorted(score.notes, key=lambda note: note.start_s):
        if not 0 <= note.channel <= 15:
            raise ScoreError(f"the note at {note.start_s:g} s is on channel {note.channel}: MIDI has 0 to 15")
        pitch, velocity = min(max(round(note.pitch), 0), 127), min(max(round(note.velocity * 127), 1), 127)
        start = round(note.start_s * per_second)
        end = max(round((note.start_s + note.seconds) * per_second), start + 1)
        if note.program != program.get(note.channel, 0):
            program[note.channel] = note.program
            events.append((start, 1, mido.Message("program_change", program=note.program, channel=note.channel)))
        events.append((start, 2, mido.Message("note_on", note=pitch, velocity=velocity, channel=note.channel)))
        events.append((end, 0, mido.Message("note_off", note=pitch, velocity=0, channel=note.channel)))
    events += [(round(control.at_s * per_second), 1, _message(control)) for control in score.controls]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    last = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):  # at one tick, ends come before starts
        track.append(message.copy(time=tick - last))
        last = tick
    file = mido.MidiFile(type=0, ticks_per_beat=_TICKS_PER_BEAT)
    file.tracks.append(track)
    with replacing(path) as temporary:
        file.save(str(temporary))


def _message(control: Control) -> mido.Message:
    if control.kind == "bend":
        pitch = min(max(round(control.value / BEND_SEMITONES * 8192), -8192), 8191)
        return mido.Message("pitchwheel", pitch=pitch, channel=control.channel)
    value = min(max(round(control.value * 127), 0), 127)
    if control.kind == "pressure":
        return mido.Message("aftertouch", value=value, channel=control.channel)
    return mido.Message("control_change", control=control.number, value=value, channel=control.channel)


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ScoreError(f"{path} has more than {LARGEST >> 20} MiB: that is no music in MIDI")
    if content[:4] != b"RIFF" or content[8:12] != b"RMID":
        return content
    try:
        for chunk in riff.chunks(content, 12, len(content), what=str(path)):
            if chunk.name == "data":
                return content[chunk.start : chunk.end]
    except InstrumentError as error:
        raise ScoreError(str(error)) from None
    raise ScoreError(f"{path} is a RIFF file without MIDI in it: there is no chunk 'data'")


def _timed(file: mido.MidiFile) -> Iterator[tuple[float, mido.Message]]:
    """All messages of all tracks in the order of time, with their time in seconds."""
    seconds_per_tick = 0.5 / file.ticks_per_beat  # 120 beats a minute until the file says otherwise
    smpte = file.ticks_per_beat < 0
    if smpte:  # the high byte is minus the frames a second, the low byte the ticks a frame: no tempo
        seconds_per_tick = 1.0 / (-(file.ticks_per_beat >> 8) * max(file.ticks_per_beat & 0xFF, 1))
    now = 0.0
    for message in mido.merge_tracks(file.tracks):
        now += message.time * seconds_per_tick
        if message.type == "set_tempo" and not smpte and message.tempo:
            seconds_per_tick = message.tempo * MICROSECONDS / file.ticks_per_beat
        yield now, message


class BendRange:
    """How many semitones a full bend is on each channel: what registered parameter 0 was last set to."""

    def __init__(self) -> None:
        self._numbers: dict[int, list[int]] = defaultdict(lambda: [127, 127])  # the registered parameter that is open
        self._semitones: dict[int, float] = defaultdict(lambda: BEND_SEMITONES)

    def semitones(self, channel: int) -> float:
        return self._semitones[channel]

    def hears(self, channel: int, number: int, value: int) -> bool:
        """Whether a controller (its value 0 to 127) was one of those that set parameters, registered or not."""
        numbers = self._numbers[channel]
        if number in (_NUMBER, _NUMBER_FINE):
            numbers[number == _NUMBER_FINE] = value
        elif number in _OTHER:
            numbers[:] = [127, 127]
        elif number in (_DATA, _DATA_FINE):
            if numbers == [0, 0]:  # the bend's range: semitones, and cents
                whole, cents = divmod(self._semitones[channel], 1)
                self._semitones[channel] = value + cents if number == _DATA else whole + value / 100
        else:
            return False
        return True


class _Reader:
    """What is down on each channel, and what was played."""

    def __init__(self) -> None:
        self.now = 0.0
        self.notes: list[Note] = []
        self.controls: list[Control] = []
        self.down: dict[tuple[int, int], list[tuple[float, float, int]]] = defaultdict(list)  # start, velocity, program
        self.program: dict[int, int] = defaultdict(int)
        self.range = BendRange()

    def take(self, message: mido.Message) -> None:
        kind, channel = message.type, getattr(message, "channel", 0)
        if kind == "note_on" and message.velocity > 0:
            self.down[channel, message.note].append((self.now, message.velocity / 127, self.program[channel]))
        elif kind in ("note_on", "note_off"):
            if held := self.down[channel, message.note]:
                self._end(held.pop(0), message.note, channel)
        elif kind == "program_change":
            self.program[channel] = message.program
        elif kind == "pitchwheel":
            self._control("bend", message.pitch / 8192 * self.range.semitones(channel), channel)
        elif kind in ("aftertouch", "polytouch"):
            self._control("pressure", message.value / 127, channel)
        elif kind == "control_change" and not self.range.hears(channel, message.control, message.value):
            self._control("cc", message.value / 127, channel, message.control)

    def score(self) -> Score:
        """What was played; keys that are still down come up now."""
        for (channel, key), held in self.down.items():
            for one in held:
                if self.now > one[0]:
                    self._end(one, key, channel)
        self.notes.sort(key=lambda note: (note.start_s, note.channel, note.pitch))
        return Score(tuple(self.notes), tuple(self.controls))

    def _end(self, held: tuple[float, float, int], key: int, channel: int) -> None:
        start_s, velocity, program = held
        self.notes.append(Note(start_s, max(self.now - start_s, SHORTEST_S), float(key), velocity, channel, program))

    def _control(self, kind: str, value: float, channel: int, number: int = 0) -> None:
        self.controls.append(Control(self.now, kind, value, number, channel))  # type: ignore[arg-type]
