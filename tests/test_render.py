"""What is in the score is in the sound: when, how high, how loud; and the tails ring out."""

from collections.abc import Sequence

import numpy as np
import pytest

from soundloom.audio import Waveform
from soundloom.errors import ConfigError, ScoreError
from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.instruments.chain import Chain
from soundloom.instruments.delay import Delay
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.render import fit_peak, render
from soundloom.score import Control, Note, Score, parse

RATE = 44100


class Impulses(AbstractInstrument):
    """Writes its events into the sound: 1 at an "on", -1 at an "off"."""

    params = ()

    def init_state(self, sample_rate: int, *, seed: int = 0) -> int:
        return seed

    def process(self, state: int, events: Sequence[Event], n: int):
        block = np.zeros((1, n), dtype=np.float32)
        for event in events:
            block[0, event.frame] += 1 if event.kind == "on" else -1
        return block, state


def test_events_fall_on_their_sample():
    score = Score((Note(0.5, 0.25, 60), Note(0.75, 0.1, 62)))
    audio = render(score, {0: Impulses()}, sample_rate=1000, block=64).samples[0]
    assert np.flatnonzero(audio).tolist() == [500, 850]  # at 750 one ends and one starts
    assert audio[[500, 850]].tolist() == [1, -1]


@pytest.mark.parametrize("block", [1000, 64, 7])
def test_blocks_do_not_matter(block):
    score = parse("C4 [E4 G4]:0.5 C2@0.4", bpm=240)
    parts = {0: Subtractive({"noise_level": 0.1, "vibrato_cents": 10})}
    whole = render(score, parts, block=512)
    other = render(score, parts, block=block)
    n = min(other.samples.shape[1], whole.samples.shape[1])
    np.testing.assert_allclose(other.samples[:, :n], whole.samples[:, :n], rtol=0, atol=1e-6)
    assert np.abs(whole.samples[:, n:]).max(initial=0) < 1e-4
    assert np.abs(other.samples[:, n:]).max(initial=0) < 1e-4


def test_instruments_add_up():
    first, second = parse("C3 G3", bpm=240), parse("- C5", bpm=240, channel=1)
    both = Score(tuple(sorted(first.notes + second.notes, key=lambda note: note.start_s)))
    parts = {0: Pluck(), 1: Subtractive()}
    mixed = render(both, parts).samples[0]
    alone = [render(score, parts).samples[0] for score in (first, second)]
    total = np.zeros(max(len(mixed), *(len(part) for part in alone)), dtype=np.float32)
    for part in alone:
        total[: len(part)] += part
    np.testing.assert_allclose(mixed, total[: len(mixed)], rtol=0, atol=1e-4)


@pytest.mark.parametrize("release_s", [0.05, 1.0, 4.0])
def test_tails_ring_out(release_s):
    """The sound ends where the release, 60 dB in `release_s`, has fallen to -100 dB from full scale."""
    tone = Subtractive({"osc1_shape": 0.0, "osc1_level": 1.0, "sustain": 1.0, "release_s": release_s, "gain_db": 0.0})
    sound = render(Score((Note(0.0, 0.5, 69, 1.0),)), {0: tone})
    assert sound.seconds == pytest.approx(0.5 + release_s * 100 / 60, rel=0.03, abs=0.01)
    assert np.abs(sound.samples[0, -50:]).max() < 1e-4


def test_what_comes_back_after_a_silence_is_waited_for():
    echo = Chain(Pluck({"decay_s": 0.05, "release_s": 0.01}), [("delay", Delay({"time_s": 1.0, "mix": 0.5}))])
    sound = render(parse("C4:0.4"), {0: echo})
    assert 1.05 < sound.seconds < 12
    assert np.abs(sound.samples[0, round(0.99 * RATE) : round(1.1 * RATE)]).max() > 0.01


def test_a_tail_that_never_ends_is_cut():
    class Drone(Impulses):
        def process(self, state, events, n):
            return np.ones((1, n), dtype=np.float32), state

    assert render(parse("C4"), {0: Drone()}, sample_rate=1000).seconds == pytest.approx(30.5, abs=0.6)


def test_levels_are_left_alone_and_fitting_says_by_how_much():
    loud = {0: Subtractive({"gain_db": 6.0, "osc1_level": 1.0, "sustain": 1.0})}
    chord, note = (render(parse(text), loud) for text in ("[C4 E4 G4 B4]@1", "C4@1"))
    assert np.abs(chord.samples).max() > 2
    fitted, gain_db = fit_peak(chord)
    assert 20 * np.log10(np.abs(fitted.samples).max()) == pytest.approx(-1, abs=0.01)
    np.testing.assert_allclose(fitted.samples, chord.samples * 10 ** (gain_db / 20), rtol=1e-5)
    quiet = Waveform(note.samples * np.float32(0.1), RATE)
    assert fit_peak(quiet) == (quiet, 0.0)


def test_sample_rates_agree():
    """The same phrase at two rates is the same sound: equal length, equal level."""
    score = parse("A3 E4", bpm=200)
    one, two = (render(score, {0: Subtractive({"cutoff_hz": 1500})}, sample_rate=rate) for rate in (22050, 48000))
    assert one.seconds == pytest.approx(two.seconds, abs=0.01)
    assert np.std(one.samples) == pytest.approx(np.std(two.samples), rel=0.02)


def test_seeds_change_the_noise_only():
    score = Score((Note(0, 0.2, 60),))
    noise = {0: Subtractive({"osc1_level": 0.0, "noise_level": 1.0})}
    first, same, other = (render(score, noise, seed=seed).samples for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert abs(np.corrcoef(first[0, :8000], other[0, :8000])[0, 1]) < 0.1


def test_who_is_moved_aside_is_heard_there():
    notes = (Note(0, 0.5, 60),)
    made = render(Score(notes, (Control(0.0, "cc", 1.0, 10),)), {0: Pluck()})
    left, right = np.abs(made.samples[:, RATE // 10 :]).max(axis=1)
    assert right > 0.1 > 1e4 * left
    assert render(Score(notes), {0: Pluck()}).channels == 1


def test_what_cannot_be_rendered_is_refused():
    with pytest.raises(ScoreError, match="no notes"):
        render(Score(()), {0: Pluck()})
    with pytest.raises(ScoreError, match="no instrument for channel 9: there are instruments for 0, 1"):
        render(parse("C4", channel=9), {0: Pluck(), 1: Pluck()})
    with pytest.raises(ScoreError, match="7200 s at most"):
        render(Score((Note(0, 1e6, 60),)), {0: Pluck()})
    with pytest.raises(ConfigError, match="from 1000 to 384000"):
        render(parse("C4"), {0: Pluck()}, sample_rate=0)
    with pytest.raises(ConfigError, match="1 or more"):
        render(parse("C4"), {0: Pluck()}, block=0)
