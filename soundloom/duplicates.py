"""The same sound twice: other names, gains, formats or trims. Found by fingerprint, proved by correlation; and the
split that keeps them together.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FRAMES, BANDS = 24, 16
_ALIKE = 0.97  # correlation of fingerprints from which the sounds themselves are compared
_SAME = 0.95  # normalised cross-correlation of the sounds; an MP3 at 128 kbit/s keeps 0.99
_NEIGHBOURS = 16  # how many candidates each sound is compared with at most
_COMPARED_HZ, _COMPARED_S = 8000.0, 1.0


def fingerprint(x: NDArray[np.float32], *, sample_rate: int) -> bytes:
    """A sound [T] as FRAMES × BANDS log energies in int8: the first half second or so, on a scale free of gain."""
    n = 2 ** round(np.log2(0.046 * sample_rate))
    padded = np.zeros(n * (FRAMES + 1) // 2, np.float32)
    padded[: min(len(x), len(padded))] = x[: len(padded)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, n)[:: n // 2] * np.hanning(n).astype(np.float32)
    power = np.abs(fft.rfft(frames, axis=1)) ** 2
    edges = np.geomspace(50.0, min(10000.0, 0.45 * sample_rate), BANDS + 1) * n / sample_rate
    places = np.unique(np.concatenate([np.arange(BANDS), np.round(edges).astype(int)]))[-BANDS - 1 :]
    bands = np.add.reduceat(power, places, axis=1)[:, :BANDS]
    level = 10 * np.log10(np.maximum(bands / max(bands.max(), 1e-20), 1e-6))  # 0 to -60 dB
    return bytes(np.round((level + 60) * 2).astype(np.int8).tobytes())


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
                if root(a) != root(b) and correlation(audio(a), audio(b), rate=rate) > _SAME:
                    join(a, b)
    return np.array([root(i) for i in range(n)], dtype=np.int64)


def correlation(a: NDArray[np.float32], b: NDArray[np.float32], *, rate: int) -> float:
    """The largest normalised cross-correlation of two sounds [T] over lags up to 50 ms, below 8 kHz, first second.

    The band is limited so that a copy that went through MP3 or a lower rate still counts as the same.
    """
    size = round(_COMPARED_S * rate)
    a, b = a[:size], b[:size]
    n = fft.next_fast_len(len(a) + len(b), real=True)
    keep = max(2, int(n * min(_COMPARED_HZ, rate / 2) / rate))
    spectrum_a, spectrum_b = fft.rfft(a, n)[:keep], fft.rfft(b, n)[:keep]
    energy = np.sqrt(np.sum(np.abs(spectrum_a) ** 2) * np.sum(np.abs(spectrum_b) ** 2))
    if energy == 0:
        return 0.0
    product = np.zeros(n // 2 + 1, np.complex64)
    product[:keep] = spectrum_a * spectrum_b.conj()
    lags = fft.irfft(product, n) * n / 2
    reach = min(round(0.05 * rate), n // 2)
    return float(max(lags[: reach + 1].max(), lags[-reach:].max()) / energy)


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
