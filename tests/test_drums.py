"""The kit: every key plays what the map says, in tune and as bright and as long as recorded drums are."""

import glob

import numpy as np
import pytest
import scipy.signal
from contract import RATE, mono, play

from soundloom.audio import read
from soundloom.instruments import drumkernels
from soundloom.instruments.base import Event
from soundloom.instruments.drumkit import KIT, SQUARES_HZ, drum_of
from soundloom.instruments.drums import Drums

KICK, STICK, SNARE, CLAP, CLOSED, FLOOR_TOM, PEDAL, OPEN, TOM, CRASH, RIDE = 36, 37, 38, 39, 42, 43, 44, 46, 47, 49, 51
STILL = {"humanise": 0.0, "drive_db": 0.0}


def hit(key, seconds=1.0, *, settings=None, velocity=0.8, seed=0):
    return play(Drums(settings), [Event(0, "on", 1, float(key), velocity)], int(seconds * RATE), seed=seed)


def pitch_hz(sound, near_hz):
    """The frequency of the strongest partial within a third of an octave, from the phase between two windows."""
    half = len(sound) // 2
    window = scipy.signal.windows.blackmanharris(half)
    spectrum = np.abs(np.fft.rfft(sound[:half] * window, 1 << 18))
    hz = np.fft.rfftfreq(1 << 18, 1 / RATE)
    near_hz = hz[np.argmax(spectrum * (np.abs(np.log2(np.maximum(hz, 1) / near_hz)) < 1 / 3))]
    mixed = sound * np.exp(-2j * np.pi * near_hz * np.arange(len(sound)) / RATE)
    first, second = (np.sum(window * part) for part in (mixed[:half], mixed[half : 2 * half]))
    return near_hz + np.angle(second / first) / (2 * np.pi * half / RATE)


def cents(hz, other):
    return 1200 * np.log2(hz / other)


