"""Sound as rows evenly spaced in octaves, and back: what an ear hears as equal steps is equally high, as in a picture.

Row r listens at hz[r] through a Gaussian in frequency, whose width grows with the row's height in hertz:

    c(f, t) = Σ_ν X(ν) · exp(-(ν - f)² / 2σ²) · exp(2πi ν t)          X the spectrum of the whole sound

Wide rows change fast and narrow ones slowly, so each has its own rate: a power of two of samples between two values.
A constant-Q transform that has an exact inverse, the sum of the rows through the same windows divided by Σ_r of their
squares (Holighaus, Dörfler, Velasco and Grill, 2013).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

ROWS_PER_OCTAVE = 64  # 19 cents
WIDTH = 0.75  # of a row's height is σ: a steady tone is three rows high, within 35 dB of its loudest
NARROWEST_HZ = 10.0  # of σ: low rows then tell times 16 ms apart
CUT = 4.0  # σ to either side are kept: the rest is 70 dB down
MARGIN_S = 0.25  # of silence around the sound, for what rings over its ends

Floats = NDArray[np.float64]
Coefficients = NDArray[np.complex64]  # [Σ count], row after row, lowest first


@dataclass(frozen=True, eq=False)
class Band:
    """Neighbouring rows of one rate. `first` to `last` are their rows; the n of them have `count` values each.
    `bins` [n, S] of the spectrum pass with `weight` [n, S] into the places `slot` [n, S] of n · count."""

    first: int
    last: int
    hop: int
    count: int
    bins: NDArray[np.int32]
    weight: NDArray[np.float32]
    slot: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Grid:
    """Where a sound of `samples` is looked at: rows `hz` [R] of width `sigma_hz` [R], lowest first; row r every
    `hop[r]` samples, `count[r]` times, its first value at `start[r]` of the coefficients, `margin` samples before the
    sound begins. `length` is that of the spectrum, `total` [F] the sum of the squared windows."""

    samples: int
    sample_rate: int
    length: int
    margin: int
    hz: Floats
    sigma_hz: Floats
    hop: NDArray[np.int64]
    count: NDArray[np.int64]
    start: NDArray[np.int64]
    bands: tuple[Band, ...]
    total: NDArray[np.float32]

    @property
    def rows(self) -> int:
        return len(self.hz)

    def block(self, values: NDArray[Any], band: Band) -> NDArray[Any]:
        """The part of flat `values` that belongs to a band, as a view [n, count]."""
        start = int(self.start[band.first])
        rows = band.last - band.first
        return values[start : start + rows * band.count].reshape(rows, band.count)


def row_hz(low_hz: float, high_hz: float) -> Floats:
    """The rows from low to high, [R]: each in the middle of its step."""
    octaves = math.log2(high_hz / low_hz)
    rows = max(1, round(octaves * ROWS_PER_OCTAVE))
    return np.asarray(low_hz * 2 ** ((np.arange(rows) + 0.5) / rows * octaves))


def grid(samples: int, *, sample_rate: int, low_hz: float, high_hz: float) -> Grid:
    """The rows from low to high for sounds of so many samples."""
    hz = row_hz(low_hz, high_hz)
    sigma = np.hypot(WIDTH * hz * (2 ** (1 / ROWS_PER_OCTAVE) - 1), NARROWEST_HZ)
    hop = 2 ** np.floor(np.log2(sample_rate / (2 * CUT * sigma))).astype(np.int64)
    largest = int(hop[0])
    margin = round(MARGIN_S * sample_rate) // largest * largest
    length = int(scipy.fft.next_fast_len(-(-(samples + 2 * margin) // largest))) * largest
    bands, total = [], np.zeros(length // 2 + 1)
    for size in np.unique(hop)[::-1]:
        rows = np.flatnonzero(hop == size)
        count = length // int(size)
        reach = min(math.ceil(CUT * sigma[rows[-1]] * length / sample_rate), (count - 1) // 2)
        centre = np.round(hz[rows] * length / sample_rate).astype(np.int32)
        bins = centre[:, None] + np.arange(-reach, reach + 1, dtype=np.int32)
        apart = (bins * (sample_rate / length) - hz[rows, None]) / sigma[rows, None]
        inside = (bins > 0) & (bins < length // 2)
        weight = (np.exp(-0.5 * apart**2) * inside).astype(np.float32)
        bins = np.where(inside, bins, 0).astype(np.int32)
        slot = bins % count + (np.arange(len(rows), dtype=np.int32) * count)[:, None]
        bands.append(Band(int(rows[0]), int(rows[-1]) + 1, int(size), count, bins, weight, slot.astype(np.int32)))
        total += np.bincount(bins.ravel(), weight.ravel() ** 2, length // 2 + 1)
    count_of = length // hop
    start = np.concatenate([[0], np.cumsum(count_of)])[:-1]
    # Beyond the outermost rows hardly anything is known: it is not blown up.
    total = np.maximum(total, 0.01 * np.median(total[total > 0.0]))
    return Grid(samples, sample_rate, length, margin, hz, sigma, hop, count_of, start, tuple(bands),
                total.astype(np.float32))  # fmt: skip


def spectrum(at: Grid, audio: NDArray[np.float32]) -> Coefficients:
    """audio [T] -> its spectrum [F], the margins silent; a sine of amplitude 1 has 1 in all."""
    padded = np.zeros(at.length, np.float32)
    padded[at.margin : at.margin + at.samples] = audio
    found: Coefficients = scipy.fft.rfft(padded) * np.float32(2 / at.length)
    return found


def sound(at: Grid, found: Coefficients) -> NDArray[np.float32]:
    """A spectrum [F] -> the sound [T]."""
    padded: NDArray[np.float32] = scipy.fft.irfft(found * np.float32(at.length / 2), n=at.length)
    return padded[at.margin : at.margin + at.samples]


def rows(at: Grid, found: Coefficients) -> Coefficients:
    """A spectrum [F] -> coefficients: a steady sine on a row has its amplitude there."""
    made = np.empty(int(at.start[-1] + at.count[-1]), np.complex64)
    for band in at.bands:
        values = np.zeros((band.last - band.first, band.count), np.complex64)
        values.reshape(-1)[band.slot] = found[band.bins] * band.weight
        at.block(made, band)[:] = scipy.fft.ifft(values, axis=1, norm="forward", overwrite_x=True)
    return made


def unrows(at: Grid, coefficients: Coefficients) -> Coefficients:
    """Coefficients -> the spectrum [F] whose `rows` come nearest to them; of those that `rows` made, the spectrum."""
    real, imaginary = np.zeros(len(at.total)), np.zeros(len(at.total))
    for band in at.bands:
        values = scipy.fft.fft(at.block(coefficients, band), axis=1, norm="forward").reshape(-1)[band.slot]
        for sums, part in ((real, values.real), (imaginary, values.imag)):
            sums += np.bincount(band.bins.ravel(), (part * band.weight).ravel(), len(sums))
    found: Coefficients = ((real + 1j * imaginary) / at.total).astype(np.complex64)
    return found


def column_power(at: Grid, coefficients: Coefficients, columns: int) -> Floats:
    """The mean power of each row in each of `columns` equal parts of the sound, [R, columns]: 1 for a sine of
    amplitude 1."""
    edges = np.linspace(0, at.samples, columns + 1) + at.margin
    power = np.empty((at.rows, columns))
    for band in at.bands:
        values = np.abs(at.block(coefficients, band)).astype(np.float64) ** 2
        # The integral of the straight lines between values, up to each edge.
        whole = np.pad(np.cumsum((values[:, 1:] + values[:, :-1]) / 2, axis=1), ((0, 0), (1, 0)))
        place = edges / band.hop
        below = place.astype(np.int64)
        part = place - below
        upto = whole[:, below] + part * values[:, below]
        upto += part**2 / 2 * (values[:, below + 1] - values[:, below])
        power[band.first : band.last] = np.maximum(np.diff(upto, axis=1), 0) / np.diff(place)
    return power


def lifted(at: Grid, power: Floats) -> Floats:
    """Power [R, columns] with what is drawn finer than any sound can be raised, so that its loudest row comes out as
    loud as drawn; what a sound has made stays as it is.

    A tone on row s is heard at amplitude Σ_r a_r G_r(f_s) / Σ_r G_r(f_s)²: 1 where the rows around hold their share,
    a_r = G_r(f_s), and less where they are dark.
    """
    apart = (at.hz[:, None] - at.hz) / at.sigma_hz
    share = np.exp(-0.5 * apart**2)
    amplitude = np.sqrt(power)
    heard = share @ amplitude / (share**2).sum(1, keepdims=True)
    # The best that is heard nearby: the edge of an area is no fine line.
    near = np.abs(apart) <= 1.5
    best = np.stack([heard[which].max(axis=0) for which in near])
    lift = np.divide(amplitude, best, out=np.ones_like(best), where=amplitude > best)
    raised: Floats = power * lift**2
    return raised


def magnitudes(at: Grid, power: Floats) -> NDArray[np.float32]:
    """Power [R, columns] -> what the coefficients' magnitudes should be; `column_power` gives about this again.

    Each is the mean over its own time, a column or the row's hop, whichever is longer: nothing falls between two
    values, and between the middles of two columns power runs straight.
    """
    column = at.samples / power.shape[1]  # in samples of the sound
    whole = np.pad(np.cumsum(power, axis=1) * column, ((0, 0), (1, 0)))
    made = np.empty(int(at.start[-1] + at.count[-1]), np.float32)
    for band in at.bands:
        moment = np.arange(band.count) * band.hop - at.margin
        width = max(column, band.hop)
        upto = []
        for edge in (moment - width / 2, moment + width / 2):
            place = np.clip(edge / column, 0, power.shape[1])
            below = np.minimum(place.astype(np.int64), power.shape[1] - 1)
            own = slice(band.first, band.last)
            upto.append(whole[own][:, below] + (place - below) * column * power[own][:, below])
        at.block(made, band)[:] = np.sqrt(np.maximum(upto[1] - upto[0], 0) / width)
    return made
