"""Spectra and back: STFT, power, mel, MFCC, several resolutions at once, and their inverses, on torch tensors.

One convention everywhere: frame n is centred on sample (n + 1/2)·hop_length, so T samples make N = ceil(T / hop_length)
frames and N frames make N·hop_length samples. The signal is zero outside itself.

    frame 0   |-----[==hop==]-----|             n_fft samples, the hop it stands for in the middle
    frame 1             |-----[==hop==]-----|
    signal          0   ^hop      ^2·hop

Everything is batched over leading dimensions and differentiable; power is taken from real and imaginary parts, since
the backward pass through `abs` of a complex tensor costs more than the transform.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from soundloom.errors import ConfigError

HOP_S = 0.0116
CACHED = 64  # frames
MELS_TOGETHER = 16


def default_hop(sample_rate: int) -> int:
    """The hop that all parts share at a sample rate: the power of two nearest to 11.6 ms.

    >>> [default_hop(rate) for rate in (8000, 16000, 44100, 48000, 96000)]
    [128, 256, 512, 512, 1024]
    """
    return int(2 ** round(math.log2(HOP_S * sample_rate)))


def frames(samples: int, *, hop_length: int) -> int:
    """How many frames `samples` samples make."""
    return -(-samples // hop_length)


def frame(audio: Tensor, *, n_fft: int, hop_length: int) -> Tensor:
    """audio [..., T] -> overlapping frames [..., N, n_fft], a view on the padded signal."""
    _check(n_fft, hop_length)
    n = frames(audio.shape[-1], hop_length=hop_length)
    left = (n_fft - hop_length) // 2
    right = (n - 1) * hop_length + n_fft - left - audio.shape[-1]
    return F.pad(audio, (left, right)).unfold(-1, n_fft, hop_length)


def stft(audio: Tensor, *, n_fft: int, hop_length: int) -> Tensor:
    """audio [..., T] -> complex spectrum [..., F, N], F = n_fft / 2 + 1, Hann window, not normalised."""
    return _rfft(audio, n_fft, hop_length).transpose(-1, -2)


def istft(spectrum: Tensor, *, n_fft: int, hop_length: int) -> Tensor:
    """Complex spectrum [..., F, N] -> audio [..., N·hop_length]: the exact inverse of `stft`, and differentiable.

    For a spectrum that is no signal's, the signal whose `stft` is nearest to it (Griffin and Lim, 1984): each frame is
    windowed again and the sum divided by the sum of the squared windows.
    """
    _check(n_fft, hop_length)
    if n_fft % hop_length or n_fft < 2 * hop_length:
        raise ConfigError(
            f"n_fft is {n_fft}, which is no multiple (2 or more) of hop_length {hop_length}: take {4 * hop_length}"
        )
    window = hann(n_fft, spectrum.device)
    pieces = torch.fft.irfft(spectrum.transpose(-1, -2), n=n_fft) * window  # [..., N, n_fft]
    left = (n_fft - hop_length) // 2
    n = spectrum.shape[-1]
    total = _overlap_add(pieces, hop_length)[..., left : left + n * hop_length]
    return total / _envelope(n_fft, hop_length, n, spectrum.device)


def power(audio: Tensor, *, n_fft: int, hop_length: int) -> Tensor:
    """audio [..., T] -> power spectrum re² + im² [..., F, N]."""
    parts = torch.view_as_real(_rfft(audio, n_fft, hop_length))
    return (parts[..., 0].square() + parts[..., 1].square()).transpose(-1, -2)


def mel_filterbank(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Triangles on Slaney's mel scale, each of unit area in Hz: [n_mels, F]. `power` times it is a mel spectrum.

    Linear below 1 kHz (200/3 Hz a mel), logarithmic above (27 mels per factor of 6.4), as in the Auditory Toolbox.
    """
    high_hz = sample_rate / 2 if high_hz is None else high_hz
    if not 0 <= low_hz < high_hz <= sample_rate / 2:
        raise ConfigError(
            f"mel bands from {low_hz:g} to {high_hz:g} Hz do not fit a sample rate of {sample_rate}: "
            f"0 <= low < high <= {sample_rate / 2:g}"
        )
    return _mel(sample_rate, n_fft, n_mels, low_hz, high_hz, device or torch.device("cpu"))


