"""A mixer places its parts, glides, sends to the room, and is itself an instrument that keeps the contract."""

import numpy as np
import pytest
from contract import RATE, play

from soundloom.errors import ConfigError
from soundloom.instruments.base import Event
from soundloom.instruments.controls import events as meant
from soundloom.instruments.controls import usual_routes
from soundloom.instruments.mixer import Mixer, Part
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.score import Control

STEADY = {"osc1_shape": 0.0, "sustain": 1.0, "attack_s": 0.001}


def pair():
    return Mixer([Part(Subtractive(STEADY)), Part(Pluck(), strip={"pan": -0.5, "reverb": 0.6, "chorus": 0.4})])


def db(audio):
    return 20 * np.log10(np.sqrt(np.mean(audio**2)) + 1e-12)


def test_any_split_gives_the_same_audio():
    rng = np.random.default_rng(0)
    events = [
        Event(700, "on", 1, 60.0, part=1), Event(900, "set", param="strip.pan", value=0.7, part=0),
        Event(1000, "on", 2, 64.0, part=0), Event(1500, "set", param="strip.volume", value=0.2, part=0),
        Event(4000, "set", param="cutoff_hz", value=500.0, part=0), Event(7000, "off", 2, part=0),
    ]  # fmt: skip
    whole = play(pair(), events, 12_000)
    cuts = np.sort(rng.choice(np.arange(1, 12_000), 50, replace=False))
    other = play(pair(), events, 12_000, blocks=np.diff([0, *cuts, 12_000]).tolist())
    np.testing.assert_allclose(other, whole, rtol=0, atol=1e-6)
    assert np.abs(whole).max() > 0.05


@pytest.mark.parametrize(("pan", "left_db", "right_db"), [(0.0, 0, 0), (-1.0, 3.01, -100), (1.0, -100, 3.01)])
def test_pan_keeps_the_power(pan, left_db, right_db):
    events = [Event(0, "on", 1, 69.0)]
    alone = play(Subtractive(STEADY), events, RATE)[..., 4000:]
    alone = alone if alone.ndim == 1 else alone[0]
    out = play(Mixer([Part(Subtractive(STEADY), strip={"pan": pan})], sends=()), events, RATE)[:, 4000:]
    for side, wanted in zip(out, (left_db, right_db), strict=True):
        assert max(db(side) - db(alone), -100) == pytest.approx(wanted, abs=0.05)


def test_volume_and_expression_go_by_their_square_and_without_a_click():
    """General MIDI: 40 log10(value / 127) dB; here 100 is 0 dB. A jump of the level glides: it does not click."""
    events = [Event(0, "on", 1, 45.0), *[
        event for at, number, value in ((20_000, 7, 50 / 127), (40_000, 11, 64 / 127))
        for event in meant(Control(0, "cc", value, number), {}, frame=at)
    ]]  # fmt: skip
    out = play(Mixer([Part(Subtractive(STEADY))], sends=()), events, 60_000)[0].astype(np.float64)
    start, lower, lowest = (db(out[at : at + 8000]) for at in (8000, 30_000, 50_000))
    assert lower - start == pytest.approx(40 * np.log10(0.5), abs=0.1)
    assert lowest - lower == pytest.approx(40 * np.log10(64 / 127), abs=0.1)
    bend = np.abs(np.diff(out, 2))[19_900:21_000].max()
    assert bend < 0.002 * np.abs(out[8000:16_000]).max()  # at once it would be up to 0.75


def test_the_room_rings_on():
    events = [Event(0, "on", 1, 60.0), Event(4000, "off", 1)]
    settings = {**STEADY, "release_s": 0.01}
    dry, wet = (play(Mixer([Part(Subtractive(settings), strip={"reverb": send})]), events, RATE) for send in (0.0, 1.0))
    assert db(dry[:, 20_000:30_000]) < -100
    assert db(wet[:, 20_000:30_000]) > -70


def test_stems_add_up_to_the_mix():
    mixer = pair()
    events = [Event(0, "on", 1, 60.0, part=0), Event(100, "on", 2, 67.0, part=1)]
    stems, _ = mixer.stems(mixer.init_state(RATE), events, 8000)
    assert stems.shape == (3, 2, 8000)
    np.testing.assert_allclose(stems.sum(axis=0), play(pair(), events, 8000), atol=1e-7)
    assert np.abs(stems).max(axis=(1, 2)).min() > 1e-3


def test_controllers_turn_what_is_there():
    """The filter goes from its low end through where it stands to its high end; the wheel brings vibrato."""
    synth = Subtractive({"cutoff_hz": 1000.0})
    routes = usual_routes(synth, synth.settings)
    (half,) = meant(Control(0, "cc", 0.5, 74), routes)
    (full,) = meant(Control(0, "cc", 1.0, 74), routes)
    (none,) = meant(Control(0, "cc", 0.0, 74), routes)
    assert (half.param, half.value, full.value, none.value) == ("cutoff_hz", pytest.approx(1000), 20000, 20)
    wheel = meant(Control(0, "cc", 1.0, 1), routes)[0]
    assert (wheel.param, wheel.value) == ("vibrato_cents", 40.0)
    assert meant(Control(0, "cc", 1.0, 74), usual_routes(Pluck(), Pluck().settings)) == []
    assert [meant(Control(0, "cc", 0.0, n), routes)[0].kind for n in (120, 123, 126)] == ["stop", "release", "release"]
    assert meant(Control(0, "cc", 0.5, 33), routes) == []


def test_a_strip_has_what_it_has():
    with pytest.raises(ConfigError, match="from -1 to 1"):
        Mixer([Part(Pluck(), strip={"pan": 3.0})])
