"""How close two sounds are: pure functions on numpy arrays, none of which a model imports.

A plain mean of log-mel differences over all cells is decided by what nobody hears, and silence scores well on it; so
`log_mel_distance` looks only where something can be heard, and `partials_found` asks whether the note itself is there.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, rfft
from scipy.signal import get_window

Array = NDArray[np.floating]

QUIETEST = 1e-5  # amplitude below which spectra without a floor of their own are not told apart: -100 dB


def _spectrogram(sound: Array, *, n_fft: int, hop_length: int, pad: int) -> NDArray[np.float64]:
    """Amplitudes of Hann frames, [N, F], scaled so that a sine of amplitude 1 gives 1. `pad` zeros come before."""
    sound = np.concatenate([np.zeros(pad), np.asarray(sound, np.float64)])
    n_frames = max(1, -(-(len(sound) - n_fft + pad) // hop_length) + 1)
    sound = np.pad(sound, (0, max(0, (n_frames - 1) * hop_length + n_fft - len(sound))))
    window = get_window("hann", n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(sound, n_fft)[: n_frames * hop_length : hop_length]
    spectrum: NDArray[np.float64] = np.abs(rfft(frames * window, axis=-1)) * (2 / window.sum())
    return spectrum


@lru_cache(maxsize=8)
def _mel(sample_rate: int, n_fft: int, n_mels: int) -> NDArray[np.float64]:
    """Triangular filters of unit area per hertz on the mel scale m = 2595 log10(1 + f / 700), [n_mels, F]."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges: NDArray[np.float64] = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rise, fall))
    # A band narrower than a bin may fall between two bins: it then listens to the nearest one.
    centres = np.abs(bins - edges[1:-1, None]).argmin(1)
    for band in np.flatnonzero(filters.sum(1) == 0):
        filters[band, centres[band]] = 1.0
    unit: NDArray[np.float64] = filters / filters.sum(1, keepdims=True)
    return unit


