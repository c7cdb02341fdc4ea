"""Pictures that sound, and sounds as such pictures: time runs to the right, octaves upwards, brightness is level.

Red sounds on the left, blue on the right, green and every grey on both: a side is as loud as the brighter of its own
colour and green. A sound drawn has its left in red, its right in blue, and in green what both have, so that it reads
back as it was.

    red = left        green = min(left, right)        blue = right
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from soundloom.audio import Waveform, resample
from soundloom.errors import AudioError, ConfigError, PictureError
from soundloom.octaves import (
    Grid,
    column_power,
    grid,
    lifted,
    magnitudes,
    row_hz,
    rows,
    sound,
    spectrum,
    unrows,
)
from soundloom.paths import replacing
from soundloom.phasing import phased, scaled

RATE = 44100
COLUMN_S = 0.01  # of a drawn sound, and of a picture whose length is not said
FINEST_S = 0.005  # of a column that sounds
SHORTEST_S, LONGEST_S = 0.01, 60.0  # a minute in stereo takes 0.8 GB
LOWEST_HZ, HIGHEST_HZ = 20.0, 20_000.0
ROUNDS = 32  # of going to and fro: more changes nothing that was measured
FADE_S = 0.004
PEAK = 10 ** (-1 / 20)
LARGEST = 64_000_000  # pixels: they are decoded at once
STRIP = 4_000_000  # pixels that are looked at together
QUIETEST = 1e-6  # amplitude of a sound that is taken for silent

Levels = NDArray[np.float32]  # [sides, rows, columns], 0 silent to 1 the loudest; the lowest row first


@dataclass(frozen=True)
class Axes:
    """What a picture's height and its brightness stand for."""

    low_hz: float = 55.0
    high_hz: float = 14080.0
    range_db: float = 60.0

    def __post_init__(self) -> None:
        if not (self.low_hz >= LOWEST_HZ and 2 * self.low_hz <= self.high_hz <= HIGHEST_HZ):
            raise ConfigError(
                f"a picture from {self.low_hz:g} to {self.high_hz:g} Hz was asked for: it spans an octave or more, "
                f"between {LOWEST_HZ:g} and {HIGHEST_HZ:g} Hz"
            )
        if not 6 <= self.range_db <= 120:
            raise ConfigError(f"a range of {self.range_db:g} dB was asked for: it goes from 6 to 120")

    def grid(self, samples: int) -> Grid:
        return grid(samples, sample_rate=RATE, low_hz=self.low_hz, high_hz=self.high_hz)


AXES = Axes()


def sing(
    picture: Image.Image, *, axes: Axes = AXES, seconds: float | None = None, invert: bool = False, seed: int = 0
) -> Waveform:
    """The sound of a picture, 10 ms a column unless `seconds` says otherwise; of one without colours, mono.

    The brightest pixel sounds loudest, black not at all, and in between brightness counts decibels. `invert` takes
    dark for loud, as ink on paper. The sound peaks at -1 dB.
    """
    seconds = min(picture.width * COLUMN_S, LONGEST_S) if seconds is None else seconds
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ConfigError(f"a picture of {seconds:g} s was asked for: it goes from {SHORTEST_S:g} to {LONGEST_S:g}")
    levels = read_levels(picture, axes=axes, most_columns=math.ceil(seconds / FINEST_S), invert=invert)
    if not levels.any():
        more = "white throughout" if invert else "black throughout: --invert takes dark for loud"
        raise PictureError(f"nothing in the picture sounds: it is {more}")
    at = axes.grid(round(seconds * RATE))
    power = np.where(levels > 0, 10 ** (axes.range_db / 10 * (levels - levels.max())), 0.0)
    sides = [magnitudes(at, lifted(at, side)) for side in power]
    both = sides[0] if len(sides) == 1 else np.hypot(*sides)
    # What both sides have in common stays in the middle only with one phase for both.
    found = phased(at, both, rounds=ROUNDS, generator=np.random.default_rng(seed))
    samples = np.stack([sound(at, unrows(at, scaled(side, found))) for side in sides])
    fade = min(round(FADE_S * RATE), samples.shape[1] // 2)
    rise = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)  # a picture that begins or ends bright would click
    samples[:, :fade] *= rise
    samples[:, samples.shape[1] - fade :] *= rise[::-1]
    return Waveform(samples * np.float32(PEAK / np.abs(samples).max()), RATE)


