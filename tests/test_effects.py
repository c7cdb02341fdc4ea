"""Effects do what their knobs say, in decibels, hertz and seconds; and an instrument followed by effects is one."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play, treat

from soundloom.errors import ConfigError
from soundloom.instruments import chorus, compressor, delay, drive, equaliser, gliding, reverb
from soundloom.instruments.base import Event
from soundloom.instruments.chain import Chain
from soundloom.instruments.chorus import Chorus
from soundloom.instruments.compressor import Compressor
from soundloom.instruments.delay import Delay
from soundloom.instruments.drive import Drive
from soundloom.instruments.engines import EFFECTS, effect
from soundloom.instruments.equaliser import Equaliser
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.reverb import Reverb


def impulse(n, *, left=1.0, right=1.0):
    audio = np.zeros((2, n), np.float32)
    audio[:, 0] = left, right
    return audio


def sine(hz, n, *, level=0.5, sample_rate=RATE):
    return np.tile(level * np.sin(2 * np.pi * hz * np.arange(n) / sample_rate), (2, 1)).astype(np.float32)


def db(ratio):
    return 20 * np.log10(np.maximum(np.abs(ratio), 1e-12))


def response(made, frequencies, *, n=1 << 15, sample_rate=RATE):
    """Gain in dB at frequencies, from a click so soft that nothing saturates."""
    out = treat(made, impulse(n) * np.float32(1e-3), sample_rate=sample_rate)[0].astype(np.float64) / 1e-3
    return db(np.exp(-2j * np.pi * np.outer(frequencies, np.arange(n)) / sample_rate) @ out)


@pytest.mark.parametrize("name", [name for name in EFFECTS if name not in ("drive", "equaliser")])
def test_without_mix_nothing_changes(name):
    audio = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 4000)).astype(np.float32)
    np.testing.assert_allclose(treat(effect(name)({"mix": 0.0}), audio), audio, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", EFFECTS)
def test_knobs_do_not_click(name):
    """A low tone while one knob after the other is turned from end to end: no highs beside what the knob makes."""
    settings = {
        "equaliser": {"low_db": 9.0, "peak1_db": -9.0, "peak2_db": 9.0, "high_db": -9.0},
        "drive": {"drive_db": 6.0},
    }.get(name, {})
    high = scipy.signal.butter(8, 7000, "highpass", fs=RATE, output="sos")
    n, at = 40_000, 20_000
    audio = sine(99.0, n, level=0.25)
    params = effect(name)().params
    for param in params:
        ends = [
            treat(effect(name)({**settings, param.name: value}), audio).astype(np.float64)
            for value in (param.low, param.high)
        ]
        event = Event(at, "set", param=param.name, value=param.high)
        turned = treat(effect(name)({**settings, param.name: param.low}), audio, events=[event]).astype(np.float64)
        step = np.abs(ends[0][:, at:] - ends[1][:, at:]).max()
        cut = np.where(np.arange(n) < at, ends[0], ends[1])  # the knob turned at once, which clicks
        around = slice(at - 500, at + 4000)
        hiss, click = (np.abs(scipy.signal.sosfilt(high, x))[:, around].max() for x in (turned, cut))
        made = max(np.abs(scipy.signal.sosfilt(high, x))[:, 8000:].max() for x in ends)
        assert hiss < max(0.1 * click, 1.5 * made, 1e-3 * step), param.name


def test_echoes_come_in_time_and_each_is_softer():
    audio = treat(Delay({"time_s": 0.1, "feedback": 0.5, "mix": 1.0, "low_cut_hz": 10.0}), impulse(5 * 4410))
    assert np.flatnonzero(np.abs(audio[0]) > 1e-3)[0] == 4410
    assert audio[0, 4410] == pytest.approx(1, abs=1e-6)
    spectra = [np.fft.rfft(audio[0, k * 4410 : (k + 1) * 4410]) for k in (1, 2, 3)]  # bins of 10 Hz
    for k in (1, 2):
        assert db(spectra[k][30] / spectra[k - 1][30]) == pytest.approx(db(0.5), abs=0.05)


@pytest.mark.parametrize("cut_hz", [700.0, 3000.0, 12000.0])
def test_each_echo_is_filtered_where_the_knobs_say(cut_hz):
    low = {"low_cut_hz": cut_hz, "high_cut_hz": 20000.0} if cut_hz < 2000 else {"high_cut_hz": cut_hz}
    audio = treat(
        Delay({"time_s": 0.1, "feedback": 0.5, "mix": 1.0, "low_cut_hz": 10.0, **low}), impulse(3 * 4410)
    )[0]  # fmt: skip
    gain = np.fft.rfft(audio[8820:13230])[round(cut_hz / 10)] / np.fft.rfft(audio[4410:8820])[round(cut_hz / 10)]
    assert db(gain / 0.5) == pytest.approx(-3.01, abs=0.05)


def test_echoes_go_from_side_to_side():
    settings = {"time_s": 0.1, "feedback": 0.6, "ping_pong": 1.0, "mix": 1.0}
    audio = treat(Delay(settings), impulse(5 * 4410, left=0.3, right=0.9))
    peaks = np.abs(audio).reshape(2, 5, 4410).max(axis=2)
    for k, side in ((1, 0), (2, 1), (3, 0), (4, 1)):
        assert peaks[side, k] > 0.01
        assert peaks[1 - side, k] < 1e-6


def test_a_delay_glides_like_a_tape():
    """While the time is changed, what is in the line plays at half or one and a half times its pace, then as before."""
    for start, end in ((0.1, 0.4), (0.4, 0.1)):
        event = Event(RATE, "set", param="time_s", value=end)
        audio = treat(Delay({"time_s": start, "feedback": 0.0, "mix": 1.0}), sine(1000.0, 3 * RATE), events=[event])[0]
        turns = np.unwrap(np.angle(scipy.signal.hilbert(audio.astype(np.float64)))) / (2 * np.pi)
        hz = np.gradient(turns)[22_050:-4410] * RATE
        extreme = hz.min() if end > start else hz.max()
        assert extreme == pytest.approx(500 if end > start else 1500, abs=20)
        assert hz[-RATE // 4 :].mean() == pytest.approx(1000, abs=0.1)


def decay_s(ring, sample_rate=RATE):
    """RT60 by Schroeder's integration: the slope of the energy that is still to come, from -5 to -35 dB."""
    left = np.cumsum(ring[::-1] ** 2)[::-1]
    level = 10 * np.log10(left / left[0] + 1e-20)
    first, last = np.argmax(level < -5), np.argmax(level < -35)
    return -60 / np.polyfit(np.arange(first, last) / sample_rate, level[first:last], 1)[0]