def centroid_hz(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    return np.sum(power * np.fft.rfftfreq(len(sound), 1 / RATE)) / power.sum()


def lasts_s(sound, below_db):
    """Until the level, taken over 5 ms, stays so far below its peak."""
    level = np.sqrt(np.convolve(sound**2, np.ones(220) / 220, "same"))
    return np.flatnonzero(level > level.max() * 10 ** (below_db / 20))[-1] / RATE


def decay_s(sound, hz, first_s, last_s):
    """How long a partial takes to fall by 60 dB."""
    mixed = sound * np.exp(-2j * np.pi * hz * np.arange(len(sound)) / RATE)
    n = round(4 * RATE / hz)
    early, late = (abs(mixed[at : at + n].mean()) for at in (round(first_s * RATE), round(last_s * RATE)))
    return 60 * (last_s - first_s) / (20 * np.log10(early / late))


@pytest.mark.parametrize("key", sorted(KIT))
def test_every_key_of_the_map_sounds(key):
    """Neither too soft nor too loud, on a touch of 0.8; no DC; and over some time."""
    sound = hit(key, 3.0)
    assert 0.12 < np.abs(sound).max() < 0.72
    assert np.abs(sound.mean(axis=1)).max() < 1e-3
    assert 0.01 < lasts_s(mono(sound), -20) < 2.5


def test_keys_beside_the_map_play_what_is_near():
    for key, same in ((31, STICK), (28, CLAP), (82, 69), (83, 54), (10, 35), (127, 81)):
        assert drum_of(key) is KIT[same]
        np.testing.assert_array_equal(hit(key, 0.1), hit(same, 0.1))
    assert drum_of(35.6) is KIT[36]


# Recordings by the keys that play their like. What is compared is the geometric middle of them.
LIKE = {
    KICK: ["LM-2/kick", "CR-8000/kick", "Drumtraks/DT_Kick", "MFB-512/kick", "MR10/kick", "drum_heavy_kick", "bd_haus"],
    SNARE: [
        "LM-2/snare-m",
        "Drumtraks/DT_Snare",
        "RZ1/snare",
        "drum_snare_hard",
        "drum_snare_soft",
        "808-mini/snare-2",
    ],
    CLAP: ["LM-2/clap", "CR-8000/clap", "Drumtraks/DT_Clap", "MFB-512/clap"],
    CLOSED: ["LM-2/hhclosed.", "MFB-512/hihat-closed", "CR-8000/hihat-closed", "drum_cymbal_closed", "hat_cab"],
    OPEN: ["LM-2/hhopen", "MFB-512/hihat-open", "CR-8000/hihat-open", "drum_cymbal_open", "MR10/ohihat"],
    CRASH: ["LM-2/crash", "Drumtraks/DT_Crash", "drum_cymbal_hard", "drum_splash_hard", "808-mini/crash"],
    RIDE: ["LM-2/ride", "Drumtraks/DT_Ride", "RZ1/ride", "ride_tri"],
    50: ["LM-2/tom-h.", "drum_tom_hi_hard", "drum_tom_hi_soft", "808-mini/tom-high"],
}


@pytest.mark.parametrize("key", sorted(LIKE))
def test_as_bright_and_as_long_as_recordings(sounds, key):
    """Brightness within a factor of 1.6 of the middle of recordings, the time to -20 dB within a factor of 2."""
    files = [f for f in glob.glob(f"{sounds}/**/*.*", recursive=True) if any(name in f for name in LIKE[key])]
    assert len(files) >= len(LIKE[key]) - 1
    real = []
    for file in files:
        sound = read(file)
        samples = sound.samples.mean(axis=0)
        samples = scipy.signal.resample_poly(samples, RATE // 100, sound.sample_rate // 100)
        real.append((centroid_hz(samples), lasts_s(samples, -20)))
    brightness, seconds = np.exp(np.mean(np.log(real), axis=0))
    made = mono(hit(key, 4.0))
    assert 1 / 1.6 < centroid_hz(made) / brightness < 1.6
    assert 1 / 2 < lasts_s(made, -20) / seconds < 2


def test_a_kick_falls_to_its_pitch_and_clicks():
    settings = {**STILL, "kick_decay": 3.0, "kick_click": 0.0}
    sound = mono(hit(KICK, 1.0, settings=settings)).astype(np.float64)
    assert cents(pitch_hz(sound[RATE // 4 :], 54), 54) == pytest.approx(0, abs=3)
    assert cents(pitch_hz(mono(hit(KICK, 1.0, settings={**settings, "kick_tune": 5.0}))[RATE // 4 :], 72), 54) == (
        pytest.approx(500, abs=3)
    )
    turns = np.unwrap(np.angle(scipy.signal.hilbert(sound))) / (2 * np.pi)
    hz = np.gradient(turns) * RATE
    assert hz[200:400].mean() > 110
    flat = mono(hit(KICK, 1.0, settings={**settings, "kick_sweep": 0.0}))
    assert centroid_hz(flat[:2000]) < 0.7 * centroid_hz(sound[:2000])
    clicks = [mono(hit(KICK, 0.1, settings={**STILL, "kick_click": click})) for click in (0.0, 1.0)]
    high = [np.square(scipy.signal.sosfilt(scipy.signal.butter(4, 2000, "high", fs=RATE, output="sos"), x)).sum()
            for x in clicks]  # fmt: skip
    assert high[1] > 30 * high[0]


@pytest.mark.parametrize(("key", "hz", "seconds"), [(FLOOR_TOM, 92.0, 1.35), (50, 192.0, 0.9)])
def test_toms_are_in_tune_and_ring_as_long_as_asked(key, hz, seconds):
    for tune, longer in ((0.0, 1.0), (-3.0, 1.7)):
        settings = {**STILL, "tom_tune": tune, "tom_decay": longer}
        sound = mono(hit(key, 1.2, settings=settings, velocity=0.3)).astype(np.float64)  # softly: hardly any saturation
        asked = hz * 2 ** (tune / 12)
        assert cents(pitch_hz(sound[RATE // 5 :], asked), asked) == pytest.approx(0, abs=5)
        assert decay_s(sound, asked, 0.3, 0.8) == pytest.approx(seconds * longer, rel=0.08)


def test_the_bend_moves_what_rings():
    tom = Event(0, "on", 1, float(FLOOR_TOM))
    still, bent = (mono(play(Drums(STILL), [tom, *moved], RATE)) for moved in ([], [Event(8000, "bend", value=2.0)]))
    assert cents(pitch_hz(bent[RATE // 3 :], 92 * 2 ** (2 / 12)), 92) == pytest.approx(200, abs=5)
    high = scipy.signal.butter(8, 6000, "high", fs=RATE, output="sos")
    hiss = [np.abs(scipy.signal.sosfilt(high, x))[7900:10_000].max() for x in (still, bent)]
    assert hiss[1] < 1.2 * hiss[0]


@pytest.mark.parametrize("closer", [CLOSED, PEDAL])
def test_closing_the_hat_ends_the_open_one(closer):
    """After a fade of 5 ms nothing is left of the open hat; a snare leaves it alone."""
    n, at = RATE, 9000
    together = play(Drums(STILL), [Event(0, "on", 1, float(OPEN)), Event(at, "on", 2, float(closer))], n)
    alone = play(Drums(STILL), [Event(0, "on", 1, float(SNARE)), Event(at, "on", 2, float(closer))], n)
    late = slice(at + 400, n)
    open_alone = mono(hit(OPEN, 1.0, settings=STILL))[late]
    rest = together[:, late] - alone[:, late]
    assert np.sqrt(np.mean(open_alone[:4000] ** 2)) > 1e-2
    snare = mono(hit(SNARE, 1.0, settings=STILL))[late]
    assert np.sqrt(np.mean((mono(rest) + snare)[:4000] ** 2)) < 1e-6
    kept = play(Drums(STILL), [Event(0, "on", 1, float(OPEN)), Event(at, "on", 2, float(SNARE))], n)
    assert np.sqrt(np.mean(mono(kept)[at + 20_000 :] ** 2)) > 5e-4


def test_a_key_let_go_changes_nothing():
    for key in (KICK, OPEN, CRASH, 81):
        held = hit(key, 0.5)
        released = play(Drums(), [Event(0, "on", 1, float(key)), Event(3000, "off", 1)], RATE // 2)
        np.testing.assert_array_equal(released, held)


@pytest.mark.parametrize("key", [KICK, SNARE, CLOSED, TOM, CRASH, 63])
def test_a_soft_touch_is_softer_and_duller(key):
    loud, soft = (mono(hit(key, 0.5, velocity=v, settings=STILL)) for v in (1.0, 0.4))
    assert 10 * np.log10(np.square(soft).sum() / np.square(loud).sum()) == pytest.approx(40 * np.log10(0.4), abs=4)
    assert centroid_hz(soft) < 0.97 * centroid_hz(loud)


def test_no_two_hits_are_the_same_and_none_stands_out():
    def hits(humanise, key):
        events = [Event(i * 20_000, "on", i, float(key), 0.8) for i in range(12)]
        sound = mono(play(Drums({"humanise": humanise}), events, 12 * 20_000))
        return sound.reshape(12, 20_000)

    for key in (SNARE, CLOSED):
        levels = 10 * np.log10(np.square(hits(1.0, key)).sum(axis=1))
        assert 0.2 < levels.std() < 1.5
        made = hits(1.0, key)
        assert np.abs(np.corrcoef(made[:, :4000]) - np.eye(12)).max() < 0.999
    tuned = [pitch_hz(x[4000:], 132) for x in hits(1.0, TOM)]
    still = [pitch_hz(x[4000:], 132) for x in hits(0.0, TOM)]
    assert cents(max(tuned), min(tuned)) > 8
    assert cents(max(still), min(still)) < 1


def test_square_waves_of_a_drum_machine():
    """All of metal: the lines of a hat are odd harmonics of the six square waves, and nothing folds back."""
    sound = mono(hit(OPEN, 4.0, settings={**STILL, "metal": 1.0, "hat_decay": 5.0}))[RATE // 2 :]
    power = scipy.signal.welch(sound, RATE, "blackmanharris", 32768, 24576)[1]
    hz = np.fft.rfftfreq(32768, 1 / RATE)
    floor = scipy.ndimage.median_filter(power, 401)
    peaks = hz[scipy.signal.find_peaks(10 * np.log10(power / floor), height=18)[0]]
    harmonics = np.concatenate([base * np.arange(1, 16000 / base, 2) for base in SQUARES_HZ])
    distance = np.abs(peaks[:, None] - harmonics).min(axis=1)
    assert len(peaks) > 10
    assert distance.max() < 3
    bronze = mono(hit(OPEN, 4.0, settings={**STILL, "metal": 0.0, "hat_decay": 5.0}))[RATE // 2 :]
    assert abs(10 * np.log10(np.square(bronze).sum() / np.square(sound).sum())) < 3


def test_the_kit_stands_as_wide_as_asked():
    for key in (CLOSED, CRASH, FLOOR_TOM):
        narrow = hit(key, 0.5, settings={"width": 0.0})
        np.testing.assert_allclose(narrow[0], narrow[1], rtol=0, atol=1e-7)
    left, right = (np.square(hit(CLOSED, 0.5, settings={"width": 1.0})[side]).sum() for side in (0, 1))
    assert right > 1.5 * left
    kick = hit(KICK, 0.5, settings={"width": 1.0})
    np.testing.assert_allclose(kick[0], kick[1], rtol=0, atol=0.02)


def test_tone_and_drive_of_the_kit():
    dark, usual, bright = (centroid_hz(mono(hit(SNARE, 0.5, settings={"tone": tone}))) for tone in (-1.0, 0.0, 1.0))
    assert dark < 0.8 * usual < 0.8 * bright

    def crest(drive_db):
        sound = mono(hit(SNARE, 0.5, settings={"drive_db": drive_db, "humanise": 0.0}))
        return np.abs(sound).max() / np.sqrt(np.mean(sound**2))

    assert crest(24.0) < 0.75 * crest(0.0)


def test_drum_kernels_are_compiled_once():
    for kernel in vars(drumkernels).values():
        if hasattr(kernel, "signatures"):
            assert len(kernel.signatures) <= 1, kernel