def mel(
    audio: Tensor,
    *,
    sample_rate: int,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    low_hz: float = 0.0,
    high_hz: float | None = None,
) -> Tensor:
    """audio [..., T] -> mel power [..., n_mels, N]."""
    mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, low_hz=low_hz, high_hz=high_hz)  # may refuse
    groups = _mel_groups(sample_rate, n_fft, n_mels, low_hz, high_hz or sample_rate / 2, audio.device)
    framed = frame(audio.float(), n_fft=n_fft, hop_length=hop_length)
    window = hann(n_fft, audio.device)
    rows = framed.flatten(0, -3) if framed.ndim > 2 else framed[None]
    n = framed.shape[-2]
    made = []
    with torch.autocast(audio.device.type, enabled=False):
        # A piece of some frames stays in the processor's cache from window to mel; elsewhere one piece is all.
        for piece in (part for row in rows for part in torch.split(row, CACHED if audio.device.type == "cpu" else n)):
            # re² and im² stay side by side: adding them is left to the product, whose matrix has every row twice.
            squares = torch.view_as_real(rfft(piece * window)).square().flatten(-2)
            made.append(torch.cat([squares[:, start:end] @ matrix for start, end, matrix in groups], -1))
    return torch.cat(made).reshape(*audio.shape[:-1], n, n_mels).transpose(-1, -2)


def log_mel(
    audio: Tensor,
    *,
    sample_rate: int,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    floor: float = 1e-10,
) -> Tensor:
    """audio [..., T] -> natural logarithm of mel power [..., n_mels, N], floored at `floor` (1e-10: -100 dB)."""
    bands = mel(
        audio,
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=hop_length,
        n_mels=n_mels,
        low_hz=low_hz,
        high_hz=high_hz,
    )
    return bands.clamp(min=floor).log()


def mfcc(log_mel: Tensor, *, n_mfcc: int = 20) -> Tensor:
    """`log_mel` [..., n_mels, N] -> its cepstrum [..., n_mfcc, N]: an orthonormal cosine transform over the bands.

    The first says how loud, the next few what the spectrum's broad shape is: timbre with the pitch left out.
    """
    n_mels = log_mel.shape[-2]
    if not 1 <= n_mfcc <= n_mels:
        raise ConfigError(f"{n_mfcc} cepstral coefficients of {n_mels} mel bands: take 1 to {n_mels}")
    return _cosines(n_mfcc, n_mels, log_mel.device) @ log_mel