def band(ring, low, high, sample_rate=RATE):
    return scipy.signal.sosfilt(scipy.signal.butter(4, [low, high], "bandpass", fs=sample_rate, output="sos"), ring)


@pytest.mark.parametrize(
    ("seconds", "size", "sample_rate"),
    [(0.5, 0.5, 44100), (1.0, 1.0, 44100), (2.0, 0.4, 48000), (3.0, 2.0, 44100), (8.0, 1.0, 44100)],
)
def test_a_room_decays_in_the_time_asked(seconds, size, sample_rate):
    settings = {"decay_s": seconds, "size": size, "damping": 0.0, "low_cut_hz": 10.0, "mix": 1.0}
    rings = treat(
        Reverb(settings), impulse(int((seconds + 0.3) * sample_rate), right=0.0), sample_rate=sample_rate
    ).astype(np.float64)  # fmt: skip
    for ring in rings:
        assert decay_s(ring, sample_rate) == pytest.approx(seconds, rel=0.1)
        for low, high in ((200, 800), (800, 3000), (3000, 7000)):
            assert decay_s(band(ring, low, high, sample_rate), sample_rate) == pytest.approx(seconds, rel=0.1)


def test_damping_makes_highs_die_sooner():
    ring = treat(Reverb({"decay_s": 2.0, "damping": 0.6, "damping_hz": 3000.0, "mix": 1.0}), impulse(2 * RATE))[0]
    assert decay_s(band(ring, 150, 500)) == pytest.approx(2, rel=0.1)
    assert decay_s(band(ring, 10_000, 15_000)) == pytest.approx(2 / 10**0.6, rel=0.2)