def draw(waveform: Waveform, *, axes: Axes = AXES) -> Image.Image:
    """A sound as a picture, 10 ms a column; the loudest place is white, of a sound on one side only red or blue."""
    if not SHORTEST_S <= waveform.seconds <= LONGEST_S:
        raise AudioError(
            f"the sound is {waveform.seconds:.2f} s long: {SHORTEST_S:g} to {LONGEST_S:g} s can be drawn; cut it first"
        )
    heard = resample(waveform, RATE).samples[:2]  # of more channels, the first two
    if not np.isfinite(heard).all() or np.abs(heard).max() < QUIETEST:
        raise AudioError("the sound is silent throughout, or no sound: there is nothing to draw")
    at = axes.grid(heard.shape[1])
    columns = max(1, round(waveform.seconds / COLUMN_S))
    power = np.stack([column_power(at, rows(at, spectrum(at, side)), columns) for side in heard])
    level = np.clip(1 + 10 * np.log10(np.maximum(power / power.max(), 1e-30)) / axes.range_db, 0, 1)
    left, right = level[0], level[-1]
    pixels = np.round(255 * np.stack([left, np.minimum(left, right), right], axis=-1)[::-1]).astype(np.uint8)
    return Image.fromarray(pixels)


def open_picture(path: Path | str) -> Image.Image:
    """A picture from a file, upright; of an animation the first frame. `PictureError` where it is none."""
    path = Path(path)
    try:
        with warnings.catch_warnings():  # of too many pixels, which is said below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened as picture:
            if picture.width * picture.height > LARGEST:
                raise PictureError(
                    f"'{path.name}' has {picture.width} x {picture.height} pixels: {LARGEST // 10**6} million at most; "
                    "make it smaller"
                )
            picture.load()
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise PictureError(f"cannot read '{path.name}': No such file or directory") from None
    except UnidentifiedImageError:
        raise PictureError(f"'{path.name}' is no picture; to draw a sound, give an output that ends in .png") from None
    except Image.DecompressionBombError:
        raise PictureError(f"'{path.name}' has far too many pixels: {LARGEST // 10**6} million at most") from None
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"cannot read '{path.name}': {error}") from None


def write_picture(path: Path | str, picture: Image.Image) -> None:
    """Writes a PNG, in one step or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)


def read_levels(picture: Image.Image, *, axes: Axes, most_columns: int, invert: bool = False) -> Levels:
    """What a picture says of each side, at the rows of `octaves` and at most so many columns; one side if it is grey.

    Where pixels share a row or a column their power is averaged, so that a thin line keeps its loudness; where
    they are too few, brightness runs straight from one to the next.
    """
    tall, wide = len(row_hz(axes.low_hz, axes.high_hz)), min(most_columns, max(picture.width, 1))
    edges = np.linspace(0, picture.width, wide + 1)  # a strip ends where a column of the result does
    per_strip = max(1, STRIP * wide // (picture.height * picture.width))
    picture = _eight_bits(picture)
    strips, grey = [], True
    for first in range(0, wide, per_strip):
        last = min(first + per_strip, wide)
        low, high = math.floor(edges[first]), math.ceil(edges[last])
        sides = _sides(picture.crop((low, 0, high, picture.height)), invert=invert)
        grey = grey and bool(np.array_equal(sides[0], sides[1]))
        box = (edges[first] - low, 0.0, edges[last] - low, float(picture.height))
        strips.append(np.stack([_fitted(side, (last - first, tall), box, axes.range_db) for side in sides]))
    levels = np.concatenate(strips, axis=2)[:, ::-1]
    return np.ascontiguousarray(levels[:1] if grey else levels)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits, or of numbers with a point (their largest is white), with 8; any other as it is."""
    if picture.mode[0] == "I":
        return Image.fromarray((np.clip(np.asarray(picture), 0, 65535) >> 8).astype(np.uint8))
    if picture.mode == "F":
        numbers = np.nan_to_num(np.asarray(picture), posinf=0.0, neginf=0.0)
        return Image.fromarray(np.clip(255 * numbers / max(float(numbers.max()), 1e-30), 0, 255).astype(np.uint8))
    return picture


def _sides(picture: Image.Image, *, invert: bool) -> list[NDArray[np.uint8]]:
    """The brightness of left and right, each [H, W]. What is transparent shows black, or white where dark is loud."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white" if invert else "black")
        picture = Image.alpha_composite(ground, picture)
    if invert:
        picture = ImageOps.invert(picture.convert("RGB"))
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)
    return [np.maximum(red, green), np.maximum(blue, green)]


def _fitted(
    side: NDArray[np.uint8], size: tuple[int, int], box: tuple[float, float, float, float], range_db: float
) -> NDArray[np.float32]:
    """Brightness [H, W] at another size (width, height): shrunk as power, stretched as brightness."""
    wide, tall = size
    power = np.where(side > 0, 10 ** (range_db / 10 * (side / np.float32(255) - 1)), 0).astype(np.float32)
    shrunk = (min(wide, math.ceil(box[2] - box[0])), min(tall, side.shape[0]))
    if shrunk != (side.shape[1], side.shape[0]) or box[0] or box[2] != side.shape[1]:
        power = np.asarray(Image.fromarray(power).resize(shrunk, Image.Resampling.BOX, box=box))
    level = np.clip(1 + 10 * np.log10(np.maximum(power, 1e-30)) / range_db, 0, 1).astype(np.float32)
    if shrunk != size:
        level = np.asarray(Image.fromarray(level).resize(size, Image.Resampling.BILINEAR))
    return level
