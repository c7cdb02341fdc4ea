"""Harmonic sound written straight into STFT bins: the excitation of the shared decoder.

A partial of frequency f and amplitude a, seen through a Hann window of n samples centred on the frame, is the window's
transform moved to f:

    X[k] = (-1)^k · a/2 · e^{iφ} · n/2 · sinc(δ) / (1 - δ²)        δ = k - f·n/sample_rate   (bins)

with φ the phase at the frame's centre, advanced from frame to frame by the mean of the two frequencies (FFT⁻¹
synthesis: Rodet and Depalle, 1992). Four bins each side hold all but -70 dB of it. Partials may lie anywhere: those of
a stiff string at p·f0·√(1 + B·p²) (Fletcher, 1964), those of several voices side by side.

The amplitude of partial p is e^(index[p] + band(f_p)): a table by number, which a transposition carries along, plus an
envelope over frequency, which it leaves in place.
"""

import math
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

REACH = 4  # bins written each side of a partial
HIGHEST = 0.98  # of the Nyquist frequency: above, nothing is written
BANDS_LOW_HZ = 30.0
MOST_PARTIALS = 512
QUIETEST, LOUDEST = (
    -16.0,
    0.7,
)  # log-amplitudes: below, a partial is not written (-139 dB); above (6 dB), it is held there


def write_partials(
    index: Tensor,
    band: Tensor,
    f0_hz: Tensor,
    stiffness: Tensor,
    phase: Tensor,
    *,
    sample_rate: int,
    n_fft: int,
    hop_length: int,
) -> tuple[Tensor, Tensor]:
    """The harmonic spectrum of K voices, summed, and the phases after it.

    Shapes: `index` [B, K, N, P] and `band` [B, K, N, M], log-amplitudes, the M bands log-spaced from 30 Hz to the
    Nyquist frequency; `f0_hz` [B, K, N], 0 where silent; `stiffness` [B, K, N], the B of the string; `phase`
    [B, K, MOST_PARTIALS + 1] float64: the cycles each partial has run, modulo 1, and the last f0 (see `no_phase`).
    Returns real and imaginary parts [B, N, F, 2] float32 and the new `phase`. Differentiable in `index` and `band`.
    """
    write = _Partials.apply if f0_hz.device.type == "cpu" else _write_in_torch
    return write(index, band, f0_hz, stiffness, phase, (float(sample_rate), n_fft, hop_length))


def no_phase(batch: int, voices: int, device: torch.device | str = "cpu") -> Tensor:
    """The phases of partials that have not sounded yet, for `write_partials`."""
    return torch.zeros(batch, voices, MOST_PARTIALS + 1, dtype=torch.float64, device=device)


