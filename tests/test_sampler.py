"""The sampler plays its recordings: in tune, clean when transposed, without a seam in its loops, as its zones say."""

import numpy as np
import pytest
import scipy.signal
from contract import AUDIBLE, RATE, InstrumentContract, play

from soundloom.audio import Waveform
from soundloom.errors import InstrumentError
from soundloom.instruments import samplekernel
from soundloom.instruments.base import Event
from soundloom.instruments.sampler import Sampler
from soundloom.instruments.samplestore import MOST_FRAMES
from soundloom.instruments.zones import Envelope, Keymap, Loop, Motion, Sound, Zone, spread

PLAIN = {"gain_db": 0.0, "velocity_db": 0.0}


def sine(hz, *, seconds=1.0, sample_rate=RATE, phase=0.0):
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    return 0.5 * np.sin(2 * np.pi * hz * t + phase)


def wave(*channels, sample_rate=RATE):
    return Waveform(np.stack(channels).astype(np.float32), sample_rate)


def sampled(*zones, voices=8, **settings):
    return Sampler(PLAIN | settings, voices=voices, source=Keymap(zones))


def note(instrument, n, *, pitch=60.0, velocity=1.0, off=None, sample_rate=RATE):
    events = [Event(0, "on", 1, pitch, velocity)] + ([] if off is None else [Event(off, "off", 1)])
    return play(instrument, events, n, sample_rate=sample_rate).astype(np.float64)


def fitted(audio, hz, *, sample_rate=RATE):
    """Amplitude of the best sine of a frequency, and what is left beside it in dB."""
    turn = 2 * np.pi * hz * np.arange(len(audio)) / sample_rate
    basis = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    weights = np.linalg.lstsq(basis, audio)[0]
    rest = audio - basis @ weights
    return np.hypot(*weights), 10 * np.log10((np.mean(rest**2) + 1e-30) / (np.mean(audio**2) + 1e-30))


def level_db(audio):
    return 20 * np.log10(np.sqrt(np.mean(np.square(audio))) + 1e-12)


