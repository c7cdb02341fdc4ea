"""What every instrument and every effect keeps, as tests that all of them pass by being listed."""

import numpy as np
import pytest
import scipy.signal

from soundloom.errors import ConfigError
from soundloom.instruments.base import Event
from soundloom.instruments.voices import FADE_S

RATE = 44100

# Settings by engine or effect. QUIET: a tone with as few highs as it can make, so that a click would be heard. AUDIBLE:
# what has to be up so that every knob is heard, and KEYS, what has to be played for it, first softly, then hard. SHORT:
# what makes silent soon what rings of itself, whenever its key is let go. UNPITCHED: no bend is asked of it.
QUIET: dict[str, dict[str, float]] = {
    "subtractive": {
        "osc1_shape": 0.0, "osc2_level": 0.0, "noise_level": 0.0, "drive_db": 0.0, "cutoff_hz": 300.0,
        "resonance": 0.0, "filter_env_octaves": 0.0, "vibrato_cents": 0.0, "filter_shape": 0.0, "attack_s": 0.05,
    },
    "pluck": {
        "brightness": 0.0, "noise": 0.0, "velocity_brightness": 0.0, "pick_position": 0.5, "body": 0.0, "damping": 1.0,
    },
    "sampler": {"cutoff_hz": 300.0, "attack_s": 0.05},
    "granular": {"size_ms": 500.0, "window": 0.0, "reverse": 0.0, "attack_s": 0.05, "density_hz": 200.0},
    "modal": {"hardness": 0.0, "roughness": 0.0, "damping": 1.0, "object": 3.0, "position": 1.0},
    "tube": {"breath": 0.0, "pressure": 0.0, "brightness": 0.0, "reed": 0.0, "attack_s": 0.05},
    "fm": {
        "brightness": 0.0, "velocity_brightness": 0.0, "op1_attack_s": 0.05, "op3_attack_s": 0.05,
    },
    "wavetable": {
        "position": 1.0, "osc2_level": 0.0, "cutoff_hz": 200.0, "resonance": 0.0, "attack_s": 0.05,
    },
    "additive": {"partials": 1.0, "attack_s": 0.05},
}  # fmt: skip
AUDIBLE: dict[str, dict[str, float]] = {
    "subtractive": {
        "osc2_level": 0.5, "noise_level": 0.2, "vibrato_cents": 20.0, "pitch_env_semitones": 12.0,
        "filter_env_octaves": 3.0, "cutoff_hz": 600.0, "osc1_shape": 2.7, "sustain": 0.3, "decay_s": 0.3,
        "unison": 3.0, "lfo2_cents": 20.0,
    },
    "sampler": {"sustain": 0.3, "decay_s": 0.3, "vibrato_cents": 20.0, "cutoff_hz": 1200.0},
    "granular": {"sustain": 0.3, "decay_s": 0.3},
    "tube": {"vibrato_cents": 30.0},
    "melody": {"vibrato_cents": 30.0},
    "equaliser": {"low_db": 6.0, "peak1_db": -6.0, "peak2_db": 6.0, "high_db": -6.0},
    "fm": {
        "feedback": 0.3, "vibrato_cents": 20.0, "key_scaling": 0.0, "op1_sustain": 0.5, "op2_sustain": 0.5,
        "op3_sustain": 0.5, "op4_sustain": 0.5, "op1_decay_s": 0.3, "op2_decay_s": 0.3, "op3_decay_s": 0.3,
        "op4_decay_s": 0.3,
    },
    "wavetable": {
        "position_lfo": 0.2, "position_env": 0.3, "position_sustain": 0.5, "position_decay_s": 0.1, "position": 0.3,
        "vibrato_cents": 20.0, "cutoff_hz": 600.0, "filter_env_octaves": 3.0, "sustain": 0.3, "decay_s": 0.3,
        "filter_decay_s": 0.1,
    },
    "additive": {
        "shimmer": 0.3, "shimmer_cents": 10.0, "shimmer_hz": 5.0, "formant_db": 12.0, "overtone_decay_s": 1.0,
        "vibrato_cents": 20.0, "sustain": 0.3, "decay_s": 0.3,
    },
}  # fmt: skip
# LOUD: how far an effect whose bands add up may turn up what the others may not turn up 20 times.
LOUD = {"equaliser": 4000.0}  # four bands of 15 dB and 12 dB over all
KEYS = {"drums": ((36.0, 42.0, 49.0), (38.0, 47.0, 56.0))}
SHORT = {"drums": {"tom_decay": 0.1, "cymbal_decay": 0.1}}
UNPITCHED: set[str] = {"drums"}