class _Partials(torch.autograd.Function):
    """On a CPU: a compiled loop over the partials there are: hundreds in a low note, few in a high one."""

    @staticmethod
    def forward(
        ctx: Any,
        index: Tensor,
        band: Tensor,
        f0_hz: Tensor,
        stiffness: Tensor,
        phase: Tensor,
        setting: tuple[float, int, int],
    ) -> tuple[Tensor, Tensor]:
        arrays = [t.detach().float().contiguous() for t in (index, band, f0_hz, stiffness)]
        ctx.save_for_backward(*arrays, phase)
        ctx.setting = setting
        batch, _, n_frames, _ = index.shape
        spectrum = torch.zeros(batch, n_frames, setting[1] // 2 + 1, 2)
        ending = phase.detach().clone()
        unused = np.zeros((1, 1, 1, 1), np.float32)
        _walk(*(a.numpy() for a in arrays), ending.numpy(), spectrum.numpy(), unused, unused, False, *setting)
        ctx.mark_non_differentiable(ending)
        return spectrum, ending

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *arrays, phase = ctx.saved_tensors
        into = [torch.zeros_like(arrays[0]), torch.zeros_like(arrays[1])]
        flow = gradient.float().contiguous().numpy()
        replay = phase.clone().numpy()
        _walk(*(a.numpy() for a in arrays), replay, flow, into[0].numpy(), into[1].numpy(), True, *ctx.setting)
        return into[0], into[1], None, None, None, None


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _lobe(position: float, weights: NDArray[np.float32]) -> int:
    """Fills `weights` with the window's transform around a fractional bin, signs included; returns the first bin."""
    nearest = int(position + 0.5)
    offset = nearest - position
    # sin(π(δ + j)) = (-1)^j sin(πδ), and that sign meets the (-1)^k of the frame's centre: one sine serves all bins.
    sign = 1.0 if nearest % 2 == 0 else -1.0
    sine = sign * math.sin(math.pi * offset) / math.pi
    for j in range(-REACH, REACH + 1):
        delta = offset + j
        if abs(delta) < 1e-4:
            weights[j + REACH] = sign
        elif abs(abs(delta) - 1.0) < 1e-4:
            weights[j + REACH] = -0.5 * sign
        else:
            weights[j + REACH] = sine / (delta * (1.0 - delta * delta))
    return nearest - REACH


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _walk(
    index: NDArray[np.float32],
    band: NDArray[np.float32],
    f0_hz: NDArray[np.float32],
    stiffness: NDArray[np.float32],
    phase: NDArray[np.float64],
    spectrum: NDArray[np.float32],
    into_index: NDArray[np.float32],
    into_band: NDArray[np.float32],
    backward: bool,
    sample_rate: float,
    n_fft: int,
    hop_length: int,
) -> None:
    """Every partial of every frame: written into `spectrum`, or, `backward`, its gradient read from there."""
    n_index, n_bands = index.shape[3], band.shape[3]
    top = HIGHEST * sample_rate / 2
    scale = (n_bands - 1) / math.log(sample_rate / 2 / BANDS_LOW_HZ)
    weights = np.empty(2 * REACH + 1, np.float32)
    for b in range(f0_hz.shape[0]):
        for v in range(f0_hz.shape[1]):
            for n in range(f0_hz.shape[2]):
                f0 = float(f0_hz[b, v, n])
                before = phase[b, v, MOST_PARTIALS]
                phase[b, v, MOST_PARTIALS] = f0
                if f0 <= 0.0:
                    continue
                if before <= 0.0:
                    before = f0
                stretch = float(stiffness[b, v, n])
                advance = 0.5 * (before + f0) * hop_length / sample_rate
                for p in range(1, MOST_PARTIALS + 1):
                    number = p * math.sqrt(1.0 + stretch * p * p)
                    frequency = f0 * number
                    if frequency > top:
                        break
                    cycles = phase[b, v, p - 1] + number * advance
                    cycles -= math.floor(cycles)
                    phase[b, v, p - 1] = cycles
                    at = min(max(math.log(frequency / BANDS_LOW_HZ) * scale, 0.0), n_bands - 1.001)
                    low = int(at)
                    part = at - low
                    level = (1.0 - part) * band[b, v, n, low] + part * band[b, v, n, low + 1]
                    if p <= n_index:
                        level += index[b, v, n, p - 1]
                    if level < QUIETEST:
                        continue
                    amplitude = math.exp(min(level, LOUDEST)) * n_fft / 4
                    real = amplitude * math.cos(2 * math.pi * cycles)
                    imag = amplitude * math.sin(2 * math.pi * cycles)
                    first = _lobe(frequency * n_fft / sample_rate, weights)
                    gradient = 0.0
                    for j in range(2 * REACH + 1):
                        k = first + j
                        # Below 0 Hz lies the mirror image of a real sound: it folds back, conjugate.
                        side = -1.0 if k < 0 else 1.0
                        bin_ = abs(k)
                        if bin_ > n_fft // 2:
                            continue
                        w = weights[j]
                        if bin_ == 0:
                            w *= 2.0
                        if backward:
                            gradient += w * (spectrum[b, n, bin_, 0] * real + side * spectrum[b, n, bin_, 1] * imag)
                        else:
                            spectrum[b, n, bin_, 0] += w * real
                            spectrum[b, n, bin_, 1] += w * side * imag
                    if backward:
                        into_band[b, v, n, low] += (1.0 - part) * gradient
                        into_band[b, v, n, low + 1] += part * gradient
                        if p <= n_index:
                            into_index[b, v, n, p - 1] += gradient


def _write_in_torch(
    index: Tensor, band: Tensor, f0_hz: Tensor, stiffness: Tensor, phase: Tensor, setting: tuple[float, int, int]
) -> tuple[Tensor, Tensor]:
    """The same in plain tensors, for devices that numba does not reach: all partials of all frames at once."""
    sample_rate, n_fft, hop_length = setting
    n_index, n_bands, n_bins = index.shape[-1], band.shape[-1], n_fft // 2 + 1
    p = torch.arange(1, MOST_PARTIALS + 1, device=f0_hz.device, dtype=torch.float64)
    number = p * torch.sqrt(1 + stiffness.double()[..., None] * p * p)  # [B, K, N, P]
    f0 = f0_hz.double()
    before = torch.cat([phase[..., -1:], f0[..., :-1]], -1)
    advance = 0.5 * (torch.where(before > 0, before, f0) + f0) * hop_length / sample_rate
    frequency = number * f0[..., None]
    sounding = (f0[..., None] > 0) & (frequency <= HIGHEST * sample_rate / 2)
    cycles = (phase[..., None, :-1] + torch.cumsum(torch.where(sounding, number * advance[..., None], 0.0), 2)) % 1.0
    scale = (n_bands - 1) / math.log(sample_rate / 2 / BANDS_LOW_HZ)
    at = (torch.log(frequency.clamp_min(1e-3) / BANDS_LOW_HZ) * scale).clamp(0, n_bands - 1.001)
    low, part = at.long(), (at - at.floor()).float()
    level = (1 - part) * band.gather(-1, low) + part * band.gather(-1, low + 1)
    level = level + torch.nn.functional.pad(index, (0, MOST_PARTIALS - n_index))
    held = level + (level.clamp_max(LOUDEST) - level).detach()  # what is held still feels the way down
    amplitude = torch.where(sounding & (level >= QUIETEST), torch.exp(held) * n_fft / 4, 0.0)
    angle = (2 * math.pi * cycles).float()
    real, imag = amplitude * torch.cos(angle), amplitude * torch.sin(angle)
    position = torch.where(sounding, frequency, 0.0) * n_fft / sample_rate
    spectrum = torch.zeros(*f0.shape[:1], f0.shape[2], n_bins, 2, device=f0_hz.device)
    nearest = torch.floor(position + 0.5)
    for j in range(-REACH, REACH + 1):
        k = nearest + j
        delta = k - position
        w = torch.sinc(delta) / (1 - delta * delta)
        w = torch.where((delta.abs() - 1).abs() < 1e-4, 0.5, w) * torch.where(k % 2 == 0, 1.0, -1.0)
        w = torch.where(k == 0, 2 * w, w).float()
        bins = k.abs().long()
        inside = bins < n_bins
        bins = bins.clamp_max(n_bins - 1)
        for part_, value in ((0, real), (1, torch.where(k < 0, -imag, imag))):
            written = torch.zeros_like(spectrum[..., 0]).unsqueeze(1).expand(-1, f0.shape[1], -1, -1).clone()
            written.scatter_add_(-1, bins, torch.where(inside, w * value, 0.0))
            spectrum[..., part_] = spectrum[..., part_] + written.sum(1)
    return spectrum, torch.cat([cycles[:, :, -1], f0[..., -1:]], -1)
