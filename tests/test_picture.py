"""Pictures that sound and sounds that are drawn: there and back, in tune, in time, on the right side; and bad input."""

import json
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import soundloom as sl
from soundloom import cli, octaves, phasing
from soundloom import picture as pictures
from soundloom.audio import Waveform
from soundloom.errors import AudioError, ConfigError, PictureError
from soundloom.instruments.base import Event
from soundloom.instruments.pluck import Pluck
from soundloom.metrics import log_mel_distance, partials_found

RATE = 44100
ROWS = 512  # of 55 to 14080 Hz


def hz_of(row: int, rows: int = ROWS) -> float:
    """The frequency in the middle of a picture's row, counted from the top."""
    return 55 * 2 ** (8 * (rows - row - 0.5) / rows)


def blobs(wide: int = 300, rows: int = ROWS) -> Image.Image:
    """A smooth picture: twelve soft spots of different brightness."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:rows, 0:wide]
    spots = [
        rng.uniform(0.5, 1)
        * np.exp(
            -(((y - rng.uniform(0, rows)) / rng.uniform(20, 60)) ** 2)
            - ((x - rng.uniform(0, wide)) / rng.uniform(15, 60)) ** 2
        )
        for _ in range(12)
    ]
    return Image.fromarray(np.round(255 * np.max(spots, axis=0)).astype(np.uint8))


def green(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), float)[..., 1] / 255


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def partial(audio: np.ndarray, near_hz: float) -> tuple[float, float]:
    """Frequency and amplitude of a steady sine: a parabola through the logs of three bins of a Gaussian window."""
    n = len(audio)
    window = np.exp(-0.5 * ((np.arange(n) - n / 2) / (n / 12)) ** 2)
    level = np.log(np.abs(np.fft.rfft(audio * window, 4 * n)) * 2 / window.sum() + 1e-12)
    near = np.abs(np.fft.rfftfreq(4 * n, 1 / RATE) - near_hz) < 0.04 * near_hz
    k = int(np.argmax(np.where(near, level, -99)))
    a, b, c = level[k - 1 : k + 2]
    offset = 0.5 * (a - c) / (a - 2 * b + c)
    return (k + offset) * RATE / (4 * n), float(np.exp(b - 0.25 * (a - c) * offset))


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_go_back_to_the_sound():
    """What lies between the lowest and the highest row comes back, 60 dB above what is lost."""
    rng = np.random.default_rng(0)
    n = RATE
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE)
    spectrum[(hz < 90) | (hz > 12_000)] = 0
    audio = (np.fft.irfft(spectrum) * np.hanning(n)).astype(np.float32)
    at = octaves.grid(n, sample_rate=RATE, low_hz=55.0, high_hz=14080.0)
    again = octaves.sound(at, octaves.unrows(at, octaves.rows(at, octaves.spectrum(at, audio))))
    assert 10 * np.log10(np.sum(audio**2) / np.sum((again - audio) ** 2)) > 60


@pytest.mark.parametrize("row", [5, 100, 256, 400, 505])
def test_a_row_measures_a_sine(row):
    at = octaves.grid(RATE, sample_rate=RATE, low_hz=55.0, high_hz=14080.0)
    assert at.rows == ROWS
    audio = 0.3 * np.sin(2 * np.pi * hz_of(ROWS - 1 - row) * np.arange(RATE) / RATE)
    power = octaves.column_power(at, octaves.rows(at, octaves.spectrum(at, audio.astype(np.float32))), 50)
    assert 10 * np.log10(power[row, 10:40]) == pytest.approx(20 * np.log10(0.3), abs=0.05)
    assert power[:, 25].argmax() == row


def test_magnitudes_hold_what_columns_held():
    """The mean power of the columns, whatever the rate of a row."""
    at = octaves.grid(2 * RATE, sample_rate=RATE, low_hz=55.0, high_hz=14080.0)
    power = np.random.default_rng(0).random((ROWS, 37))
    made = octaves.magnitudes(at, power)
    for band in at.bands:
        mean = (at.block(made, band).astype(float) ** 2).sum(1) * band.hop / at.samples
        np.testing.assert_allclose(mean, power[band.first : band.last].mean(1), rtol=0.02)


def test_what_a_sound_has_made_is_not_lifted():
    audio = np.sin(2 * np.pi * 880 * np.arange(RATE) / RATE).astype(np.float32)
    at = octaves.grid(RATE, sample_rate=RATE, low_hz=55.0, high_hz=14080.0)
    power = octaves.column_power(at, octaves.rows(at, octaves.spectrum(at, audio)), 50)
    loud = power > 1e-3
    np.testing.assert_allclose(octaves.lifted(at, power)[loud], power[loud], rtol=0.03)


def test_the_kernel_is_compiled_once():
    pictures.sing(blobs(20))
    assert len(phasing._spread.signatures) == 1


# --- from a picture ---------------------------------------------------------------------------------------------------


def test_a_smooth_picture_comes_back():
    made = pictures.sing(blobs())
    assert made.samples.shape == (1, 3 * RATE)
    assert np.abs(made.samples).max() == pytest.approx(10 ** (-1 / 20), abs=1e-4)
    assert correlation(green(pictures.draw(made)), green(blobs())) > 0.98


def test_lines_are_pure_tones_of_one_loudness():
    """Thin or thick at the same place of the picture: a line is a sine, at every height as loud, to the cent."""
    picture = Image.new("L", (300, ROWS))
    lines = (20, 130, 256, 380, 470)
    for row in lines:
        ImageDraw.Draw(picture).line([(0, row), (299, row)], fill=255)
    audio = pictures.sing(picture).samples[0].astype(float)[RATE // 2 : -RATE // 2]
    found = [partial(audio, hz_of(row)) for row in lines]
    assert [1200 * np.log2(hz / hz_of(row)) for (hz, _), row in zip(found, lines, strict=True)] == pytest.approx(
        [0] * len(lines), abs=1
    )
    level = 20 * np.log10([amplitude for _, amplitude in found])
    assert np.ptp(level) < 1
    left = audio - sum(_fitted(audio, hz) for hz, _ in found)
    assert 10 * np.log10(np.mean(left**2) / np.mean(audio**2)) < -35


def _fitted(audio: np.ndarray, hz: float) -> np.ndarray:
    t = np.arange(len(audio)) / RATE
    basis = np.stack([np.cos(2 * np.pi * hz * t), np.sin(2 * np.pi * hz * t)])
    return np.linalg.lstsq(basis.T, audio, rcond=None)[0] @ basis


def test_a_rising_line_glides():
    """An octave in two seconds: at every moment the pitch is the line's, not the nearest row's."""
    large = Image.new("L", (1200, 4 * ROWS))
    ImageDraw.Draw(large).line([(0, 1500), (1199, 1500 - 4 * 64 * 1199 / 800)], fill=255, width=8)
    audio = pictures.sing(large.resize((300, ROWS), Image.Resampling.BOX)).samples[0].astype(float)
    spectrum = np.fft.fft(audio)
    spectrum[len(audio) // 2 :] = 0  # the analytic signal
    phase = np.unwrap(np.angle(np.fft.ifft(spectrum)))
    at = np.arange(RATE // 2, 5 * RATE // 2, 441)
    pitch = np.log2((phase[at + 441] - phase[at - 441]) / (2 * np.pi * 882 / RATE))
    expected = np.log2(55) + 8 - (1500 - 4 * 64 * (at / RATE) / 2) / (4 * 64)
    assert 1200 * np.abs(pitch - expected).max() < 20


@pytest.mark.parametrize("row", [60, 250, 420])
def test_a_dot_sounds_when_it_is_drawn(row):
    picture = Image.new("L", (200, ROWS))
    ImageDraw.Draw(picture).rectangle([120, row - 20, 129, row + 20], fill=255)
    power = pictures.sing(picture).samples[0].astype(float) ** 2
    when = np.sum(np.arange(len(power)) * power) / power.sum() / RATE
    assert when == pytest.approx(1.25, abs=0.005)


def test_colours_are_sides():
    picture = Image.new("RGB", (200, ROWS))
    pen = ImageDraw.Draw(picture)
    for row, colour in ((100, "red"), (200, "blue"), (300, (0, 255, 0)), (400, "white")):
        pen.line([(0, row), (199, row)], fill=colour)
    sides = pictures.sing(picture).samples.astype(float)[:, RATE // 2 : -RATE // 2]
    level = {row: [20 * np.log10(partial(side, hz_of(row))[1]) for side in sides] for row in (100, 200, 300, 400)}
    assert level[100][0] - level[100][1] > 50
    assert level[200][1] - level[200][0] > 50
    assert level[300][0] == pytest.approx(level[300][1], abs=0.1)
    assert level[400][0] == pytest.approx(level[400][1], abs=0.1)
    middle = _fitted(sides[0], hz_of(400))
    assert correlation(middle, _fitted(sides[1], hz_of(400))) > 0.999, "what is in the middle has one phase"


def test_colours_come_back():
    """Left, middle and right spots: each side of the drawn sound is what was painted."""
    spots = np.asarray(blobs(), float) / 255
    x = np.linspace(-1, 1, spots.shape[1])
    left, right = spots * np.clip(1 - x, 0, 1), spots * np.clip(1 + x, 0, 1)
    painted = np.stack([left, np.minimum(left, right), right], axis=-1)
    back = np.asarray(pictures.draw(pictures.sing(Image.fromarray(np.round(255 * painted).astype(np.uint8)))), float)
    assert correlation(back[..., 0], left) > 0.95
    assert correlation(back[..., 2], right) > 0.95
    assert np.array_equal(back[..., 1], np.minimum(back[..., 0], back[..., 2]))


def test_writing_can_be_read_in_the_sound():
    """Of letters drawn and heard, each is most like itself in the sound's picture."""
    letters, wide = "SOUNDLM", 100
    font = ImageFont.load_default(size=110)
    picture = Image.new("L", (wide * len(letters), ROWS))
    for i, letter in enumerate(letters):
        ImageDraw.Draw(picture).text((wide * i + wide // 2, 200), letter, fill=255, font=font, anchor="mm")
    drawn, back = green(picture), green(pictures.draw(pictures.sing(picture)))
    cut = [slice(wide * i, wide * (i + 1)) for i in range(len(letters))]
    likeness = np.array([[correlation(back[:, a], drawn[:, b]) for b in cut] for a in cut])
    assert (likeness.argmax(1) == np.arange(len(letters))).all()
    assert likeness.diagonal().min() > 0.85


def test_the_range_is_that_of_the_brightness():
    """Half as bright is half the range quieter."""
    picture = Image.new("L", (200, ROWS))
    for row, bright in ((100, 255), (300, 153)):  # 153 is three fifths
        ImageDraw.Draw(picture).line([(0, row), (199, row)], fill=bright)
    for range_db in (30.0, 60.0):
        audio = pictures.sing(picture, axes=pictures.Axes(range_db=range_db)).samples[0, RATE // 2 : -RATE // 2]
        loud, soft = (20 * np.log10(partial(audio.astype(float), hz_of(row))[1]) for row in (100, 300))
        assert loud - soft == pytest.approx(0.4 * range_db, abs=0.5)


def test_the_same_seed_gives_the_same_sound():
    a, b, c = (pictures.sing(blobs(50), seed=seed).samples for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


# --- from a sound -----------------------------------------------------------------------------------------------------


def there_and_back(audio: np.ndarray, axes: pictures.Axes = pictures.AXES) -> tuple[float, float]:
    """Log-mel distance and shared partials of a sound and of that of its picture, at the same loudness."""
    drawn = pictures.draw(Waveform(audio[None].astype(np.float32), RATE), axes=axes)
    again = pictures.sing(drawn, axes=axes).samples[0].astype(float)
    n = min(len(audio), len(again))
    assert abs(len(audio) - len(again)) <= 0.005 * RATE
    audio, again = audio[:n], again[:n]
    again = again * np.sqrt(np.mean(audio**2) / np.mean(again**2))
    return log_mel_distance(audio, again, sample_rate=RATE), partials_found(audio, again, sample_rate=RATE)


def test_a_plucked_string_comes_back():
    string = Pluck()
    audio, _ = string.process(string.init_state(RATE), [Event(0, "on", 1, 52.0)], 2 * RATE)
    distance, found = there_and_back(audio[0].astype(float))
    assert distance < 0.2
    assert found > 0.9


@pytest.mark.parametrize(("name", "most"), [("piano/FF A4.flac", 0.25), ("drum-machines/808-mini/snare-1.ogg", 0.2)])
def test_recordings_come_back(sounds, name, most):
    """Noise with the right level in each band scores 0.55 at best, another velocity of the note shares half."""
    heard = sl.resample(sl.read(sounds / name, seconds=2.0).mono(), RATE).samples[0].astype(float)
    distance, found = there_and_back(heard)
    assert distance < most
    assert found > 0.85


def test_a_sound_on_one_side_is_drawn_in_its_colour():
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    for samples, colour in (
        ([tone, 0 * tone], (255, 0, 0)),
        ([0 * tone, tone], (0, 0, 255)),
        ([tone], (255, 255, 255)),
    ):
        drawn = np.asarray(pictures.draw(Waveform(np.stack(samples), RATE)))
        assert drawn.shape == (ROWS, 100, 3)
        row = round(ROWS - 0.5 - ROWS / 8 * np.log2(440 / 55))
        np.testing.assert_allclose(drawn[row, 50], colour, atol=2)


def test_other_axes():
    axes = pictures.Axes(low_hz=110.0, high_hz=1760.0)
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
    drawn = green(pictures.draw(Waveform(tone[None], 8000), axes=axes))
    assert len(drawn) == 256
    assert drawn[:, 50].argmax() in (127, 128), "two octaves up of four: the middle"


# --- bad input --------------------------------------------------------------------------------------------------------


def test_pictures_of_every_kind_are_the_same_picture(tmp_path):
    """Grey, palette, 16 bits, floating point, alpha, animated, turned by its camera: all have the levels of the RGB."""
    numbers = np.asarray(blobs(60, 64), float)
    numbers = np.round(255 / numbers.max() * numbers).astype(np.uint8)
    grey = Image.fromarray(numbers)
    alpha = Image.merge("LA", (Image.new("L", grey.size, 255), grey))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "grey.png": (grey, {}),
        "rgb.png": (grey.convert("RGB"), {}),
        "palette.png": (grey.convert("P"), {}),
        "palette.gif": (grey.convert("P"), {}),
        "deep.png": (Image.fromarray(numbers.astype(np.uint16) * 257), {}),
        "float.tif": (Image.fromarray(numbers / np.float32(25.5)), {}),
        "alpha.png": (alpha, {}),
        "rgba.webp": (grey.convert("RGBA"), {"lossless": True}),
        "animated.gif": (grey, {"save_all": True, "append_images": [Image.new("L", grey.size, 255)]}),
        "turned.png": (grey.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
        "cmyk.tif": (grey.convert("RGB").convert("CMYK"), {}),
    }
    levels = {}
    for name, (picture, how) in kinds.items():
        picture.save(tmp_path / name, **how)
        levels[name] = pictures.read_levels(
            pictures.open_picture(tmp_path / name), axes=pictures.AXES, most_columns=1000
        )
    for name, level in levels.items():
        assert level.shape == (1, ROWS, 60), name
        np.testing.assert_allclose(level, levels["rgb.png"], atol=0.03, err_msg=name)


def test_black_ink_on_paper_sounds_inverted(tmp_path):
    ink = Image.eval(blobs(60, 64), lambda v: 255 - v)
    levels = [
        pictures.read_levels(picture, axes=pictures.AXES, most_columns=99, invert=invert)
        for picture, invert in ((blobs(60, 64), False), (ink, True))
    ]
    np.testing.assert_allclose(levels[0], levels[1], atol=1e-6)


def test_thin_lines_keep_their_loudness_in_large_pictures():
    """A line of one pixel in eight is 9 dB down, not seven eighths of the way to black."""
    picture = Image.new("L", (8 * 100, 8 * ROWS))
    ImageDraw.Draw(picture).line([(0, 8 * 200 + 3), (799, 8 * 200 + 3)], fill=255)
    levels = pictures.read_levels(picture, axes=pictures.AXES, most_columns=100)
    assert levels.shape == (1, ROWS, 100)
    assert 60 * (levels[0, ROWS - 1 - 200] - 1) == pytest.approx(-10 * np.log10(8), abs=0.1)
    assert levels[0].astype(bool).sum() == 100


def test_strips_do_not_show(monkeypatch):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 700, 3), dtype=np.uint8))
    whole = pictures.read_levels(picture, axes=pictures.AXES, most_columns=130)
    monkeypatch.setattr(pictures, "STRIP", 3000)
    np.testing.assert_allclose(pictures.read_levels(picture, axes=pictures.AXES, most_columns=130), whole, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 5000)])