def multi_resolution(audio: Tensor, *, n_ffts: Sequence[int] = (512, 1024, 2048, 4096)) -> list[Tensor]:
    """audio [..., T] -> power spectra [..., F, N], one a resolution, each at a hop of a quarter of its window.

    Short windows see when, long windows see what pitch; a loss over all of them cannot be fooled in either.
    """
    return [power(audio, n_fft=n_fft, hop_length=n_fft // 4) for n_fft in n_ffts]


def power_from_mel(bands: Tensor, *, sample_rate: int, n_fft: int = 2048, iterations: int = 50) -> Tensor:
    """Mel power [..., n_mels, N] -> a power spectrum [..., F, N] that has these bands and is nowhere negative.

    Multiplicative updates for non-negative least squares (Lee and Seung, 2001), from the bands spread over their bins.
    """
    filters = mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=bands.shape[-2], device=bands.device)
    guess = filters.T @ (bands / filters.sum(-1, keepdim=True).clamp(min=1e-9))
    aim = filters.T @ bands
    for _ in range(iterations):
        guess = guess * aim / (filters.T @ (filters @ guess)).clamp(min=1e-20)
    return guess


def griffin_lim(
    power: Tensor, *, n_fft: int, hop_length: int, generator: torch.Generator, iterations: int = 32
) -> Tensor:
    """A power spectrum [..., F, N] -> audio [..., N·hop_length] whose `power` comes near: phases found by going to
    and fro between signal and spectrum, with momentum (Perraudin, Balazs and Søndergaard, 2013)."""
    magnitude = power.clamp(min=0).sqrt()
    turn = 2 * math.pi * torch.rand(power.shape, generator=generator, device=generator.device).to(power.device)
    phase = torch.polar(torch.ones_like(turn), turn)
    before = torch.zeros_like(phase)
    for _ in range(iterations):
        again = stft(istft(magnitude * phase, n_fft=n_fft, hop_length=hop_length), n_fft=n_fft, hop_length=hop_length)
        ahead = again + 0.99 * (again - before)
        phase, before = ahead / ahead.abs().clamp(min=1e-9), again
    return istft(magnitude * phase, n_fft=n_fft, hop_length=hop_length)


@lru_cache(maxsize=8)
def _cosines(n_mfcc: int, n_mels: int, device: torch.device) -> Tensor:
    """The orthonormal DCT-II, [n_mfcc, n_mels]."""
    with torch.inference_mode(False):
        order, band = torch.arange(n_mfcc, dtype=torch.float64), torch.arange(n_mels, dtype=torch.float64)
        rows = torch.cos(math.pi / n_mels * (band + 0.5) * order[:, None]) * math.sqrt(2 / n_mels)
        rows[0] /= math.sqrt(2)
        return rows.to(device, torch.float32)


@lru_cache(maxsize=32)
def hann(n_fft: int, device: torch.device) -> Tensor:
    """The periodic Hann window, float32 [n_fft]."""
    # Made outside inference mode: what is made inside could never take part in training, and this one is kept.
    with torch.inference_mode(False):
        return torch.hann_window(n_fft, dtype=torch.float32, device=device)


def _check(n_fft: int, hop_length: int) -> None:
    if hop_length < 1 or n_fft < hop_length or (n_fft - hop_length) % 2:
        raise ConfigError(
            f"n_fft {n_fft} and hop_length {hop_length} make no centred frames: n_fft must be at least hop_length and "
            f"both even; take n_fft {4 * max(hop_length, 1)}"
        )


def _rfft(audio: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """[..., T] -> [..., N, F]: frames last but one, the layout in which the transform writes. bfloat16 has no FFT."""
    return rfft(frame(audio.float(), n_fft=n_fft, hop_length=hop_length) * hann(n_fft, audio.device))


def rfft(frames: Tensor) -> Tensor:
    """Real frames [..., n_fft] -> complex spectra [..., F], with a cheaper gradient than torch's own."""
    spectrum: Tensor = _RealFFT.apply(frames)  # type: ignore[no-untyped-call]
    return spectrum


class _RealFFT(torch.autograd.Function):
    """`rfft` whose backward pass is a real transform too: autograd's own is a complex one of twice the length, and a
    copy.

    With G = dL/dRe X + i dL/dIm X, dL/dx[t] = Re Σ_k G[k] e^{iωkt} over the half spectrum; the inverse transform counts
    every inner bin twice, hence the halves.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft(frames)
        return spectrum

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        n_fft = 2 * (gradient.shape[-1] - 1)
        halves = torch.full((gradient.shape[-1],), 0.5, device=gradient.device)
        halves[0] = halves[-1] = 1.0
        frames: Tensor = torch.fft.irfft(gradient * halves, n=n_fft, norm="forward")
        return frames


def _overlap_add(pieces: Tensor, hop_length: int) -> Tensor:
    """[..., N, n_fft] -> [..., (N - 1)·hop + n_fft], as n_fft / hop shifted sums of whole rows of hops."""
    rows = pieces.shape[-1] // hop_length
    parts = pieces.reshape(*pieces.shape[:-1], rows, hop_length)
    total = F.pad(parts[..., 0, :], (0, 0, 0, rows - 1))
    for row in range(1, rows):
        total = total + F.pad(parts[..., row, :], (0, 0, row, rows - 1 - row))
    return total.flatten(-2)


@lru_cache(maxsize=64)
def _envelope(n_fft: int, hop_length: int, n: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        squares = hann(n_fft, device).square().expand(n, n_fft)
        left = (n_fft - hop_length) // 2
        return _overlap_add(squares, hop_length)[left : left + n * hop_length].clone()


@lru_cache(maxsize=32)
def _mel_groups(
    sample_rate: int, n_fft: int, n_mels: int, low_hz: float, high_hz: float, device: torch.device
) -> list[tuple[int, int, Tensor]]:
    """The filterbank cut into groups of neighbouring bands, each with the bins it needs: (start, end, [end - start, g])
    in the order re, im, re, im... Most of the filterbank is zeros; its groups are a quarter of the work."""
    filters = _mel(sample_rate, n_fft, n_mels, low_hz, high_hz, torch.device("cpu"))
    groups = []
    with torch.inference_mode(False):
        for group in torch.split(filters, MELS_TOGETHER):
            used = group.sum(0).nonzero()[:, 0].tolist() or [0]
            start, end = used[0], used[-1] + 1
            matrix = group[:, start:end].repeat_interleave(2, 1).T.contiguous().to(device)
            groups.append((2 * start, 2 * end, matrix))
    return groups


@lru_cache(maxsize=32)
def _mel(sample_rate: int, n_fft: int, n_mels: int, low_hz: float, high_hz: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        low, high = _hz_to_mel(low_hz), _hz_to_mel(high_hz)
        edges = _mel_to_hz(torch.linspace(low, high, n_mels + 2, dtype=torch.float64))
        bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
        rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
        triangles = torch.minimum(rising, falling).clamp(min=0)
        return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).to(device, torch.float32)


def _hz_to_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def _mel_to_hz(mels: Tensor) -> Tensor:
    return torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * (math.log(6.4) / 27)))
