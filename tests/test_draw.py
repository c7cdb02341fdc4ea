"""Pictures show what is in the sound, and pages hold any name."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from soundloom import draw
from soundloom.audio import Waveform

EVIL = "<script>alert('x')</script> & \"kick\"\n🥁 \udcff"


def sine(hz: float, *, seconds: float = 1.0, rate: int = 44100, channels: int = 1) -> Waveform:
    t = np.arange(int(seconds * rate)) / rate
    return Waveform(np.tile(0.5 * np.sin(2 * np.pi * hz * t), (channels, 1)).astype(np.float32), rate)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (8000, 2), (192000, 1)])
def test_a_sine_is_bright_at_its_tick_only(rate, channels):
    picture = pixels(draw.spectrogram_png(sine(1000, rate=rate, channels=channels), width=480, height=200))
    assert picture.shape == (200, 480, 4)
    plot = picture[: 200 - draw.BOTTOM, draw.LEFT + 20 : -20, :3].sum(axis=2)
    bright = plot.mean(axis=1).argmax()
    ticks = np.flatnonzero(picture[: 200 - draw.BOTTOM, draw.LEFT - 2, 3] > 200)  # highest frequency first
    hz = [f for f in (100000, 50000, 20000, 10000, 5000, 2000, 1000, 500, 200, 100, 50) if f <= rate / 2]
    assert len(ticks) == len([f for f in hz if f > 30])
    assert abs(bright - ticks[hz.index(1000)]) <= 1
    # An octave away there is nothing within 60 dB: black, as the lowest colours are.
    for far in (500, 2000):
        assert plot[ticks[hz.index(far)]].max() < 250


def test_time_runs_to_the_right_and_silence_is_black():
    burst = np.zeros((1, 44100), np.float32)
    burst[0, 30000:32000] = np.random.default_rng(0).normal(0, 0.2, 2000)
    picture = pixels(draw.spectrogram_png(Waveform(burst, 44100)))
    columns = picture[:180, draw.LEFT :, :3].sum(axis=(0, 2))
    expected = 31000 / 44100 * len(columns)
    assert abs(columns.argmax() - expected) < 12
    silent = pixels(draw.spectrogram_png(Waveform(np.zeros((1, 441), np.float32), 44100)))
    assert (silent[:180, draw.LEFT :, :3] == [0, 0, 4]).all()


def test_a_sound_that_nobody_hears_looks_so():
    loud, quiet = (
        pixels(draw.spectrogram_png(Waveform(sine(1000).samples * np.float32(gain), 44100)))[:180, 60:, :3].max()
        for gain in (1.0, 1e-5)
    )
    assert loud > 240
    assert quiet < 160


def test_the_colour_map_grows_in_lightness():
    luma = np.array(draw.MAGMA) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luma) > 8).all()


@pytest.mark.parametrize("samples", [1, 7, 400, 44100 * 60])
def test_any_length_has_a_picture(samples):
    waveform = Waveform(np.random.default_rng(0).uniform(-1, 1, (2, samples)).astype(np.float32), 44100)
    assert pixels(draw.spectrogram_png(waveform)).shape == (200, 480, 4)
    assert draw.waveform_svg(waveform).startswith("<svg")


def test_the_outline_reaches_what_the_sound_reaches():
    shape = re.search(r'points="([^"]+)"', draw.waveform_svg(sine(100), height=82))
    y = np.array([float(point.split(",")[1]) for point in shape[1].split()])
    assert y.min() == pytest.approx(41 - 40 * 0.5, abs=0.2)
    assert y.max() == pytest.approx(41 + 40 * 0.5, abs=0.2)


def test_curves_are_where_the_numbers_are():
    svg = draw.curves_svg(
        {"down": [(0, 100.0), (50, 10.0), (100, 1.0), (120, float("nan"))]},
        title="t", x_label="steps", y_label="loss", log_y=True,
    )  # fmt: skip
    points = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert len(points) == 3  # what is no number is left out
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x0 < x1 < x2
    assert y0 < y1 < y2  # SVG counts downwards
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)  # evenly spaced decades
    for tick in ("1", "10", "100", "steps", "loss"):
        assert f">{tick}</text>" in svg
    assert draw.curves_svg({}, title="", x_label="", y_label="").endswith("</svg>")


def test_a_histogram_counts_every_finite_value():
    svg = draw.histogram_svg([1, 1, 1, 2, np.nan, np.inf], title="t", x_label="seconds", bins=2)
    assert re.findall(r": (\d)</title>", svg) == ["3", "1"]


def test_a_matrix_says_who_was_taken_for_whom():
    svg = draw.matrix_svg([[3, 1], [0, 2]], ["kick", "<snare>"], title="t")
    assert "kick taken for &lt;snare&gt;: 1 of 4" in svg
    assert "&lt;snare&gt; taken for &lt;snare&gt;: 2 of 2" in svg
    assert 'fill-opacity="1.00"' in svg
    assert 'fill-opacity="0.06"' in svg
    ElementTree.fromstring(svg)


def test_names_are_escaped_everywhere(tmp_path):
    report = draw.Report(EVIL, EVIL)
    report.section(EVIL)
    report.text(EVIL)
    report.table([EVIL, "n"], [[EVIL, 1.23456], ["b", float("nan")]])
    report.figure(draw.curves_svg({EVIL: [(0, 1)]}, title=EVIL, x_label=EVIL, y_label=EVIL), caption=EVIL)
    report.figure(draw.scatter_svg([(0, 1)], groups=[EVIL], names=[EVIL], title=EVIL), caption=EVIL)
    report.figure(draw.histogram_svg([1], title=EVIL, x_label=EVIL), caption=EVIL)
    report.sound(EVIL, sine(440, seconds=0.1), note=EVIL)
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert "1.235" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), "the page must need no other file"


def test_the_player_holds_the_sound(tmp_path):
    report = draw.Report("r")
    report.sound("a", sine(440, seconds=0.3, rate=48000, channels=2))
    report.sound("b", sine(440, seconds=0.3))
    report.section("end")
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="cards"') == 1  # side by side
    data = base64.b64decode(re.search(r"data:audio/flac;base64,([^\"]+)", page)[1])
    audio, rate = soundfile.read(io.BytesIO(data))
    assert rate == 48000
    whole = sine(440, seconds=0.3, rate=48000, channels=2).samples
    assert np.abs(audio.T - whole).max() <= 1 / 32768