def test_the_smallest_pictures_sound(size):
    made = pictures.sing(Image.new("L", size, 255))
    assert made.seconds == pytest.approx(0.01 * size[0], abs=1e-4)
    assert np.isfinite(made.samples).all()
    assert np.abs(made.samples).max() > 0.5


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no picture"),
        (b"RIFF....WAVEfmt ", "no picture; to draw a sound"),
        (png_header(9000, 9000), "9000 x 9000 pixels: 64 million at most"),
        (png_header(10_000, 9500), "10000 x 9500 pixels"),
        (png_header(100_000, 100_000), "far too many pixels"),
        (png_header(100, 100), "cannot read"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, content, words):
    """In one line: the library that reads it has nothing to say beside it."""
    (tmp_path / "x.png").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match=words):
            pictures.open_picture(tmp_path / "x.png")


def test_what_cannot_sound_or_be_drawn_is_refused(tmp_path):
    with pytest.raises(PictureError, match="--invert"):
        pictures.sing(Image.new("RGBA", (20, 20), (255, 255, 255, 0)))
    with pytest.raises(PictureError, match="white throughout"):
        pictures.sing(Image.new("L", (20, 20), 255), invert=True)
    with pytest.raises(ConfigError, match=r"0\.01 to 60"):
        pictures.sing(blobs(20), seconds=1e9)
    with pytest.raises(ConfigError, match="an octave or more"):
        pictures.Axes(low_hz=1000.0, high_hz=1100.0)
    with pytest.raises(ConfigError, match="6 to 120"):
        pictures.Axes(range_db=0.0)
    with pytest.raises(PictureError, match="No such file"):
        pictures.open_picture(tmp_path / "none.png")
    with pytest.raises(AudioError, match="silent throughout"):
        pictures.draw(Waveform(np.zeros((1, RATE), np.float32), RATE))
    with pytest.raises(AudioError, match="can be drawn"):
        pictures.draw(Waveform(np.zeros((1, 61 * RATE), np.float32), RATE))


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    return cli.run(["picture", *map(str, arguments)])


