"""MIDI files give the notes, to the tick, that are in them; damaged ones are refused and never crash."""

import struct

import mido
import numpy as np
import pytest

from soundloom.errors import ScoreError, StorageError
from soundloom.midi import read, write
from soundloom.score import Note, Score, parse


def saved(path, tracks, *, kind=1, ticks_per_beat=480):
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    file.tracks += [mido.MidiTrack(track) for track in tracks]
    file.save(str(path))
    return path


def on(note, time=0, velocity=64, channel=0):
    return mido.Message("note_on", note=note, velocity=velocity, time=time, channel=channel)


def off(note, time=0, channel=0):
    return mido.Message("note_off", note=note, time=time, channel=channel)


def tempo(bpm, time=0):
    return mido.MetaMessage("set_tempo", tempo=round(60e6 / bpm), time=time)


def raw(path, track, *, kind=0, division=480, tracks=1):
    """A file byte by byte: what no library would write."""
    head = struct.pack(">4sLhhH", b"MThd", 6, kind, tracks, division)
    path.write_bytes(head + struct.pack(">4sL", b"MTrk", len(track)) + track)
    return path


def test_a_written_score_reads_back(tmp_path):
    score = parse("C4 [E4 G4]:0.5@0.25 - 72:3@1.0", bpm=133)
    write(tmp_path / "a.mid", score)
    back = read(tmp_path / "a.mid")
    assert [note.pitch for note in back.notes] == [note.pitch for note in score.notes]
    for a, b in zip(score.notes, back.notes, strict=True):
        assert (b.start_s, b.seconds) == pytest.approx((a.start_s, a.seconds), abs=2e-4)
        assert b.velocity == pytest.approx(a.velocity, abs=0.5 / 127)


def test_repeated_notes_and_channels_survive(tmp_path):
    notes = [Note(0.25 * i, 0.25, 60, 0.5, channel=i % 3) for i in range(9)] + [Note(2.5, 1e-7, 60, 0.5)]
    write(tmp_path / "a.mid", Score(tuple(notes)))
    back = read(tmp_path / "a.mid").notes
    assert [(note.pitch, note.channel) for note in back] == [(note.pitch, note.channel) for note in notes]
    assert back[-1].seconds > 0


def test_a_stroke_without_length_is_heard(tmp_path):
    track = [on(36), off(36), on(38, 480), off(38), on(36, 480), off(36, 1), on(40)]
    notes = read(saved(tmp_path / "a.mid", [track])).notes
    assert [(note.start_s, note.pitch, note.seconds) for note in notes] == [
        (0, 36, 0.01), (0.5, 38, 0.01), (1.0, 36, 0.01),  # that which begins with the end of the file is none
    ]  # fmt: skip


def test_a_tempo_map_in_its_own_track(tmp_path):
    """Two beats at 120, one at 60 from the middle of the second note on, one at 240."""
    path = saved(
        tmp_path / "a.mid",
        [
            [tempo(120), tempo(60, 960), tempo(240, 480)],
            [on(60), off(60, 480), on(62), off(62, 960), on(64), off(64, 480)],
        ],
    )
    notes = read(path).notes
    assert [note.start_s for note in notes] == pytest.approx([0, 0.5, 2.0])
    assert [note.seconds for note in notes] == pytest.approx([0.5, 1.5, 0.25])


def test_times_agree_with_mido(tmp_path):
    """The oracle: mido's own player, on a file of random tempos and notes in three tracks."""
    rng = np.random.default_rng(0)
    tracks = [[tempo(float(rng.uniform(30, 300)), int(rng.integers(0, 900))) for _ in range(20)]]
    for channel in range(2):
        track = []
        for _ in range(60):
            key = int(rng.integers(30, 90))
            track += [on(key, int(rng.integers(0, 300)), channel=channel), off(key, int(rng.integers(1, 300)), channel)]
        tracks.append(track)
    path = saved(tmp_path / "a.mid", tracks, ticks_per_beat=96)
    now, starts = 0.0, []
    for message in mido.MidiFile(str(path)):
        now += message.time
        starts += [now] if message.type == "note_on" else []
    assert sorted(note.start_s for note in read(path).notes) == pytest.approx(sorted(starts), abs=1e-4)


