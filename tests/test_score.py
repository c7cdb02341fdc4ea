"""Phrases typed in become the notes that were meant; anything else is refused with a word on what to write."""

import pytest

from soundloom.errors import ScoreError
from soundloom.score import Note, Score, parse, parse_pitch, pitch_name


def test_notes_follow_each_other():
    score = parse("C4 E4:0.5 [C4 E4 G4]:2@0.5 -:3 Bb3", bpm=90)
    beat = 60 / 90
    assert [note.pitch for note in score.notes] == [60, 64, 60, 64, 67, 58]
    assert [note.start_s for note in score.notes] == pytest.approx([0, beat, *[1.5 * beat] * 3, 6.5 * beat])
    assert [note.seconds for note in score.notes] == pytest.approx([beat, beat / 2, *[2 * beat] * 3, beat])
    assert [note.velocity for note in score.notes] == [0.8, 0.8, 0.5, 0.5, 0.5, 0.8]
    assert score.seconds == pytest.approx(7.5 * beat)


def test_settings_reach_every_note():
    score = parse("C4 [D4 F4]\n 61.25", channel=3, velocity=0.3)
    assert {note.channel for note in score.notes} == {3}
    assert {note.velocity for note in score.notes} == {0.3}
    assert score.notes[-1].pitch == 61.25


def test_a_phrase_of_rests_is_empty():
    assert parse(" - -:2 ") == Score(())
    assert parse("").seconds == 0


@pytest.mark.parametrize(
    ("name", "pitch"),
    [("C-1", 0), ("A0", 21), ("c4", 60), ("B#3", 60), ("Cb4", 59), ("F##5", 79), ("Ebb4", 62), ("G9", 127), ("0", 0)],
)
def test_names_of_pitches(name, pitch):
    assert parse_pitch(name) == pitch


def test_names_go_there_and_back():
    for pitch in range(128):
        assert parse_pitch(pitch_name(pitch)) == pitch


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("H4", "'H4' is no pitch"),
        ("C4 E", "'E' is no pitch"),
        ("A9", "from 0"),
        ("-3", "from 0"),
        ("nan", "from 0"),
        ("C4:x", "which is no number"),
        ("C4:-1", "from 0 to 1000"),
        ("C4:0", "lasts 0 beats"),
        ("C4@2", "from 0 to 1"),
        ("C4@nan", "from 0 to 1"),
        ("[]", "chord .* is empty"),
        ("[C4 E4", "at character 1 is no note"),
        ("C4 ]", "is no note"),
        ("C4:", "is no note"),
        ("[C4 [E4]]", "is no note"),
    ],
)
def test_what_is_no_phrase_is_refused(text, says):
    with pytest.raises(ScoreError, match=says):
        parse(text)


@pytest.mark.parametrize("bpm", [0, -3, 1e9, float("nan")])
def test_tempos_have_bounds(bpm):
    with pytest.raises(ScoreError, match="from 1 to 1000"):
        parse("C4", bpm=bpm)


def test_a_score_ends_with_its_last_note():
    assert Score((Note(0, 9, 60), Note(1, 1, 62))).seconds == 9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"start_s": -0.1}, "start is -0.1 s"),
        ({"start_s": float("inf")}, "start is inf s"),
        ({"seconds": float("nan")}, "length is nan s"),
        ({"pitch": 127.5}, "from 0 to 127"),
        ({"velocity": 1.1}, "from 0 to 1"),
    ],
)
def test_notes_that_cannot_be_played_are_refused(change, says):
    with pytest.raises(ScoreError, match=says):
        Note(**({"start_s": 0.0, "seconds": 1.0, "pitch": 60.0} | change))
