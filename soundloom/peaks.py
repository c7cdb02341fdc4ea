"""Where the peaks of a spectrum are, to a small part of a bin: what pitch, chords and inharmonicity are read from."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from soundloom import spectral

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = NDArray[np.float32]

STRONG = 0.016  # peaks count down to 36 dB below the strongest of their frame
SILENCE = 1e-5  # amplitude of a partial below which there is nothing: -100 dBFS


def kernel(function: Function) -> Function:
    """A loop compiled by numba, kept on disk between runs."""
    return cast(Function, njit(cache=True, fastmath=True, nogil=True)(function))


def decimate(audio: Tensor, factor: int) -> Tensor:
    """Every factor-th sample of the low-passed signal; sample m of the result sits on sample m·factor."""
    half = 8 * factor
    n = spectral.frames(audio.shape[-1], hop_length=factor)
    padded = F.pad(audio, (half, half + n * factor - audio.shape[-1]))
    return padded.unfold(-1, 2 * half + 1, factor)[..., :n, :] @ low_pass(factor)


@lru_cache(maxsize=8)
def low_pass(factor: int) -> Tensor:
    """A windowed sinc of eight zero crossings a side, half its gain at 0.9 of the new Nyquist frequency."""
    with torch.inference_mode(False):
        half = 8 * factor
        t = torch.arange(-half, half + 1, dtype=torch.float64)
        taps = torch.sinc(0.9 * t / factor) * torch.cos(math.pi * t / (2 * half + 2)).square()
        return (taps / taps.sum()).float()


def spectra(signal: Tensor, window: int, hop_length: int) -> Floats:
    """[B, T] -> [B·N, F, 2], scaled so that a sinusoid's peak is its amplitude."""
    return frame_spectra(spectral.frame(signal, n_fft=window, hop_length=hop_length))


def frame_spectra(framed: Tensor) -> Floats:
    """Frames [..., window] -> [N, F, 2], as `spectra`."""
    window = framed.shape[-1]
    windowed = (framed * (spectral.hann(window, framed.device) * (4 / window))).flatten(0, -2)
    return cast(Floats, torch.view_as_real(torch.fft.rfft(windowed)).numpy())


@kernel
def find_peaks(magnitudes: Any, bin_hz: float, freqs: Any, amps: Any) -> int:
    """Local maxima down to STRONG of the largest, with Grandke's interpolation for the Hann window (1983)."""
    floor = 0.0
    last = magnitudes.shape[0] - 1
    for k in range(1, last):
        floor = max(floor, magnitudes[k])
    if floor < SILENCE:
        return 0
    floor *= STRONG
    count = 0
    for k in range(1, last):
        m = magnitudes[k]
        if m > floor and m > magnitudes[k - 1] and m >= magnitudes[k + 1]:
            if magnitudes[k + 1] > magnitudes[k - 1]:
                ratio = magnitudes[k + 1] / m
                shift = (2 * ratio - 1) / (ratio + 1)
            else:
                ratio = magnitudes[k - 1] / m
                shift = -(2 * ratio - 1) / (ratio + 1)
            freqs[count] = (k + shift) * bin_hz
            amps[count] = m * (1 + 0.65 * shift * shift)  # the scalloping of the window, undone to second order
            count += 1
    return count