def test_running_status_and_velocity_zero(tmp_path):
    """One status byte for four messages; a note-on with velocity 0 is a note-off."""
    track = bytes([0, 0x90, 60, 100, 0x83, 0x60, 60, 0, 0, 64, 50, 0x83, 0x60, 64, 0, 0, 0xFF, 0x2F, 0])
    notes = read(raw(tmp_path / "a.mid", track)).notes
    assert [(note.pitch, note.start_s, note.seconds) for note in notes] == [(60, 0, 0.5), (64, 0.5, 0.5)]
    assert [note.velocity for note in notes] == pytest.approx([100 / 127, 50 / 127])


def test_smpte_time(tmp_path):
    """25 frames a second, 40 ticks a frame: a tick is a millisecond."""
    track = bytes([0, 0x90, 60, 100, 0x83, 0x74, 0x80, 60, 0, 0, 0xFF, 0x2F, 0])
    notes = read(raw(tmp_path / "a.mid", track, division=((256 - 25) << 8) | 40)).notes
    assert [(note.start_s, note.seconds) for note in notes] == [(0, pytest.approx(0.5))]


def control(number, value, time=0, channel=0):
    return mido.Message("control_change", control=number, value=value, time=time, channel=channel)


def test_the_pedal_is_a_control_and_notes_end_with_their_keys(tmp_path):
    path = saved(tmp_path / "a.mid", [[on(60), control(64, 127), off(60, 240), control(64, 0, 240)]])
    score = read(path)
    assert [(note.pitch, note.start_s, note.seconds) for note in score.notes] == [(60, 0, 0.25)]
    assert [(c.kind, c.number, c.value, c.at_s) for c in score.controls] == [("cc", 64, 1, 0), ("cc", 64, 0, 0.5)]


def test_programs_bends_and_pressure(tmp_path):
    """A full bend is two semitones until the file sets another range; drums and others keep to their channels."""
    track = [
        mido.Message("program_change", program=33, channel=2), on(40, channel=2), off(40, 480, channel=2),
        mido.Message("pitchwheel", pitch=-8192, channel=2), control(101, 0, channel=2), control(100, 0, channel=2),
        control(6, 12, channel=2), mido.Message("pitchwheel", pitch=4096, channel=2),
        mido.Message("aftertouch", value=127, channel=2), on(36, channel=9), off(36, 10, channel=9),
        mido.Message("program_change", program=5, channel=2), on(41, channel=2), off(41, 480, channel=2),
    ]  # fmt: skip
    score = read(saved(tmp_path / "a.mid", [track]))
    assert [(note.pitch, note.channel, note.program) for note in score.notes] == [(40, 2, 33), (36, 9, 0), (41, 2, 5)]
    assert [(c.kind, c.value, c.channel) for c in score.controls] == [
        ("bend", -2.0, 2),
        ("bend", 6.0, 2),
        ("pressure", 1.0, 2),
    ]
    write(tmp_path / "b.mid", Score(score.notes, score.controls[:1] + score.controls[2:]))
    back = read(tmp_path / "b.mid")
    assert [(note.pitch, note.channel, note.program) for note in back.notes] == [(40, 2, 33), (36, 9, 0), (41, 2, 5)]
    assert [(c.kind, c.value) for c in back.controls] == [("bend", -2.0), ("pressure", 1.0)]


def test_a_makers_own_parameter_leaves_the_bend_as_it_is(tmp_path):
    """The bend's range is set, then a vibrato of some maker's: what is said last belongs to the vibrato."""
    track = [control(101, 0), control(100, 0), control(6, 12), control(99, 1), control(98, 8), control(6, 64),
             mido.Message("pitchwheel", pitch=4096)]  # fmt: skip
    assert [(c.kind, c.value) for c in read(saved(tmp_path / "a.mid", [track])).controls] == [("bend", 6.0)]


