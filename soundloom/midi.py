"""Standard MIDI files, read into a `Score` and written from one."""

from collections import defaultdict
from pathlib import Path

import mido

from soundloom.errors import ScoreError
from soundloom.paths import replacing
from soundloom.score import Note, Score

MICROSECONDS = 1e-6
_TICKS_PER_BEAT = 9600  # at 120 beats a minute a tick is 52 us: finer than what is heard
_SUSTAIN = 64


def read(path: Path | str) -> Score:
    """The notes of a MIDI file in seconds, with its tempo map and sustain pedal; `channel` is 0 to 15 (drums are 9).

    A note that is struck again ends first the one that was struck first; a note that is never released ends with the
    file; one held by the pedal ends when the pedal comes up. Bends and programs are not read: a `Note` has one pitch.
    What is no MIDI file, or a damaged one, is refused with `ScoreError`.
    """
    try:
        file = mido.MidiFile(str(path), clip=True)
    except OSError as error:
        raise ScoreError(f"cannot read {path}: {error.strerror or error}; give a standard MIDI file (.mid)") from None
    except Exception as error:  # mido lets whatever its parser trips over escape: EOFError, IndexError, its own
        raise ScoreError(f"{path} is damaged, or no MIDI file ({error or type(error).__name__})") from None
    if file.type == 2:
        raise ScoreError(f"{path} is a MIDI file of type 2 (separate patterns): save it as type 0 or 1")
    if file.ticks_per_beat == 0:
        raise ScoreError(f"{path} has 0 ticks a beat: the file is damaged")
    return Score(tuple(sorted(_notes(file), key=lambda note: (note.start_s, note.channel, note.pitch))))


def write(path: Path | str, score: Score) -> None:
    """The score as a MIDI file of type 0 at 120 beats a minute. Pitches are rounded to semitones, times to 52 us."""
    per_second = 2 * _TICKS_PER_BEAT
    events = []
    for note in score.notes:
        if not 0 <= note.channel <= 15:
            raise ScoreError(f"the note at {note.start_s:g} s is on channel {note.channel}: MIDI has 0 to 15")
        pitch, velocity = min(max(round(note.pitch), 0), 127), min(max(round(note.velocity * 127), 1), 127)
        start = round(note.start_s * per_second)
        end = max(round((note.start_s + note.seconds) * per_second), start + 1)
        events.append((start, 1, mido.Message("note_on", note=pitch, velocity=velocity, channel=note.channel)))
        events.append((end, 0, mido.Message("note_off", note=pitch, velocity=0, channel=note.channel)))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    last = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):  # at one tick, ends come before starts
        track.append(message.copy(time=tick - last))
        last = tick
    file = mido.MidiFile(type=0, ticks_per_beat=_TICKS_PER_BEAT)
    file.tracks.append(track)
    with replacing(path) as temporary:
        file.save(str(temporary))


def _notes(file: mido.MidiFile) -> list[Note]:
    seconds_per_tick = 0.5 / file.ticks_per_beat  # 120 beats a minute until the file says otherwise
    smpte = file.ticks_per_beat < 0
    if smpte:  # the high byte is minus the frames a second, the low byte the ticks a frame: no tempo
        seconds_per_tick = 1.0 / (-(file.ticks_per_beat >> 8) * max(file.ticks_per_beat & 0xFF, 1))
    notes: list[Note] = []
    down: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)  # (channel, key) -> start, velocity
    sustained: dict[int, list[tuple[float, float, int]]] = defaultdict(list)  # channel -> start, velocity, key
    pedal: set[int] = set()
    now = 0.0

    def end(start_s: float, velocity: float, key: int, channel: int) -> None:
        if now > start_s:
            notes.append(Note(start_s, now - start_s, float(key), velocity, channel))

    for message in mido.merge_tracks(file.tracks):
        now += message.time * seconds_per_tick
        if message.type == "set_tempo" and not smpte:
            seconds_per_tick = message.tempo * MICROSECONDS / file.ticks_per_beat
        elif message.type == "note_on" and message.velocity > 0:
            down[message.channel, message.note].append((now, message.velocity / 127))
        elif message.type in ("note_on", "note_off"):
            held = down[message.channel, message.note]
            if held:
                start_s, velocity = held.pop(0)
                if message.channel in pedal:
                    sustained[message.channel].append((start_s, velocity, message.note))
                else:
                    end(start_s, velocity, message.note, message.channel)
        elif message.type == "control_change" and message.control == _SUSTAIN:
            if message.value >= 64:
                pedal.add(message.channel)
            else:
                pedal.discard(message.channel)
                for start_s, velocity, key in sustained.pop(message.channel, []):
                    end(start_s, velocity, key, message.channel)
    for (channel, key), held in down.items():
        for start_s, velocity in held:
            end(start_s, velocity, key, channel)
    for channel, rest in sustained.items():
        for start_s, velocity, key in rest:
            end(start_s, velocity, key, channel)
    return notes
