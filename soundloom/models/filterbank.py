"""A bank of 16 filters: a sound as 16 slow signals, each a sixteenth of the spectrum, and back.

A cosine-modulated pseudo-QMF bank (Rothweiler, 1983), critically sampled: T samples become T / 16 steps of 16 values.
Filter k is a low-pass prototype p moved to the middle of its band,

    g_k[n] = p[n] · cos((2k + 1) · π/32 · (n - (TAPS - 1)/2) - (-1)^k · π/4)          n = 0 … TAPS - 1

and step t looks at the TAPS samples around its own 16:

    step t     [-- DELAY --|== 16 ==|-- DELAY --]
    step t + 1      [-- DELAY --|== 16 ==|-- DELAY --]

The rows g_k, moved by 16 t, are all but orthonormal, so that synthesis is the transpose of analysis, energy is kept,
and a density over the bands is one over the samples. The sound comes back 0 samples late when all is at hand, and
`DELAY` samples late in a stream. The prototype starts as a low-pass with a Kaiser window (Lin and Vaidyanathan, 1998)
and is improved until both are small: what is lost on the way there and back (-80 dB), and what leaks from beyond the
neighbouring bands (-82 dB).
"""

import math
from functools import lru_cache

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

BANDS = 16
TAPS = 192  # 2 · BANDS · 6
DELAY = (TAPS - BANDS) // 2  # samples
BETA = 9.0  # of the Kaiser window that the design begins from
EDGE = 1.05  # band widths from zero, from where on the prototype should let nothing through
STOPPED = 0.01  # how much that counts beside perfect reconstruction
ROUNDS = 20


@lru_cache(maxsize=1)
def filters() -> NDArray[np.float64]:
    """g, [BANDS, TAPS]."""
    n = np.arange(TAPS) - (TAPS - 1) / 2
    k = np.arange(BANDS)[:, None]
    return _prototype() * np.cos((2 * k + 1) * math.pi / (2 * BANDS) * n - (-1.0) ** k * math.pi / 4)


def _prototype() -> NDArray[np.float64]:
    """The low-pass p [TAPS]: the best with a Kaiser window, then Gauss-Newton on its flaws and its stopband."""
    cutoff = minimize_scalar(
        lambda cutoff: np.abs(_flaws(_low_pass(cutoff))).max(), bounds=(0.5 / BANDS, 0.75 / BANDS), method="bounded"
    )
    prototype, half = _low_pass(float(cutoff.x)), TAPS // 2
    mirror = np.concatenate([np.eye(half), np.eye(half)[:, ::-1]], 1)  # p is symmetric: its first half says all
    n = np.arange(TAPS) - (TAPS - 1) / 2
    stopband = STOPPED * np.cos(math.pi * np.outer(np.linspace(EDGE / BANDS, 1, 1200), n)) @ mirror.T
    for _ in range(ROUNDS):
        # The flaws are quadratic in p, so that their slope along e is exactly theirs at p + e/2 less theirs at p - e/2.
        slope = np.stack([_flaws(prototype + e / 2) - _flaws(prototype - e / 2) for e in mirror], 1)
        wrong = np.concatenate([_flaws(prototype), stopband @ prototype[:half]])
        prototype = prototype - np.linalg.lstsq(np.concatenate([slope, stopband]), wrong, rcond=None)[0] @ mirror
    return prototype


def _low_pass(cutoff: float) -> NDArray[np.float64]:
    """The windowed low-pass [TAPS] with its -6 dB point at `cutoff` (1 is the Nyquist frequency)."""
    n = np.arange(TAPS) - (TAPS - 1) / 2
    low_pass = np.sinc(cutoff * n) * np.kaiser(TAPS, BETA)
    scaled: NDArray[np.float64] = low_pass * math.sqrt(2.0 / np.sum(low_pass**2))
    return scaled


def _flaws(prototype: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the bank is from orthonormal: of the prototype's phases [2 · BANDS, TAPS / (2 · BANDS)], the
    autocorrelations of phase k and phase k + BANDS must add up to an impulse of 2 / BANDS (Vaidyanathan, 1993)."""
    phases = prototype.reshape(-1, 2 * BANDS).T
    lags = phases.shape[1]
    flaws = np.stack([(phases[:, : lags - lag] * phases[:, lag:]).sum(1) for lag in range(lags)], 1)
    flaws = flaws[: BANDS // 2] + flaws[BANDS : BANDS + BANDS // 2]
    flaws[:, 0] -= 2.0 / BANDS
    flat: NDArray[np.float64] = flaws.ravel()
    return flat


def analysed(audio: Tensor) -> Tensor:
    """audio [B, T], T a multiple of 16 -> bands [B, T / 16, 16]; the sound is zero outside itself."""
    kernel = _kernel(audio.device)
    return F.conv1d(F.pad(audio, (DELAY, DELAY))[:, None], kernel, stride=BANDS).transpose(1, 2)


def synthesised(bands: Tensor) -> Tensor:
    """bands [B, N, 16] -> audio [B, 16 N], the sound that `analysed` took apart."""
    whole = F.conv_transpose1d(bands.transpose(1, 2), _kernel(bands.device), stride=BANDS)[:, 0]
    return whole[:, DELAY:-DELAY]


@lru_cache(maxsize=4)
def _kernel(device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(filters()).float()[:, None].to(device)


def no_tail() -> NDArray[np.float32]:
    """What a stream of synthesis starts with."""
    return np.zeros(TAPS - BANDS, np.float32)


def synthesised_on(bands: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    """The next steps [n, 16] of a stream -> the next 16 n samples, `DELAY` late; `tail` is written in place.

    Step by step, so that any split gives the same samples to the bit.
    """
    audio = np.empty(bands.size, np.float32)
    _overlap(bands, _narrow_filters(), tail, audio)
    return audio


@lru_cache(maxsize=1)
def _narrow_filters() -> NDArray[np.float32]:
    return filters().astype(np.float32)


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _overlap(
    bands: NDArray[np.float32], kernel: NDArray[np.float32], tail: NDArray[np.float32], audio: NDArray[np.float32]
) -> None:
    total = np.zeros(TAPS, np.float32)
    for t in range(len(bands)):
        total[: TAPS - BANDS] = tail
        total[TAPS - BANDS :] = 0
        for k in range(BANDS):
            value, row = bands[t, k], kernel[k]
            for n in range(TAPS):
                total[n] += value * row[n]
        audio[t * BANDS : (t + 1) * BANDS] = total[:BANDS]
        tail[:] = total[BANDS:]