def test_both_ways_on_the_command_line(tmp_path, capsys):
    blobs(80).save(tmp_path / "seen.png")
    assert run(tmp_path / "seen.png", "-o", tmp_path / "new" / "heard.wav", "--json") == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == pytest.approx(0.8)
    assert run(tmp_path / "new" / "heard.wav", "-o", tmp_path / "again.png", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["width"], document["height"]) == (80, ROWS)
    assert correlation(green(Image.open(tmp_path / "again.png")), green(blobs(80))) > 0.95
    assert run(tmp_path / "seen.png", "-o", tmp_path / "long.wav", "--seconds", 2, "--low-hz", 200, "-q") == 0
    assert sl.read(tmp_path / "long.wav").seconds == pytest.approx(2.0, abs=1e-3)


def test_a_run_plays_the_sound_of_a_picture(tmp_path, monkeypatch):
    class Half:
        def reconstruct(self, sound, *, seed):
            return Waveform(sound.samples / np.float32(2), sound.sample_rate)

    monkeypatch.setattr("soundloom.commands.matching.soundloom.load", lambda folder, device: Half())
    blobs(30).save(tmp_path / "seen.png")
    assert run(tmp_path / "seen.png", "-o", tmp_path / "heard.wav", "--run", tmp_path, "-q") == 0
    assert np.abs(sl.read(tmp_path / "heard.wav").samples).max() == pytest.approx(0.5 * 10 ** (-1 / 20), abs=1e-3)


def test_refusals_on_the_command_line(tmp_path, capsys):
    sl.write(tmp_path / "a.wav", Waveform(np.full((1, RATE), 0.1, np.float32), RATE))
    for arguments, words in (
        ([tmp_path / "a.wav", "-o", tmp_path / "b.wav"], "an output that ends in .png"),
        ([tmp_path / "a.wav", "-o", tmp_path / "b.png", "--invert"], "for a picture that is heard"),
        ([tmp_path / "none.png", "-o", tmp_path / "b.wav"], "No such file"),
        ([tmp_path / "none.wav", "-o", tmp_path / "b.png"], "No such file"),
    ):
        assert run(*arguments) == 1
        assert words in capsys.readouterr().err
    blobs(30).save(tmp_path / "seen.png")
    assert run(tmp_path / "seen.png", "-o", tmp_path / "b.jpg") == 1
    assert "none of .wav" in capsys.readouterr().err