def test_a_riff_wrapping_is_opened(tmp_path):
    plain = saved(tmp_path / "a.mid", [[on(60), off(60, 480)]])
    data = plain.read_bytes()
    chunks = b"RMID" + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"data" + struct.pack("<I", len(data)) + data
    (tmp_path / "a.rmi").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    assert read(tmp_path / "a.rmi") == read(plain)
    (tmp_path / "b.rmi").write_bytes(b"RIFF" + struct.pack("<I", 4) + b"RMID")
    with pytest.raises(ScoreError, match="without MIDI"):
        read(tmp_path / "b.rmi")


def test_a_tempo_of_zero_is_passed_over(tmp_path):
    zero = mido.MetaMessage("set_tempo", tempo=0)
    assert read(saved(tmp_path / "a.mid", [[zero, on(60), off(60, 480)]])).notes[0].seconds == 0.5


def test_ten_thousand_notes_at_once(tmp_path):
    track = [on(i % 128) for i in range(10_000)] + [off(i % 128, 1 if i == 0 else 0) for i in range(10_000)]
    assert len(read(saved(tmp_path / "a.mid", [track])).notes) == 10_000


def test_unended_and_overlapping_notes(tmp_path):
    path = saved(tmp_path / "a.mid", [[on(60), on(60, 480, 100), off(60, 480), on(64), on(65), off(65, 480)]])
    notes = read(path).notes
    assert [(note.pitch, note.start_s, note.seconds) for note in notes] == [
        (60, 0, 1.0),
        (60, 0.5, 1.0),
        (64, 1.0, 0.5),
        (65, 1.0, 0.5),
    ]


def test_a_file_without_notes_is_an_empty_score(tmp_path):
    assert read(saved(tmp_path / "a.mid", [[tempo(120)]])).notes == ()


def test_what_is_no_midi_file_is_refused(tmp_path):
    with pytest.raises(ScoreError, match="No such file"):
        read(tmp_path / "none.mid")
    with pytest.raises(ScoreError, match="directory"):
        read(tmp_path)
    (tmp_path / "text.mid").write_text("not music at all, but long enough for a header")
    (tmp_path / "empty.mid").write_bytes(b"")
    for name in ("text.mid", "empty.mid"):
        with pytest.raises(ScoreError, match="MIDI file"):
            read(tmp_path / name)
    with pytest.raises(ScoreError, match="type 2"):
        read(saved(tmp_path / "two.mid", [[on(60), off(60, 10)]], kind=2))
    with pytest.raises(ScoreError, match="0 ticks"):
        read(raw(tmp_path / "zero.mid", bytes([0, 0xFF, 0x2F, 0]), division=0))


def test_damaged_files_are_read_or_refused(tmp_path):
    """Every cut and eight hundred with flipped bytes: a score or a `ScoreError`, never anything else."""
    write(tmp_path / "good.mid", parse("C4 [E4 G4]:0.5 - 72:3"))
    good = (tmp_path / "good.mid").read_bytes()
    rng = np.random.default_rng(1)
    variants = [good[:n] for n in range(len(good))]
    for _ in range(800):
        bad = bytearray(good)
        for position in rng.integers(0, len(good), int(rng.integers(1, 4))):
            bad[position] = int(rng.integers(0, 256))
        variants.append(bytes(bad))
    refused = []
    for variant in variants:
        (tmp_path / "bad.mid").write_bytes(variant)
        try:
            for note in read(tmp_path / "bad.mid").notes:
                assert note.seconds > 0
                assert 0 <= note.pitch <= 127
                assert 0 < note.velocity <= 1
        except ScoreError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)


def test_writing_says_what_is_wrong(tmp_path):
    with pytest.raises(ScoreError, match="channel 16"):
        write(tmp_path / "a.mid", Score((Note(0, 1, 60, channel=16),)))
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "nowhere" / "a.mid", parse("C4"))