def test_a_room_is_dense_and_rings_on_no_tone():
    """From 0.1 s on as many samples beyond a standard deviation as in noise (Abel and Huang, 2006); and in the late
    spectrum nothing that stands out much further from its neighbours than in noise that dies away as fast."""
    settings = {"decay_s": 2.0, "damping": 0.2, "pre_delay_s": 0.0, "mix": 1.0}
    ring = treat(Reverb(settings), impulse(2 * RATE, right=0.0)).astype(np.float64)
    for at in range(4410, RATE, 2048):
        window = ring[0, at : at + 2048]
        assert 0.85 < (np.abs(window) > window.std()).mean() / 0.3173 < 1.15
    assert abs(np.corrcoef(ring)[0, 1]) < 0.2

    def standing_out(sound):
        power = np.abs(np.fft.rfft(sound[RATE // 2 : RATE // 2 + 16384] * np.hanning(16384))) ** 2
        near = scipy.ndimage.uniform_filter1d(power, 301)
        return 10 * np.log10((power / near)[75:3000].max())

    noise = np.random.default_rng(0).standard_normal(2 * RATE) * 10 ** (-3 * np.arange(2 * RATE) / (2 * RATE))
    assert standing_out(ring[0]) < standing_out(noise) + 3


def test_a_steady_sound_is_as_loud_in_any_room():
    noise = np.random.default_rng(0).standard_normal((2, 5 * RATE)).astype(np.float32) * 0.1
    for seconds in (0.4, 1.0, 3.0):
        for size in (0.4, 1.5):
            settings = {"decay_s": seconds, "size": size, "damping": 0.0, "low_cut_hz": 10.0, "mix": 1.0}
            level = treat(Reverb(settings), noise)[:, -2 * RATE :].std(axis=1) / 0.1
            assert np.abs(db(level)).max() < 2.5, (seconds, size)


def test_a_room_begins_when_it_should_and_is_as_wide_as_asked():
    starts = []
    for pre in (0.0, 0.1):
        ring = treat(Reverb({"pre_delay_s": pre, "mix": 1.0}), impulse(RATE // 2, right=0.0))
        starts.append(np.flatnonzero(np.abs(ring).max(axis=0) > 1e-3)[0])
        assert np.abs(ring[0] - ring[1]).max() > 0.01
    assert starts[1] - starts[0] == 4410
    flat = treat(Reverb({"width": 0.0, "mix": 1.0}), impulse(RATE // 2, right=0.0))
    np.testing.assert_allclose(flat[0], flat[1], rtol=0, atol=1e-7)


def test_a_flanger_has_its_notches_where_the_delay_says():
    """Beside itself 1 ms later: nothing at 500 Hz and its odd multiples, up to where few delays are read well."""
    settings = {"voices": 1.0, "depth_s": 0.0, "delay_s": 0.001, "mix": 0.5}
    gains = response(Chorus(settings), [500.0, 1500.0, 9500.0, 1000.0, 10_000.0])
    assert gains[:3].max() < -30
    assert gains[3:] == pytest.approx(0, abs=0.2)


def test_chorus_swings_as_far_and_as_often_as_asked():
    """Pitch goes by 2 pi rate depth either way; with no spread both sides are one."""
    settings = {"voices": 1.0, "depth_s": 0.002, "rate_hz": 2.0, "mix": 1.0, "spread": 0.0}
    audio = treat(Chorus(settings), sine(1000.0, 3 * RATE))
    np.testing.assert_allclose(audio[0], audio[1], rtol=0, atol=1e-7)
    turns = np.unwrap(np.angle(scipy.signal.hilbert(audio[0].astype(np.float64)))) / (2 * np.pi)
    hz = np.gradient(turns)[RATE // 2 : 5 * RATE // 2] * RATE
    assert hz.max() / 1000 - 1 == pytest.approx(2 * np.pi * 2 * 0.002, rel=0.02)
    assert 1 - hz.min() / 1000 == pytest.approx(2 * np.pi * 2 * 0.002, rel=0.02)
    swings = np.flatnonzero(np.diff(np.sign(hz - 1000)) > 0)
    assert len(swings) == pytest.approx(4, abs=1)
    wide = treat(Chorus({**settings, "spread": 1.0}), sine(1000.0, RATE))
    assert np.abs(wide[0] - wide[1]).max() > 0.3


def harmonics(audio, bin_hz_index, *, n=1 << 15):
    """The spectrum in dB below its peak, and which bins are harmonics of the one given."""
    level = db(np.fft.rfft(audio[-n:] * scipy.signal.windows.blackmanharris(n)))
    bins = np.arange(len(level))
    nearest = np.maximum(np.round(bins / bin_hz_index), 1) * bin_hz_index
    return level - level.max(), np.abs(bins - nearest) < 6


@pytest.mark.parametrize(
    ("hz", "drive_db", "below"), [(220, 24.0, -120), (1000, 24.0, -120), (1000, 36.0, -90), (5000, 24.0, -70)]
)
def test_drive_does_not_alias(hz, drive_db, below):
    """A sine at half of full scale: beside the overtones there is nothing up to 15 kHz."""
    k = round(hz * 32768 / RATE) | 1
    audio = treat(Drive({"drive_db": drive_db, "tone_hz": 20000.0}), sine(k * RATE / 32768, 40_000))[0]
    level, harmonic = harmonics(audio, k)
    beside = level[5 : round(15_000 * 32768 / RATE)][~harmonic[5 : round(15_000 * 32768 / RATE)]]
    assert beside.max() < below


def test_drive_makes_odd_overtones_and_with_bias_even_ones():
    k = 301
    for bias, even in ((0.0, False), (0.6, True)):
        level, _ = harmonics(treat(Drive({"drive_db": 12.0, "bias": bias}), sine(k * RATE / 32768, 40_000))[0], k)
        assert level[3 * k] > -30
        assert (level[2 * k] > -30) == even
        assert level[2 * k] < -100 or even
        assert level[0] < -60


@pytest.mark.parametrize("drive_db", [0.0, 12.0, 30.0, 48.0])
def test_drive_keeps_the_level(drive_db):
    audio = treat(Drive({"drive_db": drive_db, "bias": 0.0, "tone_hz": 20000.0}), sine(200.0, RATE, level=0.25))[0]
    assert np.percentile(np.abs(audio[RATE // 2 :]), 95) == pytest.approx(0.25, rel=0.05)  # not where it overshoots


def test_drive_without_mix_is_flat():
    gains = response(Drive({"mix": 0.0}), [50.0, 1000.0, 5000.0, 10_000.0, 15_000.0, 18_000.0])
    assert np.abs(gains).max() < 0.1


def static_curve(level_db, threshold_db, ratio, knee_db):
    """What comes out at a level, by the definition of a soft knee (a parabola that touches both lines)."""
    over = level_db - threshold_db
    if 2 * over < -knee_db:
        return level_db
    if 2 * abs(over) <= knee_db:
        return level_db + (1 / ratio - 1) * (over + knee_db / 2) ** 2 / (2 * knee_db)
    return threshold_db + over / ratio


@pytest.mark.parametrize(
    ("threshold_db", "ratio", "knee_db"), [(-18.0, 3.0, 6.0), (-30.0, 8.0, 0.0), (-24.0, 2.0, 20.0)]
)
def test_compressor_curve(threshold_db, ratio, knee_db):
    settings = {"threshold_db": threshold_db, "ratio": ratio, "knee_db": knee_db, "makeup_db": 3.0, "release_s": 0.3}
    for level_db in (-50.0, -33.0, -25.0, -18.0, -12.0, -3.0, 0.0):
        audio = treat(Compressor(settings), sine(997.0, RATE, level=10 ** (level_db / 20)))[0]
        out = db(np.abs(audio[RATE // 2 :]).max())
        assert out == pytest.approx(static_curve(level_db, threshold_db, ratio, knee_db) + 3, abs=0.5)


def test_compressor_is_as_fast_as_asked():
    """63 % of the way down after the attack, 37 % still to go up after the release."""
    settings = {"threshold_db": -20.0, "ratio": 20.0, "knee_db": 0.0, "attack_s": 0.05, "release_s": 0.4}
    n = 3 * RATE
    loud = (np.arange(n) > RATE) & (np.arange(n) < 2 * RATE)
    audio = sine(5000.0, n, level=1.0) * np.where(loud, 1.0, 0.01)
    out = treat(Compressor(settings), audio.astype(np.float32))[0]
    gain = -db(np.abs(scipy.signal.hilbert(out)) / np.where(loud, 1.0, 0.01))
    full = gain[2 * RATE - 2000]
    assert full == pytest.approx(19, abs=0.5)
    assert gain[RATE + round(0.05 * RATE)] / full == pytest.approx(1 - np.exp(-1), abs=0.05)
    assert gain[2 * RATE + round((0.4 + 0.05) * RATE)] / full == pytest.approx(np.exp(-1), abs=0.05)


def test_compressor_turns_both_sides_down_alike_and_lets_the_bass_be():
    settings = {"threshold_db": -30.0, "ratio": 10.0}
    audio = sine(997.0, RATE) * np.array([[1.0], [0.1]], np.float32)
    out = treat(Compressor(settings), audio)
    np.testing.assert_allclose(out[1, 1000:], 0.1 * out[0, 1000:], rtol=0, atol=1e-6)
    bass = sine(40.0, RATE)
    down = [
        db(treat(Compressor({**settings, "low_cut_hz": hz}), bass)[0].std() / bass[0].std()) for hz in (10.0, 400.0)
    ]
    assert down[0] < -15
    assert down[1] > down[0] + 12


def cookbook(kind, hz, gain_db, q, sample_rate):
    """Bristow-Johnson's biquads, the bilinear transforms of the analogue shelves and bells."""
    a, w = 10 ** (gain_db / 40), 2 * np.pi * hz / sample_rate
    c, alpha = np.cos(w), np.sin(w) / (2 * q)
    if kind == "peak":
        return [1 + alpha * a, -2 * c, 1 - alpha * a], [1 + alpha / a, -2 * c, 1 - alpha / a]
    sign = 1 if kind == "low" else -1
    root = 2 * np.sqrt(a) * alpha
    b = [a + 1 - sign * (a - 1) * c + root, sign * 2 * (a - 1 - sign * (a + 1) * c), a + 1 - sign * (a - 1) * c - root]
    d = [a + 1 + sign * (a - 1) * c + root, -sign * 2 * (a - 1 + sign * (a + 1) * c), a + 1 + sign * (a - 1) * c - root]
    return [a * x for x in b], d


@pytest.mark.parametrize("sample_rate", [44100, 96000])
def test_equaliser_response(sample_rate):
    frequencies = np.geomspace(30, 0.45 * sample_rate, 60)
    for settings in (
        {"low_hz": 150.0, "low_db": 9.0, "peak1_hz": 700.0, "peak1_db": -12.0, "peak1_q": 3.0, "peak2_hz": 5000.0,
         "peak2_db": 8.0, "peak2_q": 0.5, "high_hz": 9000.0, "high_db": -6.0, "gain_db": -2.0},
        {"low_hz": 60.0, "low_db": -15.0, "peak1_db": 15.0, "peak1_q": 0.3, "high_hz": 3000.0, "high_db": 12.0},
    ):  # fmt: skip
        made = Equaliser(settings)
        v = made.settings
        expected = np.full(len(frequencies), v["gain_db"])
        for kind, name, q in (
            ("low", "low", np.sqrt(0.5)), ("peak", "peak1", v["peak1_q"]),
            ("peak", "peak2", v["peak2_q"]), ("high", "high", np.sqrt(0.5)),
        ):  # fmt: skip
            b, a = cookbook(kind, v[f"{name}_hz"], v[f"{name}_db"], q, sample_rate)
            expected += db(scipy.signal.freqz(b, a, frequencies, fs=sample_rate)[1])
        np.testing.assert_allclose(response(made, frequencies, sample_rate=sample_rate), expected, rtol=0, atol=0.2)


def test_a_chain_turns_the_knob_that_is_named():
    """A chain is its instrument, spread, then its effects; knobs reach what they belong to, on their sample."""
    events = [Event(0, "on", 1, 50.0, 1.0), Event(3000, "set", param="damping", value=0.9),
              Event(5001, "set", param="echo.mix", value=0.8)]  # fmt: skip
    chain = Chain(Pluck(), [("echo", Delay({"time_s": 0.02})), ("room", Reverb({"decay_s": 0.5}))])
    alone = play(Pluck(), events[:2], 9000)
    knob = Event(5001, "set", param="mix", value=0.8)
    by_hand = treat(
        Reverb({"decay_s": 0.5}), treat(Delay({"time_s": 0.02}), np.stack([alone, alone]), events=[knob])
    )  # fmt: skip
    np.testing.assert_allclose(play(chain, events, 9000), by_hand, rtol=0, atol=1e-7)
    assert {"decay_s", "echo.mix", "room.decay_s"} <= {param.name for param in chain.params}


def test_a_chain_refuses_what_it_has_not():
    chain = Chain(Pluck(), [("echo", Delay())])
    for wrong, right in (("echo.mixx", "echo.mix"), ("dampign", "damping")):
        with pytest.raises(ConfigError, match=f"did you mean {right}"):
            play(chain, [Event(0, "set", param=wrong, value=0.5)], 64)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        play(chain, [Event(0, "set", param="echo.mix", value=3.0)], 64)
    with pytest.raises(ConfigError, match='name = "echo2"'):
        Chain(Pluck(), [("echo", Delay()), ("echo", Delay())])


def test_effect_kernels_are_compiled_once():
    """One signature a kernel, also where several effects share it."""
    for module in (gliding, delay, reverb, chorus, drive, compressor, equaliser):
        for kernel in vars(module).values():
            if hasattr(kernel, "signatures"):
                assert len(kernel.signatures) <= 1, kernel
