"""How close two sounds are: pure functions on numpy arrays, none of which a model imports.

A plain mean of log-mel differences over all cells is decided by what nobody hears, and silence scores well on it; so
`log_mel_distance` looks only where something can be heard, and `partials_found` asks whether the note itself is there.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal import get_window

Array = NDArray[np.floating]


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