@pytest.mark.parametrize("recorded", [22050, 44100, 48000, 96000])
@pytest.mark.parametrize("sample_rate", [44100, 48000])
def test_transposing_a_sine_is_clean_and_in_tune(recorded, sample_rate):
    """Within an octave, below 10 kHz of the recording: what is beside the sine is below -80 dB, so it is in tune too.

    A hundredth of a cent off would leave more than that over half a second at 10 kHz.
    """
    for hz in (100.0, 997.0, 4000.0, 9900.0):
        if hz > 0.35 * recorded:
            continue
        instrument = sampled(Zone(wave(sine(hz, seconds=2.0, sample_rate=recorded), sample_rate=recorded)))
        for semitones in (-12, -5.3, 0, 1, 2.9, 7, 12):
            sounds = hz * 2 ** (semitones / 12)
            if sounds < 0.45 * sample_rate:
                audio = note(instrument, sample_rate // 2, pitch=60 + semitones, sample_rate=sample_rate)[0]
                amplitude, rest_db = fitted(audio[2000:], sounds, sample_rate=sample_rate)
                assert rest_db < -80, (hz, semitones)
                assert amplitude == pytest.approx(0.5, rel=0.005), (hz, semitones)


def test_recordings_play_as_they_are_at_their_own_pitch_and_rate():
    rng = np.random.default_rng(0)
    noise = scipy.signal.sosfilt(scipy.signal.butter(8, 15_000, fs=RATE, output="sos"), rng.standard_normal(20_000)) / 8
    audio = note(sampled(Zone(wave(noise)), attack_s=0.0005), 20_000)[0]
    np.testing.assert_allclose(audio[100:19_900], noise[100:19_900], rtol=0, atol=2e-5)


@pytest.mark.parametrize("semitones", [7, 12, 19, 24, 31])
def test_what_would_fold_back_is_left_out(semitones):
    """A tone that would come to lie above half the sample rate is gone, not somewhere else."""
    hz = 1.25 * RATE / 2 / 2 ** (semitones / 12)
    audio = note(sampled(Zone(wave(sine(hz, seconds=3.0)))), 8000, pitch=60 + semitones)
    assert level_db(audio[:, 1000:]) < level_db(sine(hz)) - 80


@pytest.mark.parametrize("period", [32, 100.5, 441])
@pytest.mark.parametrize("semitones", [-7, 0, 0.4, 5, 14])
def test_a_loop_has_no_seam(period, semitones):
    """A sine in a loop of whole periods stays one for as long as it is held, transposed or not: -80 dB of all else."""
    cycles = 2 if period == 100.5 else 1
    hz = RATE / period
    loop = Loop(500, 500 + round(cycles * period))
    instrument = sampled(Zone(wave(sine(hz, seconds=0.1)), loop=loop), sustain=1.0)
    audio = note(instrument, RATE, pitch=60 + semitones)[0]
    assert fitted(audio[500:], hz * 2 ** (semitones / 12))[1] < -80


def test_a_seam_that_does_not_fit_is_faded():
    """A loop that begins at another phase than it ends clicks; with a cross-fade of 20 ms the click is gone."""
    high = scipy.signal.butter(8, 4000, "highpass", fs=RATE, output="sos")
    hz = 220.0
    clicks = []
    for crossfade in (0, 900):
        loop = Loop(8000, 8000 + round(10.37 * RATE / hz), crossfade=crossfade)
        audio = note(sampled(Zone(wave(sine(hz)), loop=loop)), RATE)[0]
        clicks.append(np.abs(scipy.signal.sosfilt(high, audio))[2000:].max())
        assert 0.4 < np.abs(audio[20_000:]).max() < 0.65
    assert clicks[1] < clicks[0] / 100


def test_a_loop_until_release_plays_the_rest():
    """First the low tone in its loop; the high tone that comes after the loop is heard after the key only."""
    both = np.concatenate([sine(441, seconds=0.2), sine(1764, seconds=0.5)])
    for until_release in (True, False):
        zone = Zone(wave(both), loop=Loop(2000, 4000, until_release), envelope=Envelope(release_s=10.0))
        audio = note(sampled(zone), 2 * RATE, off=RATE)[0]
        assert fitted(audio[1000:RATE], 441)[1] < -80
        after = audio[RATE + 8820 : RATE + 20_000]
        amplitude, _ = fitted(after, 1764)
        assert (amplitude > 0.3) == until_release
        assert (np.abs(audio[RATE + 40_000 :]).max() < 1e-6) == until_release


def test_start_and_end_are_frames_of_the_recording():
    steps = np.repeat(np.arange(1, 5) / 10, 2000)
    zone = Zone(wave(steps), start=2000, end=6000)
    audio = note(sampled(zone), 8000)[0]
    assert audio[1000] == pytest.approx(0.2, abs=1e-4)
    assert audio[3000] == pytest.approx(0.3, abs=1e-4)
    assert np.abs(audio[4200:]).max() < 1e-6


def test_a_one_shot_plays_on_after_its_key():
    tone = wave(sine(441))
    short, long = (note(sampled(Zone(tone, one_shot=flag)), RATE, off=4000)[0] for flag in (False, True))
    assert level_db(short[30_000:]) < -80
    assert level_db(long[30_000:40_000]) == pytest.approx(level_db(sine(441)), abs=0.1)


def test_stereo_and_layers_and_pan():
    """Two channels stay apart, two zones add up, pan keeps the power."""
    stereo = note(sampled(Zone(wave(sine(441), sine(882)))), 8000)[:, 1000:]
    for side, hz in ((0, 441), (1, 882)):
        amplitude, rest = fitted(stereo[side], hz)
        assert amplitude == pytest.approx(0.5, rel=0.002)
        assert rest < -80
    instrument = sampled(Zone(wave(sine(441)), pan=-1.0), Zone(wave(sine(882)), pan=1.0, gain_db=-6.0))
    apart = note(instrument, 8000)[:, 1000:]
    assert fitted(apart[0], 441)[0] == pytest.approx(0.5 * np.sqrt(2), rel=0.002)
    assert fitted(apart[1], 882)[0] == pytest.approx(0.5 * np.sqrt(2) * 10**-0.3, rel=0.002)
    assert max(fitted(side, hz)[1] for side, hz in ((apart[0], 441), (apart[1], 882))) < -80
    left, right = (level_db(side) for side in note(sampled(Zone(wave(sine(441)), pan=0.4)), 8000)[:, 1000:])
    assert 10 ** (left / 10) + 10 ** (right / 10) == pytest.approx(2 * 10 ** (level_db(sine(441)) / 10), rel=0.01)
    assert right > left + 4


def heard(instrument, events, n, frequencies):
    """Which of the tones sound over the last part of n samples."""
    audio = play(instrument, events, n)[0].astype(np.float64)[-3000:]
    return {hz for hz in frequencies if fitted(audio, hz)[0] > 0.05}


def test_keys_and_velocities_choose_their_zones():
    zones = [
        Zone(wave(sine(441)), high_key=59, key_tracking=0.0),
        Zone(wave(sine(882)), low_key=60, high_velocity=63, key_tracking=0.0),
        Zone(wave(sine(1764)), low_key=60, low_velocity=64, key_tracking=0.0),
    ]
    tones = (441, 882, 1764)
    for pitch, velocity, expected in (
        (59.4, 1.0, 441), (59.6, 0.3, 882), (72, 63 / 127, 882), (72, 64 / 127, 1764), (-3, 1.0, 441), (131, 1.1, 1764),
    ):  # fmt: skip
        on = [Event(0, "on", 1, pitch, velocity)]
        assert heard(sampled(*zones), on, 5000, tones) == {expected}
    assert heard(sampled(*zones), [Event(0, "on", 1, 60, 0.0)], 5000, tones) == set()


def test_zones_take_turns():
    tones = (441, 882, 1323)
    zones = [Zone(wave(sine(hz, seconds=0.1)), turn=turn, turns=3) for turn, hz in enumerate(tones)]
    events = [Event(6000 * i, "on", i, 60.0, 1.0) for i in range(5)]
    audio = play(sampled(*zones), events, 30_000)[0].astype(np.float64)
    loudest = [max(tones, key=lambda hz: fitted(audio[6000 * i + 500 : 6000 * i + 4000], hz)[0]) for i in range(5)]
    assert loudest == [441, 882, 1323, 441, 882]


def test_a_note_without_luck_does_not_take_the_luck_of_the_next():
    sampler = sampled(Zone(wave(sine(500)), chance=(0.0, 0.5)), velocity_db=0.0)
    state, heard = sampler.init_state(RATE), 0
    for number in range(60):
        block, state = sampler.process(state, [Event(0, "on", number)], 1024)
        heard += np.abs(block).max() > 0.1
        _, state = sampler.process(state, [Event(0, "stop")], 1024)
    assert 18 <= heard <= 42


def test_turned_around_the_softest_touch_is_the_loudest():
    zone = Zone(wave(sine(500)), velocity_tracking=-1.0)
    soft, middle, hard = (np.abs(note(sampled(zone, velocity_db=40.0), 8000, velocity=v)).max() for v in (0.01, 0.5, 1))
    assert 0.4 < soft < 0.51
    assert 20 * np.log10(soft / middle) == pytest.approx(12, abs=0.3)
    assert hard < 1e-3


def test_chance_draws_one_zone_and_both_come_up():
    tones = (441, 882)
    zones = [Zone(wave(sine(hz, seconds=0.05)), chance=(0.5 * i, 0.5 * i + 0.5)) for i, hz in enumerate(tones)]
    events = [Event(3000 * i, "on", i, 60.0, 1.0) for i in range(40)]
    audio = play(sampled(*zones), events, 120_000)[0].astype(np.float64)
    drawn = []
    for i in range(40):
        part = audio[3000 * i + 300 : 3000 * i + 2000]
        there = [hz for hz in tones if fitted(part, hz)[0] > 0.3]
        assert len(there) == 1
        drawn += there
    assert 10 <= drawn.count(441) <= 30


def test_a_closed_hat_silences_the_open_one():
    tones = (441, 882)
    zones = [Zone(wave(sine(hz)), low_key=k, high_key=k, key_tracking=0.0, group=7, silenced_by=7)
             for hz, k in zip(tones, (46, 42), strict=True)]  # fmt: skip
    events = [Event(0, "on", 1, 46.0, 1.0), Event(2000, "on", 2, 42.0, 1.0)]
    assert heard(sampled(*zones), events[:1], 8000, tones) == {441}
    assert heard(sampled(*zones), events, 8000, tones) == {882}
    both = [Zone(wave(sine(hz)), group=7, silenced_by=7) for hz in tones]
    assert heard(sampled(*both), [Event(0, "on", 1, 60.0, 1.0)], 8000, tones) == set(tones)  # layers do not


def test_the_envelope_is_what_the_zone_says():
    """Silence, a straight rise, a hold, a fall in decibels to the sustain, a fall after the key."""
    said = Envelope(delay_s=0.1, attack_s=0.2, hold_s=0.15, decay_s=1.2, sustain=0.1, release_s=0.6)
    t = np.arange(8000) / RATE
    tone = Zone(wave(0.5 * np.sin(2 * np.pi * 4410 * t)), loop=Loop(1000, 7000), envelope=said)
    audio = note(sampled(tone), 3 * RATE, off=2 * RATE)[0]
    level = np.abs(scipy.signal.hilbert(audio)) / 0.5

    def at(seconds):
        middle = round(seconds * RATE)
        return level[middle - 40 : middle + 40].mean()

    assert at(0.09) < 1e-4
    assert at(0.2) == pytest.approx(0.5, abs=0.01)
    assert at(0.4) == pytest.approx(1.0, abs=0.01)
    assert 20 * np.log10(at(0.65)) == pytest.approx(-10, abs=0.2)  # 0.2 s into the decay
    assert at(1.2) == pytest.approx(0.1, rel=0.02)
    assert 20 * np.log10(at(2.3) / at(2.1)) == pytest.approx(-20, abs=0.2)


def test_knobs_say_what_zones_do_not_and_scale_what_they_say():
    tone, loop = wave(sine(4410)), Loop(4410, 22050)

    def fall_db(zone, **settings):
        audio = note(sampled(zone, **settings), 2 * RATE, off=RATE)[0]
        early, late = (level_db(audio[RATE + 2205 * i : RATE + 2205 * i + 1000]) for i in (1, 3))
        return late - early  # in a tenth of a second

    assert fall_db(Zone(tone, loop=loop), release_s=0.5) == pytest.approx(-12, abs=0.3)
    own = Zone(tone, loop=loop, envelope=Envelope(release_s=1.0))
    assert fall_db(own) == pytest.approx(-6, abs=0.3)
    assert fall_db(own, release_s=0.4) == pytest.approx(-3, abs=0.3)  # twice the default: twice as long


def test_the_filter_cuts_where_zone_and_knob_say():
    """A Butterworth at rest: -3 dB at the cutoff, -12 dB an octave; the knob moves a zone's own by octaves."""
    tone = wave(sine(1000))
    at = {f: level_db(note(sampled(Zone(tone, cutoff_hz=f)), 9000)[0, 4000:]) for f in (20_000.0, 1000.0, 250.0)}
    assert at[1000.0] - at[20_000.0] == pytest.approx(-3.01, abs=0.1)
    assert at[250.0] - at[20_000.0] == pytest.approx(-24.1, abs=0.3)
    moved = level_db(note(sampled(Zone(tone, cutoff_hz=1000.0), cutoff_hz=5000.0), 9000)[0, 4000:])
    assert moved == pytest.approx(at[250.0], abs=0.05)
    rings = level_db(note(sampled(Zone(tone, cutoff_hz=1000.0, resonance_db=12.0)), 9000)[0, 4000:])
    assert rings - at[1000.0] == pytest.approx(12, abs=0.2)


def test_closing_the_filter_does_not_click():
    high = scipy.signal.butter(8, 5000, "highpass", fs=RATE, output="sos")
    instrument = sampled(Zone(wave(sine(110)), loop=Loop(0, 8820)))
    events = [Event(0, "on", 1, 60.0, 1.0), Event(8000, "set", param="cutoff_hz", value=3000.0)]
    audio = play(instrument, events, 16_000)[0].astype(np.float64)
    assert np.abs(scipy.signal.sosfilt(high, audio))[7500:].max() < 1e-3


def test_a_bend_glides():
    """Bent by two semitones in one step: the pitch gets there, and no click comes of it."""
    high = scipy.signal.butter(8, 5000, "highpass", fs=RATE, output="sos")
    instrument = sampled(Zone(wave(sine(220, seconds=2.0))))
    events = [Event(0, "on", 1, 60.0, 1.0), Event(8001, "bend", value=2.0)]
    audio = play(instrument, events, 30_000)[0].astype(np.float64)
    assert fitted(audio[9000:], 220 * 2 ** (2 / 12))[1] < -80
    assert np.abs(scipy.signal.sosfilt(high, audio))[7500:].max() < 1e-3


def test_vibrato_swings_as_far_as_the_knob_says():
    audio = note(sampled(Zone(wave(sine(2000, seconds=3.0))), vibrato_cents=50.0, vibrato_hz=4.0), 2 * RATE)[0]
    phase = np.unwrap(np.angle(scipy.signal.hilbert(audio)))
    cents = 1200 * np.log2(np.gradient(phase)[4000:-4000] * RATE / (2 * np.pi) / 2000)
    assert np.percentile(cents, 99.9) == pytest.approx(50, abs=1)
    assert np.percentile(cents, 0.1) == pytest.approx(-50, abs=1)


def test_a_zone_moves_by_itself():
    """Its envelope bends the pitch and opens the filter, its LFO swings the level, its vibrato the pitch, in time."""
    tone = wave(sine(2000, seconds=3.0))

    def cents(motion):
        audio = note(sampled(Zone(tone, motion=motion)), 2 * RATE)[0]
        hz = np.gradient(np.unwrap(np.angle(scipy.signal.hilbert(audio)))) * RATE / (2 * np.pi)
        return 1200 * np.log2(hz.clip(1) / 2000)

    falls = Envelope(attack_s=0.0, hold_s=0.2, decay_s=1.0, sustain=0.25)
    bent = cents(Motion(falls, envelope_semitones=12.0))
    for seconds, expected in ((0.1, 1200), (0.7, 600), (1.6, 300)):
        assert bent[round(seconds * RATE)] == pytest.approx(expected, abs=3)
    swung = cents(Motion(vibrato_hz=2.0, vibrato_delay_s=0.5, vibrato_semitones=0.5))
    for seconds, expected in ((0.25, 0), (0.625, 50), (0.875, -50), (1.0, 0)):
        assert swung[round(seconds * RATE)] == pytest.approx(expected, abs=2)
    level = np.abs(scipy.signal.hilbert(note(sampled(Zone(tone, motion=Motion(lfo_hz=2.0, lfo_db=6.0))), RATE)[0]))
    for seconds, expected in ((0.125, 6), (0.25, 0), (0.375, -6)):
        assert 20 * np.log10(level[round(seconds * RATE)] / 0.5) == pytest.approx(expected, abs=0.1)
    opens = Zone(tone, cutoff_hz=500.0, motion=Motion(falls, envelope_octaves=2.0))
    audio = note(sampled(opens), 2 * RATE)[0]
    early, late = (level_db(audio[round(s * RATE) :][:4000]) for s in (0.08, 1.5))
    assert early - level_db(sine(2000)) == pytest.approx(-3.0, abs=0.2)
    assert late - early == pytest.approx(-15.1, abs=0.3)  # at 500 · 2^0.5 Hz: 18.1 dB down


def test_velocity_and_key_move_what_they_should():
    tone = wave(sine(441))

    def level(velocity, tracking=1.0, **settings):
        return level_db(note(sampled(Zone(tone, velocity_tracking=tracking), **settings), 8000, velocity=velocity)[0])

    assert level(0.1, velocity_db=40.0) - level(1.0) == pytest.approx(-40, abs=0.1)
    assert level(0.1, velocity_db=20.0) - level(1.0) == pytest.approx(-20, abs=0.1)
    assert level(0.1, 0.0, velocity_db=40.0) == pytest.approx(level(1.0), abs=0.01)
    fixed = note(sampled(Zone(tone, key_tracking=0.0, tune=0.5)), 8000, pitch=84)[0, 500:]
    assert fitted(fixed, 441 * 2 ** (0.5 / 12))[1] < -80
    half = note(sampled(Zone(tone, key_tracking=0.5)), 8000, pitch=72)[0, 500:]
    assert fitted(half, 441 * 2**0.5)[1] < -80


def test_a_note_without_a_zone_is_silent_and_the_plain_tone_is_not():
    assert np.abs(note(sampled(Zone(wave(sine(441)), high_key=50)), 4000)).max() == 0
    assert 0.2 < np.abs(play(Sampler(), [Event(0, "on", 1, 60.0, 0.8)], RATE)).max() < 0.7


def rich():
    """Zones that use all there is: stereo, layers, turns, chance, groups, loops, filters, motion, delays."""
    tones = [wave(sine(220.0 * k, seconds=0.4), sine(221.0 * k, seconds=0.4, phase=1.0)) for k in (1, 2, 3)]
    late = Envelope(delay_s=0.003, attack_s=0.01, hold_s=0.02, decay_s=0.5, sustain=0.4)
    moving = Motion(
        Envelope(attack_s=0.02, decay_s=0.1, sustain=0.3), envelope_octaves=2.0, envelope_semitones=0.5, lfo_hz=7.0,
        lfo_db=3.0, vibrato_semitones=0.2,
    )  # fmt: skip
    return Keymap((
        Zone(tones[0], loop=Loop(4000, 9000, until_release=True, crossfade=400), motion=moving, cutoff_hz=800.0),
        Zone(tones[1], loop=Loop(200, 240), envelope=late, turn=0, turns=2, pan=-0.5),
        Zone(tones[2], turn=1, turns=2, group=3, silenced_by=3, chance=(0.0, 0.7), resonance_db=3.0, cutoff_hz=3000.0),
        Zone(tones[2], high_key=59, key_tracking=0.3, gain_db=-6.0, start=300, end=9000),
    ))  # fmt: skip


class TestRichContract(InstrumentContract):
    """The contract of all instruments, kept by zones that use all there is."""

    @pytest.fixture
    def name(self):
        AUDIBLE["sampler, rich"] = AUDIBLE["sampler"]
        return "sampler, rich"

    @pytest.fixture
    def make(self):
        source = rich()
        return lambda settings=None, voices=4: Sampler(settings, voices=voices, source=source)


def test_sounds_are_spread_without_gaps():
    """Every key and velocity has its nearest sound: layers each over the whole keyboard, equals in turn."""
    tone = wave(sine(441))
    loud = [Sound(tone, pitch, 0.9) for pitch in (48, 60, 72)]
    soft = [Sound(tone, pitch, 0.4) for pitch in (48, 72)]
    made = spread([*loud, *soft])
    for key in range(128):
        for touch in (1, 40, 82, 83, 127):
            (zone,) = (made.zones[i] for i in made.at(key, touch / 127))
            near = (48, 60, 72) if touch > 82 else (48, 72)
            assert abs(zone.pitch - key) == min(abs(pitch - key) for pitch in near)
    equals = spread([Sound(tone, 60.0), Sound(tone, 60.1), Sound(tone, 64.0)])
    assert [(z.turn, z.turns) for z in equals.zones] == [(0, 2), (1, 2), (0, 1)]
    drums = spread([Sound(tone, key=36), Sound(tone, key=38, velocity=0.5), Sound(tone, key=38, velocity=1.0)])
    assert [(z.low_key, z.high_key, z.pitch, z.one_shot) for z in drums.zones] == [
        (36, 36, 36, True), (38, 38, 38, True), (38, 38, 38, True),
    ]  # fmt: skip
    assert [(z.low_velocity, z.high_velocity) for z in drums.zones] == [(0, 127), (0, 95), (96, 127)]


def test_what_cannot_be_played_is_refused():
    tone = wave(sine(441))
    with pytest.raises(InstrumentError, match="no zone"):
        Keymap(())
    with pytest.raises(InstrumentError, match="from frame 0 to 50000"):
        Zone(tone, end=50_000)
    with pytest.raises(InstrumentError, match="a loop goes from frame 400 to 300"):
        Zone(tone, loop=Loop(400, 300))
    with pytest.raises(InstrumentError, match="3 channels"):
        Zone(wave(*[sine(441)] * 3))
    with pytest.raises(InstrumentError, match="no finite number"):
        Zone(tone, tune=float("nan"))
    endless = Waveform(np.broadcast_to(np.zeros((1, 1), np.float32), (1, MOST_FRAMES + 1)), RATE)
    with pytest.raises(InstrumentError, match="more than"):
        Sampler(source=Keymap((Zone(endless),)))


def test_kernels_are_compiled_once():
    note(sampled(Zone(wave(sine(441), sine(441)))), 100)
    assert len(samplekernel.render.signatures) == 1
