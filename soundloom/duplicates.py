"""The same sound twice: other names, gains, formats or trims. Found by fingerprint, proved by correlation; and the
split that keeps them together.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FRAMES, BANDS = 24, 16
_ALIKE = 0.98  # correlation of fingerprints from which the sounds themselves are compared
_SAME = 0.95  # normalised cross-correlation of the sounds; an MP3 at 128 kbit/s keeps 0.99
_NEIGHBOURS = 8  # how many candidates each sound is compared with at most
_COMPARED_HZ, _COMPARED_S, _LAG_S = 8000.0, 0.4, 0.05


def fingerprint(x: NDArray[np.float32], *, sample_rate: int) -> bytes:
    """A sound [T] as FRAMES × BANDS log energies in int8: the first half second or so, on a scale free of gain."""
    n = 2 ** round(np.log2(0.046 * sample_rate))
    padded = np.zeros(n * (FRAMES + 1) // 2, np.float32)
    padded[: min(len(x), len(padded))] = x[: len(padded)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, n)[:: n // 2] * _window(n)
    spectrum = fft.rfft(frames, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    places = _places(n, sample_rate)
    bands = np.add.reduceat(power, places, axis=1)[:, :BANDS]
    level = 10 * np.log10(np.maximum(bands / max(bands.max(), 1e-20), 1e-6))  # 0 to -60 dB
    return bytes(np.round((level + 60) * 2).astype(np.int8).tobytes())


@functools.cache
def _window(n: int) -> NDArray[np.float32]:
    return np.hanning(n).astype(np.float32)


@functools.cache
def _places(n: int, sample_rate: int) -> NDArray[np.int64]:
    """The bins at which the bands begin, and where the last one ends."""
    edges = np.geomspace(50.0, min(10000.0, 0.45 * sample_rate), BANDS + 1) * n / sample_rate
    return np.unique(np.concatenate([np.arange(BANDS), np.round(edges).astype(np.int64)]))[-BANDS - 1 :]


def group(
    hashes: Sequence[str], fingerprints: Sequence[bytes], audio: Callable[[int], NDArray[np.float32]], *, rate: int
) -> NDArray[np.int64]:
    """For each of n clips the index of the first clip that is the same sound, its own where there is none.

    `audio(i)` gives the mono samples of a clip; it is asked only for clips whose fingerprints are alike.
    """
    n = len(hashes)
    parent = np.arange(n)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    def join(a: int, b: int) -> None:
        low, high = sorted((root(a), root(b)))
        parent[high] = low

    first: dict[str, int] = {}
    for i, text in enumerate(hashes):
        join(i, first.setdefault(text, i))
    sounds = _Sounds(audio, rate=rate)
    distinct = np.array(sorted(first.values()), dtype=np.int64)
    # Exact copies are settled; one of each kind is compared with the others, a block of rows at a time.
    vectors = np.frombuffer(b"".join(fingerprints[i] for i in distinct), np.int8).astype(np.float32)
    vectors = vectors.reshape(len(distinct), FRAMES * BANDS)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    for start in range(0, len(distinct), 512):
        alike = vectors[start : start + 512] @ vectors.T
        for row in range(len(alike)):
            near = np.flatnonzero(alike[row, : start + row] > _ALIKE)
            near = near[np.argsort(alike[row, near])[::-1][:_NEIGHBOURS]]
            a = int(distinct[start + row])
            for other in near:
                b = int(distinct[other])
                if root(a) != root(b) and sounds.same(a, b):
                    join(a, b)
    return np.array([root(i) for i in range(n)], dtype=np.int64)


class _Sounds:
    """The spectra of the sounds that are compared, the latest ones kept."""

    def __init__(self, audio: Callable[[int], NDArray[np.float32]], *, rate: int) -> None:
        self.rate = rate
        self.spectrum = functools.lru_cache(maxsize=1024)(lambda i: _spectrum(audio(i), rate=rate))

    def same(self, a: int, b: int) -> bool:
        return _correlated(self.spectrum(a), self.spectrum(b), rate=self.rate) > _SAME


def correlation(a: NDArray[np.float32], b: NDArray[np.float32], *, rate: int) -> float:
    """The largest normalised cross-correlation of two sounds [T] over lags up to 50 ms: 1 for the same sound.

    The first 0.4 s below 8 kHz are compared, so that a copy that went through MP3 or a lower rate is still the same.
    """
    return _correlated(_spectrum(a, rate=rate), _spectrum(b, rate=rate), rate=rate)


def _spectrum(x: NDArray[np.float32], *, rate: int) -> NDArray[np.complex64]:
    """Of unit energy, so that a product of two gives a correlation."""
    size = round(_COMPARED_S * rate)
    n = fft.next_fast_len(2 * size, real=True)
    keep = int(n * min(_COMPARED_HZ, rate / 2) / rate)
    spectrum = fft.rfft(x[:size], n)[:keep]
    return np.asarray(spectrum / max(float(np.linalg.norm(spectrum)), 1e-20), np.complex64)


def _correlated(a: NDArray[np.complex64], b: NDArray[np.complex64], *, rate: int) -> float:
    # Only the kept band is transformed back: lags come at its rate, 16 kHz or less, finely enough to find the peak
    # of what has nothing above 8 kHz once it is interpolated twice.
    n = 4 * len(a)
    lags = fft.irfft(a * b.conj(), n) * n / 2
    reach = round(_LAG_S * 4 * min(_COMPARED_HZ, rate / 2))
    return float(max(lags[: reach + 1].max(), lags[-reach:].max()))


def split(groups: Sequence[Sequence[str]]) -> list[str]:
    """The split of each group, which is the hashes of its clips: 80 in 100 train, 10 validation, 10 test.

    The hashes alone decide, so that a group keeps its split when others come and go. Fewer than ten clips are all
    needed for training; from ten on, at least one group each is held back for validation and test.
    """
    places = [int(hashlib.blake2b(min(hashes).encode(), digest_size=8).hexdigest(), 16) / 2**64 for hashes in groups]
    if sum(map(len, groups)) < 10 or len(groups) < 3:
        return ["train"] * len(groups)
    splits = ["train" if u < 0.8 else "validation" if u < 0.9 else "test" for u in places]
    for name, middle in (("train", 0.4), ("validation", 0.85), ("test", 0.95)):
        if name not in splits:
            free = [i for i, other in enumerate(splits) if splits.count(other) > 1]
            splits[min(free, key=lambda i: abs(places[i] - middle))] = name
    return splits