def play(instrument, events, n, *, blocks=None, sample_rate=RATE, seed=0):
    """[C, n] of an instrument, in blocks of the given lengths (one block if left out); [n] where it is mono."""
    state = instrument.init_state(sample_rate, seed=seed)
    parts, start = [], 0
    for length in blocks or [n]:
        due = [
            Event(e.frame - start, e.kind, e.note, e.pitch, e.velocity, e.param, e.value, e.part)
            for e in events
            if start <= e.frame < start + length
        ]
        block, state = instrument.process(state, due, length)
        assert block.shape == (instrument.channels, length)
        assert block.dtype == np.float32
        parts.append(block)
        start += length
    audio = np.concatenate(parts, axis=1)
    return audio[0] if len(audio) == 1 else audio


def mono(audio):
    return audio if audio.ndim == 1 else audio.mean(axis=0)


def busy(instrument, rng, n):
    """Twelve notes on four voices (so that some are stolen), their ends, knobs, the bend and the pedal."""
    events = []
    for note in range(12):
        on = int(rng.integers(0, n // 2))
        events.append(Event(on, "on", note, float(rng.uniform(30, 95)), float(rng.uniform(0.2, 1))))
        events.append(Event(on + int(rng.integers(1, n // 2)), "off", note))
    for param in rng.choice(np.array(instrument.params, dtype=object), min(2, len(instrument.params)), replace=False):
        events.append(Event(int(rng.integers(0, n)), "set", param=param.name, value=param.at(float(rng.uniform()))))
    events += [Event(int(rng.integers(0, n)), "bend", value=float(rng.uniform(-2, 2))) for _ in range(3)]
    events += [Event(n // 3, "pedal", value=1.0), Event(n // 2, "pedal", value=0.0)]
    events += [Event(n - 700, "stop")]
    return sorted(events, key=lambda event: event.frame)


def corners(params, rng, count):
    """Each knob alone at its ends, and `count` times all knobs at random ends."""
    for param in params:
        yield {param.name: param.low}
        yield {param.name: param.high}
    for _ in range(count):
        yield {param.name: param.high if rng.random() < 0.5 else param.low for param in params}


class InstrumentContract:
    """Give `make(settings=None, voices=4)` and `name`, by subclassing or by parametrising."""

    def test_any_split_gives_the_same_audio(self, make):
        rng = np.random.default_rng(1)
        n = 12_000
        for seed in range(4):
            events = busy(make(), rng, n)
            whole = play(make(), events, n, seed=seed)
            assert np.abs(whole).max() > 0.01
            cuts = np.sort(rng.choice(np.arange(1, n), 40, replace=False))
            blocks = np.diff([0, *cuts, n]).tolist()
            np.testing.assert_allclose(play(make(), events, n, blocks=blocks, seed=seed), whole, rtol=0, atol=1e-7)
            ones = [1] * 300 + [n - 300]
            np.testing.assert_allclose(play(make(), events, n, blocks=ones, seed=seed), whole, rtol=0, atol=1e-7)

    def test_silence_after_release(self, make, name):
        events = [Event(0, "on", 1, 50.0, 1.0), Event(3000, "on", 2, 57.0, 1.0)]
        events += [Event(9000, "off", 1), Event(9001, "off", 2)]
        released = {"release_s": 0.2} if "release_s" in {param.name for param in make().params} else {}
        audio = play(make(SHORT.get(name, released)), events, 3 * RATE)
        assert np.abs(audio[..., :9000]).max() > 0.05
        assert np.abs(audio[..., 9000 + RATE :]).max() < 1e-5

    def test_silence_without_notes(self, make):
        assert np.abs(play(make(), [Event(100, "off", 3)], 2000)).max() < 1e-9

    def test_bounded_at_every_corner(self, make):
        rng = np.random.default_rng(2)
        for settings in corners(make().params, rng, 60):
            events = [Event(0, "on", 1, float(rng.choice([0, 21, 60, 108, 127])), 1.0), Event(8000, "off", 1)]
            audio = play(make(settings, voices=2), events, 16_000)
            assert np.isfinite(audio).all(), settings
            assert np.abs(audio).max() < 8, settings

    def test_the_same_seed_gives_the_same_sound(self, make):
        events = busy(make(), np.random.default_rng(3), 8000)
        np.testing.assert_array_equal(play(make(), events, 8000, seed=5), play(make(), events, 8000, seed=5))

    def test_events_take_effect_at_their_sample(self, make):
        early, late = (play(make(), [Event(frame, "on", 1, 60.0)], 6000) for frame in (1000, 1037))
        assert np.abs(early[..., :1000]).max() < 1e-9
        np.testing.assert_allclose(early[..., 1000:5000], late[..., 1037:5037], rtol=0, atol=1e-7)

    def test_the_pedal_holds_what_is_released(self, make, name):
        """With the pedal down a released note goes on as if held; when the pedal comes up it ends."""
        settings = {"release_s": 0.05} if "release_s" in {param.name for param in make().params} else {}
        on, off = Event(0, "on", 1, 50.0, 1.0), Event(2000, "off", 1)
        held = play(make(settings), [on], 12_000)
        pedal = [Event(1000, "pedal", value=1.0), Event(8000, "pedal", value=0.0)]
        sustained = play(make(settings), sorted([on, off, *pedal], key=lambda e: e.frame), 12_000)
        np.testing.assert_allclose(sustained[..., :8000], held[..., :8000], rtol=0, atol=1e-7)
        if settings:
            assert np.abs(sustained[..., 11_500:]).max() < 0.2 * np.abs(held[..., :8000]).max()

    def test_all_notes_off_is_as_if_each_was_let_go(self, make):
        on = [Event(0, "on", 1, 50.0, 1.0), Event(1, "on", 2, 62.0, 1.0)]
        each = play(make(), [*on, Event(4000, "off", 1), Event(4000, "off", 2)], 9000)
        np.testing.assert_array_equal(play(make(), [*on, Event(4000, "release")], 9000), each)

    def test_a_note_without_velocity_is_none(self, make):
        assert np.abs(play(make(), [Event(0, "on", 1, 60.0, 0.0)], 3000)).max() < 1e-9

    def test_stop_is_soon_silent(self, make):
        events = [Event(0, "on", 1, 50.0, 1.0), Event(1, "on", 2, 62.0, 1.0), Event(4000, "stop")]
        audio = play(make(), events, 4000 + round(FADE_S * RATE) + 2 * RATE)
        assert np.abs(audio[..., :4000]).max() > 0.01
        assert np.abs(audio[..., 4000 + RATE :]).max() < 1e-5

    def test_bend_is_a_change_of_pitch(self, make, name):
        """A note bent by two semitones from its start is the note two semitones higher."""
        if name.split(",")[0] in UNPITCHED:
            pytest.skip("has no pitch to bend")
        hz = 440 * 2 ** ((52 - 69) / 12)
        bent = mono(play(make(), [Event(0, "bend", value=2.0), Event(0, "on", 1, 50.0, 1.0)], 24_000))[8000:]
        higher = mono(play(make(), [Event(0, "on", 1, 52.0, 1.0)], 24_000))[8000:]
        level = [np.abs(np.sum(np.hanning(16_000) * a * np.exp(-2j * np.pi * hz / RATE * np.arange(16_000))))
                 for a in (bent, higher)]  # fmt: skip
        assert level[0] > 0.5 * level[1]

    def test_stealing_does_not_click(self, make, name):
        """Notes of a tone without highs, stolen in full swing by one so soft that it is not heard: no highs appear."""
        if name not in QUIET:
            pytest.skip("makes no tone without highs")
        high = scipy.signal.butter(8, 6000, "highpass", fs=RATE, output="sos")
        steal = 13_000
        events = [Event(0, "on", 1, 43.0, 1.0), Event(steal, "on", 2, 43.0, 0.001)]
        audio = mono(play(make(QUIET[name], voices=1), events, 20_000))
        around = slice(steal - 400, steal + 1000)
        hiss = np.abs(scipy.signal.sosfilt(high, audio))[around].max()
        cut = np.abs(scipy.signal.sosfilt(high, audio * (np.arange(20_000) < steal)))[around].max()
        assert np.abs(audio[steal - 500 : steal]).max() > 0.02
        assert np.abs(audio[steal + round(FADE_S * RATE) + 1500 :]).max() < 1e-3
        assert hiss < 0.01 * cut

    def test_bad_settings_are_refused(self, make):
        with pytest.raises(ConfigError, match="did you mean gain_db"):
            make({"gain_dB": 0.0})
        with pytest.raises(ConfigError, match="from -60 to 6"):
            make({"gain_db": 90.0})
        with pytest.raises(ConfigError, match="did you mean gain_db"):
            play(make(), [Event(0, "set", param="gain_bd", value=1.0)], 64)

    def test_every_knob_is_heard(self, make, name):
        """Each knob changes the sound somewhere: none is dead."""
        instrument = make()
        base = AUDIBLE.get(name, {})
        softly, hard = KEYS.get(name, ((52.0,), (55.0,)))
        events = [Event(0, "on", i, pitch, 0.5) for i, pitch in enumerate(softly)]
        events += [Event(9000, "off", i) for i in range(len(softly))]
        events += [Event(10_000, "on", 10 + i, pitch, 0.9) for i, pitch in enumerate(hard)]
        reference = play(make(base), events, 16_000)
        for param in instrument.params:
            value = param.high if param.position(base.get(param.name, param.default)) < 0.5 else param.low
            audio = play(make({**base, param.name: value}), events, 16_000)
            assert np.abs(audio - reference).max() > 1e-4, param.name


def treat(effect, audio, *, events=(), blocks=None, sample_rate=RATE):
    """An effect on [2, n], in blocks of the given lengths (one block if left out)."""
    state = effect.init_state(sample_rate)
    parts, start = [], 0
    for length in blocks or [audio.shape[1]]:
        due = [
            Event(e.frame - start, e.kind, param=e.param, value=e.value)
            for e in events
            if start <= e.frame < start + length
        ]
        block, state = effect.process(state, due, audio[:, start : start + length])
        assert block.shape == (2, length)
        assert block.dtype == np.float32
        parts.append(block)
        start += length
    return np.concatenate(parts, axis=1)


def material(rng, n):
    """Stereo: noise bursts and a chord, for effects to chew on."""
    t = np.arange(n) / RATE
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in (110.0, 277.2, 659.3)) / 4
    bursts = rng.standard_normal((2, n)) * (np.sin(2 * np.pi * 6 * t) > 0.8)
    return (0.4 * bursts + 0.4 * chord).astype(np.float32)


class EffectContract:
    """Give `make(settings=None)` and `name`."""

    def test_any_split_gives_the_same_audio(self, make):
        rng = np.random.default_rng(1)
        n = 20_000
        audio = material(rng, n)
        params = rng.choice(np.array(make().params, dtype=object), 2, replace=False)
        events = [Event(6000 + 1234 * i, "set", param=p.name, value=p.at(0.7)) for i, p in enumerate(params)]
        whole = treat(make(), audio, events=events)
        cuts = np.sort(rng.choice(np.arange(1, n), 40, replace=False))
        for blocks in (np.diff([0, *cuts, n]).tolist(), [1] * 300 + [n - 300]):
            np.testing.assert_allclose(treat(make(), audio, events=events, blocks=blocks), whole, rtol=0, atol=1e-6)

    def test_silence_in_silence_out(self, make):
        assert np.abs(treat(make(), np.zeros((2, 8000), np.float32))).max() < 1e-9

    def test_it_rings_out(self, make):
        audio = np.zeros((2, 12 * RATE), np.float32)
        audio[:, :4000] = material(np.random.default_rng(0), 4000)
        assert np.abs(treat(make(), audio)[:, 10 * RATE :]).max() < 1e-4

    def test_bounded_at_every_corner(self, make, name):
        rng = np.random.default_rng(2)
        audio = material(rng, 30_000)
        for settings in corners(make().params, rng, 40):
            out = treat(make(settings), audio)
            assert np.isfinite(out).all(), settings
            assert np.abs(out).max() < LOUD.get(name, 20.0) * np.abs(audio).max(), settings

    def test_every_knob_is_heard(self, make, name):
        base = AUDIBLE.get(name, {})
        audio = material(np.random.default_rng(0), 60_000)
        reference = treat(make(base), audio)
        for param in make().params:
            value = param.high if param.position(base.get(param.name, param.default)) < 0.5 else param.low
            assert np.abs(treat(make({**base, param.name: value}), audio) - reference).max() > 1e-4, param.name

    def test_the_input_is_left_alone(self, make):
        audio = material(np.random.default_rng(0), 4000)
        before = audio.copy()
        treat(make(), audio)
        np.testing.assert_array_equal(audio, before)

    def test_bad_settings_are_refused(self, make):
        known = make().params[-1].name
        with pytest.raises(ConfigError, match=f"did you mean {known}"):
            make({known.capitalize(): 0.0})
        with pytest.raises(ConfigError, match=f"did you mean {known}"):
            treat(make(), np.zeros((2, 64), np.float32), events=[Event(0, "set", param=known.capitalize(), value=0.0)])