def log_mel_distance(reference: Array, other: Array, *, sample_rate: int, range_db: float = 60.0) -> float:
    """Mean difference of natural logs of 128 mel amplitudes over the cells that can be heard in either sound.

    `reference`, `other`: [T] mono, at the same level. Frames of 46 ms, hop 12 ms (2048 and 512 at 44.1 kHz). Cells
    count where either is within `range_db` of the reference's loudest; both are floored there. 0 is equal; on a
    piano, noise with the right level in each band scores about 0.55, white noise with the right level in all 1.4.
    The shorter sound is padded with silence.
    """
    n_fft = 2 ** round(np.log2(sample_rate * 2048 / 44100))
    length = max(len(reference), len(other))
    mels = [
        _spectrogram(np.pad(sound, (0, length - len(sound))), n_fft=n_fft, hop_length=n_fft // 4, pad=n_fft // 2)
        @ _mel(sample_rate, n_fft, 128).T
        for sound in (np.asarray(reference), np.asarray(other))
    ]
    floor = mels[0].max() * 10 ** (-range_db / 20)
    if floor == 0.0:
        return 0.0 if mels[1].max() == 0.0 else float("inf")
    heard = (mels[0] > floor) | (mels[1] > floor)
    logs = [np.log(np.maximum(mel, floor)) for mel in mels]
    return float(np.abs(logs[0] - logs[1])[heard].mean())


def _peaks(sound: Array, *, sample_rate: int, n_fft: int, range_db: float) -> list[tuple[Array, Array]]:
    """Frequency (Hz) and level (dB) of the spectral peaks of each frame, refined by a parabola through the log."""
    amplitudes = _spectrogram(sound, n_fft=n_fft, hop_length=n_fft // 2, pad=0)
    levels = 20 * np.log10(np.maximum(amplitudes, 1e-9))
    threshold = levels.max() - range_db
    lowest = int(np.ceil(20 * n_fft / sample_rate))
    peaks = []
    for frame in levels:
        middle = frame[1:-1]
        at = np.flatnonzero((middle > frame[:-2]) & (middle >= frame[2:]) & (middle > threshold)) + 1
        at = at[at >= lowest]
        left, centre, right = frame[at - 1], frame[at], frame[at + 1]
        offset = 0.5 * (left - right) / (left - 2 * centre + right)
        peaks.append(((at + offset) * sample_rate / n_fft, centre - 0.25 * (left - right) * offset))
    return peaks


def partials_found(
    reference: Array,
    other: Array,
    *,
    sample_rate: int,
    range_db: float = 40.0,
    cents: float = 30.0,
    level_db: float = 6.0,
) -> float:
    """F-score of spectral peaks that the two sounds share, 0 to 1.

    `reference`, `other`: [T] mono. Peaks of Hann frames of 186 ms (8192 at 44.1 kHz), half overlapping, above 20 Hz
    and within `range_db` of their own sound's loudest bin; one is found when the other sound has one within `cents`
    (or 6 Hz) and `level_db` in the same frame. Counts are pooled over the sound. Another velocity of the same piano
    note scores about 0.5, a wrong note 0.1.
    """
    n_fft = 2 ** round(np.log2(sample_rate * 8192 / 44100))
    length = max(len(reference), len(other))
    tracks = [
        _peaks(np.pad(s, (0, length - len(s))), sample_rate=sample_rate, n_fft=n_fft, range_db=range_db)
        for s in (np.asarray(reference), np.asarray(other))
    ]
    hits, totals = [0, 0], [0, 0]
    for frames in zip(*tracks, strict=True):
        for side, ((mine_hz, mine_db), (theirs_hz, theirs_db)) in enumerate((frames, frames[::-1])):
            totals[side] += len(mine_hz)
            if len(mine_hz) and len(theirs_hz):
                apart = np.abs(mine_hz[:, None] - theirs_hz)
                near = (apart <= 6.0) | (apart <= mine_hz[:, None] * (2 ** (cents / 1200) - 1))
                alike = np.abs(mine_db[:, None] - theirs_db) <= level_db
                hits[side] += int((near & alike).any(1).sum())
    if 0 in totals:
        return 1.0 if totals[0] == totals[1] else 0.0
    recall, precision = hits[0] / totals[0], hits[1] / totals[1]
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def noise_with_envelope(reference: Array, *, sample_rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """The trivial answer to beat: noise with the reference's envelope in 128 mel bands, frame by frame, [T]."""
    n_fft = 2 ** round(np.log2(sample_rate * 2048 / 44100))
    hop, window = n_fft // 4, get_window("hann", n_fft)
    mel = _mel(sample_rate, n_fft, 128)
    amplitudes = _spectrogram(reference, n_fft=n_fft, hop_length=hop, pad=n_fft // 2) @ mel.T
    spread = amplitudes @ (mel / np.maximum(mel.sum(0), 1e-9))  # [N, F]: each bin the mean of the bands it belongs to
    noise = generator.standard_normal(spread.shape) + 1j * generator.standard_normal(spread.shape)
    frames = np.fft.irfft(spread * noise, axis=-1) * window
    out = np.zeros(len(frames) * hop + n_fft)
    for n, frame in enumerate(frames):
        out[n * hop : n * hop + n_fft] += frame
    out = out[n_fft // 2 : n_fft // 2 + len(reference)]
    energy = np.sqrt(np.mean(out**2))
    return np.asarray(out * (np.sqrt(np.mean(np.square(reference))) / max(energy, 1e-12)), np.float32)


def onset_s(sound: Array, *, sample_rate: int, below_peak_db: float = 20.0) -> float:
    """When the sound first comes within `below_peak_db` of its peak, in seconds."""
    level = np.abs(np.asarray(sound))
    return float(np.argmax(level >= level.max() * 10 ** (-below_peak_db / 20)) / sample_rate)


def cents_between(a_hz: float, b_hz: float) -> float:
    """How much higher `a_hz` is than `b_hz`, in cents."""
    return float(1200 * np.log2(a_hz / b_hz))


def multi_resolution_stft(reference: Array, other: Array, *, sample_rate: int) -> float:
    """The loss that many vocoders are trained on, as a figure: spectral convergence plus the mean difference of natural
    logs of amplitudes, averaged over Hann frames of 12, 23 and 46 ms at a quarter of that (Yamamoto 2020).

    `reference`, `other`: [T] mono. Every cell counts the same down to -100 dB, so it is mostly about what is faint; 0
    is equal. NaN where the reference is silent.
    """
    total = 0.0
    for size in (512, 1024, 2048):
        a, b = _spectra(reference, other, n_fft=2 ** round(np.log2(sample_rate * size / 44100)))
        if not a.any():
            return float("nan")
        logs = [np.log(np.maximum(x, QUIETEST)) for x in (a, b)]
        total += float(np.linalg.norm(a - b) / np.linalg.norm(a) + np.abs(logs[0] - logs[1]).mean())
    return total / 3


def log_mel_l1(reference: Array, other: Array, *, sample_rate: int) -> float:
    """Mean difference of natural logs of 128 mel amplitudes over all cells, floored at -100 dB, as most papers
    report it. `log_mel_distance` looks at what can be heard. `reference`, `other`: [T] mono."""
    a, b = _log_mels(reference, other, sample_rate=sample_rate, floor=QUIETEST)
    return float(np.abs(a - b).mean())


def mfcc_distortion(reference: Array, other: Array, *, sample_rate: int, range_db: float = 60.0) -> float:
    """How many dB the smoothed spectra differ, whatever the level: mel-cepstral distortion (Kubichek 1993).

    The rms difference of the log-mel spectra as cosines 1 to 12 draw them (MFCC 1 to 12), averaged over the frames in
    which either sound is within `range_db` of the reference's loudest cell. `reference`, `other`: [T] mono. NaN where
    the reference is silent.
    """
    a, b = _log_mels(reference, other, sample_rate=sample_rate, floor=0.0)
    top = a.max()
    if not np.isfinite(top):
        return float("nan")
    floor = top - range_db * np.log(10) / 20
    heard = (np.maximum(a, b) > floor).any(1)
    levels = [20 / np.log(10) * np.maximum(x[heard], floor) for x in (a, b)]
    apart = dct(levels[0] - levels[1], type=2, norm="ortho", axis=1)[:, 1:13]
    return float(np.sqrt((apart**2).sum(1) / a.shape[1]).mean())  # Parseval: the mean square over the bands


def waveform_correlation(reference: Array, other: Array) -> float:
    """Pearson's correlation of the samples, -1 to 1: 1 only where the phase is right too. NaN where one is constant."""
    return _correlation(*_padded(reference, other))


def envelope_correlation(reference: Array, other: Array, *, sample_rate: int) -> float:
    """Pearson's correlation of the loudness over time (rms of 10 ms), -1 to 1. NaN where one never changes."""
    size = max(1, sample_rate // 100)
    a, b = (np.pad(x, (0, -len(x) % size)).reshape(-1, size) for x in _padded(reference, other))
    return _correlation(np.sqrt((a**2).mean(1)), np.sqrt((b**2).mean(1)))


def si_sdr(reference: Array, other: Array) -> float:
    """How many dB the reference, at whatever gain fits best, stands above all else in the other (Le Roux 2019).

    Both [T] and of zero mean first. Infinite for a scaled copy; NaN where either is silent.
    """
    a, b = (x - x.mean() for x in _padded(reference, other))
    if not (a.any() and b.any()):
        return float("nan")
    target = (a @ b) / (a @ a) * a
    left = b - target
    with np.errstate(divide="ignore"):
        return float(10 * np.log10((target @ target) / (left @ left)))


def _padded(reference: Array, other: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in float64, the shorter one with silence at its end."""
    length = max(len(reference), len(other))
    a, b = (np.pad(np.asarray(x, np.float64), (0, length - len(x))) for x in (reference, other))
    return a, b


def _spectra(reference: Array, other: Array, *, n_fft: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Amplitudes [N, F] of both, centred frames at a quarter of n_fft."""
    a, b = (_spectrogram(x, n_fft=n_fft, hop_length=n_fft // 4, pad=n_fft // 2) for x in _padded(reference, other))
    return a, b


def _log_mels(
    reference: Array, other: Array, *, sample_rate: int, floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Natural logs of 128 mel amplitudes of both, [N, 128]; -inf where there is nothing and no floor."""
    n_fft = 2 ** round(np.log2(sample_rate * 2048 / 44100))
    with np.errstate(divide="ignore"):
        a, b = (
            np.log(np.maximum(x @ _mel(sample_rate, n_fft, 128).T, floor))
            for x in _spectra(reference, other, n_fft=n_fft)
        )
    return a, b


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")
