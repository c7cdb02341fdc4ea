"""What hands do on keys and controllers is what the instruments get; the computer's keys are a piano."""

import os
import sys

import pytest

from soundloom.errors import ConfigError, DeviceError
from soundloom.hands import Hands, knobs
from soundloom.instruments.base import Event
from soundloom.instruments.controls import Playable, usual_routes
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.keyboard import Keys, struck_keys
from soundloom.midiin import Inbox

RATE = 48000
ON, OFF, CC, BEND = 0x90, 0x80, 0xB0, 0xE0


def playable(instrument):
    return Playable("it", instrument, usual_routes(instrument, instrument.settings))


def heard(messages, instruments=None, places=None):
    instruments = instruments or [Subtractive()]
    return Hands([playable(one) for one in instruments], places or {0: [0]}).events(messages)


def test_keys_are_notes_and_the_same_key_again_ends_the_note_before():
    events = heard([
        (0, bytes([ON, 60, 127])), (3, bytes([ON, 64, 64])), (5, bytes([ON, 60, 1])), (9, bytes([OFF, 64, 0])),
        (9, bytes([ON, 60, 0])), (9, bytes([OFF, 99, 0])),
    ])  # fmt: skip
    assert [(e.frame, e.kind, e.note) for e in events] == [
        (0, "on", 1), (3, "on", 2), (5, "off", 1), (5, "on", 3), (9, "off", 2), (9, "off", 3),
    ]  # fmt: skip
    assert [(e.pitch, round(e.velocity, 3)) for e in events if e.kind == "on"] == [(60, 1), (64, 0.504), (60, 0.008)]


def test_the_bend_has_the_range_that_it_is_given():
    wide = [(0, bytes([CC, 101, 0])), (0, bytes([CC, 100, 0])), (0, bytes([CC, 6, 12]))]
    up, down = (5, bytes([BEND, 0x7F, 0x7F])), (5, bytes([BEND, 0, 0]))
    assert heard([up])[0].value == pytest.approx(2, abs=1e-3)
    assert heard([*wide, up])[0].value == pytest.approx(12, abs=1e-2)
    assert heard([*wide, down])[0] == Event(0, "bend", value=-12)


def test_channels_play_their_parts_and_controllers_turn_knobs():
    three = [Pluck(), Subtractive(), Subtractive()]
    places = {0: [0], 3: [1, 2]}
    events = heard([(0, bytes([ON | 3, 50, 90])), (4, bytes([CC | 3, 74, 127])), (4, bytes([ON | 7, 1, 1]))],
                   three, places)  # fmt: skip
    assert [(e.kind, e.part) for e in events] == [("on", 1), ("on", 2), ("set", 1), ("set", 2)]
    cutoff = next(param for param in Subtractive.params if param.name == "cutoff_hz")
    assert events[2].value == pytest.approx(cutoff.high)
    assert [e.kind for e in heard([(0, bytes([CC, 64, 127])), (1, bytes([CC, 120, 0]))])] == ["pedal", "stop"]
    back = heard([(0, bytes([CC, 121, 0]))])
    assert {(e.kind, e.param, e.value) for e in back[:3]} == {
        ("bend", "", 0.0), ("pedal", "", 0.0), ("set", "strip.expression", 1.0),
    }  # fmt: skip
    assert heard([(0, bytes([0xC0, 5])), (0, bytes([0xF8])), (0, b""), (0, bytes([0xF0, 1, 2, 0xF7]))]) == []


def test_a_fader_in_a_hurry_costs_no_more_than_one_move():
    storm = [(k, bytes([CC, 74, k])) for k in range(100)] + [(100, bytes([BEND, 0, 64 + k])) for k in range(20)]
    storm.insert(50, (49, bytes([ON, 60, 100])))
    events = heard(storm)
    assert [(e.kind, e.frame) for e in events] == [("set", 0), ("bend", 0), ("on", 49)]


def test_the_next_controller_that_moves_turns_a_knob_that_waits_for_one():
    players = [playable(Pluck()), playable(Subtractive())]
    hands = Hands(players, {0: [0, 1]})
    hands.learn(knobs(["damping=30", "cutoff_hz", "resonance"], players))
    moved = [
        (0, bytes([CC, 64, 127])),
        (1, bytes([CC, 21, 0])),
        (1, bytes([CC, 21, 9])),
        (2, bytes([CC, 22, 127])),
        (3, bytes([CC, 21, 127])),
    ]
    sets = {(e.param, e.part): e.value for e in hands.events(moved) if e.kind == "set"}
    cutoff = next(param for param in Subtractive.params if param.name == "cutoff_hz")
    assert sets == {("cutoff_hz", 1): pytest.approx(cutoff.high), ("resonance", 1): pytest.approx(1.0)}
    assert list(hands.learnt) == [
        "controller 21 turns cutoff_hz (next time: --learn cutoff_hz=21)",
        "controller 22 turns resonance (next time: --learn resonance=22)",
    ]
    assert [e.param for e in hands.events([(0, bytes([CC, 30, 64]))])] == ["damping"]
    with pytest.raises(ConfigError, match="did you mean cutoff_hz"):
        knobs(["cutof_hz"], players)
    with pytest.raises(ConfigError, match="as cutoff_hz=21"):
        knobs(["cutoff_hz=abc"], players)


# --- the computer's keys ------------------------------------------------------------------------------------------


def struck(*keys):
    """(time, message) of keys struck at times; time goes on to 100 s."""
    inbox = Inbox()
    keyboard = Keys(inbox)
    for at, key in sorted([*keys, *((k / 100, "") for k in range(1, 300))]):
        keyboard.passed(at, at)
        if key:
            keyboard.struck(key, at)
    return [(message[0] & 0xF0, message[1]) for _, message in inbox.take(1e9, 64, RATE)]


def test_two_rows_are_a_piano():
    assert struck((0, "a")) == [(ON, 60), (OFF, 60)]
    assert struck((0, "x"), (0.1, "w")) == [(ON, 73), (OFF, 73)]
    assert struck((0, "z"), (0.1, "z"), (0.2, "k")) == [(ON, 48), (OFF, 48)]
    assert struck((0, "!"), (0.1, "1")) == []


def test_a_key_that_repeats_is_held_and_one_that_is_struck_again_sounds_again():
    assert struck(*((0.033 * k, "a") for k in range(40))) == [(ON, 60), (OFF, 60)]
    assert struck((0, "a"), (0.2, "a")) == [(ON, 60), (ON, 60), (OFF, 60)]


def test_held_notes_end_with_their_key_or_with_the_space_bar():
    assert struck((0, " "), (0.1, "a"), (1.5, "a")) == [(ON, 60), (OFF, 60)]
    assert struck((0, " "), (0.1, "a"), (0.2, "d"), (2, " ")) == [(ON, 60), (ON, 64), (OFF, 60), (OFF, 64)]
    assert struck((0, " "), (0.1, "a")) == [(ON, 60)]


def test_the_terminal_is_put_back_whatever_happens(monkeypatch):
    termios = pytest.importorskip("termios")
    _, slave = os.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(slave))
    before = termios.tcgetattr(slave)
    during = []

    def play():
        with struck_keys():
            during.extend(termios.tcgetattr(slave))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        play()
    assert not during[3] & (termios.ICANON | termios.ECHO)
    assert during[3] & termios.ISIG
    assert termios.tcgetattr(slave) == before


def test_keys_without_a_terminal_are_refused(monkeypatch, tmp_path):
    (tmp_path / "in").write_text("a")
    with open(tmp_path / "in") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(DeviceError, match="standard input is none"):
            struck_keys().__enter__()
