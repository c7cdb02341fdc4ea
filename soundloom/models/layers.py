"""What the families share: ConvNeXt blocks at frame rate and the head that turns frames into sound.

Everything here is laid out [B, N, C], frames then channels, so that all but the depthwise convolution are plain matrix
products; in a stream a block gets its last frames from an explicit state, and any split gives the same frames.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from soundloom import spectral
from soundloom.models import excitation

KERNEL = 7


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 for matrix products where the hardware has it (twice as fast); losses and transforms stay outside."""
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    if device.type in ("cuda", "cpu") and fast:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextlib.contextmanager
def keyed_dropout(generator: torch.Generator) -> Iterator[None]:
    """Inside the block dropout follows `generator`, so that a resumed run drops what the uninterrupted one did; torch's
    own generators, which dropout draws from, are put back after it."""
    seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Block(nn.Module):
    """ConvNeXt block (Liu et al., 2022) over frames: depthwise convolution, norm, and a widened pointwise step."""

    def __init__(self, channels: int, *, causal: bool, expansion: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Parameter(torch.randn(channels, 1, KERNEL, 1) / math.sqrt(KERNEL))
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.3))
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N, C] -> [B, N, C]."""
        before, after = (KERNEL - 1, 0) if self.causal else (KERNEL // 2, KERNEL // 2)
        return self._mix(x, F.pad(x, (0, 0, before, after)))

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """The next frames x [1, n, C] after `past` [1, KERNEL - 1, C]. For causal blocks."""
        seen = torch.cat([past, x], 1)
        return self._mix(x, seen), seen[:, -(KERNEL - 1) :]

    def _mix(self, x: Tensor, seen: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.shape[1] > 32:
            # As a two-dimensional convolution on a channels-last view, which has a fast kernel; Conv1d has none.
            y = (
                F.conv2d(seen.transpose(1, 2).unsqueeze(-1), self.depthwise, groups=x.shape[-1])
                .squeeze(-1)
                .transpose(1, 2)
            )
        else:
            y = torch.einsum("bnck,ck->bnc", seen.unfold(1, KERNEL, 1), self.depthwise[:, 0, :, 0])
        mixed: Tensor = self.narrow(F.gelu(self.widen(self.norm(y))))
        return x + self.scale * mixed


class Stack(nn.Module):
    """Blocks one after the other, and a linear way past them all: what is nearly linear is learnt in minutes."""

    def __init__(self, inputs: int, channels: int, *, blocks: int, causal: bool, expansion: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, channels)
        self.enter_norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(Block(channels, causal=causal, expansion=expansion) for _ in range(blocks))
        self.leave_norm = nn.LayerNorm(channels)
        self.bypass = nn.Linear(inputs, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N, inputs] -> [B, N, channels]."""
        straight: Tensor = self.bypass(x)
        x = self.enter_norm(self.enter(x))
        for block in self.blocks:
            x = block(x)
        out: Tensor = straight + self.leave_norm(x)
        return out

    def init_state(self) -> tuple[Tensor, ...]:
        weight = self.enter.weight
        return tuple(weight.new_zeros(1, KERNEL - 1, weight.shape[0]) for _ in self.blocks)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames x [1, n, inputs] -> [1, n, channels] and the new state."""
        straight = self.bypass(x)
        x = self.enter_norm(self.enter(x))
        pasts = []
        for block, past in zip(self.blocks, state, strict=True):
            assert isinstance(block, Block)
            x, past = block.step(x, past)
            pasts.append(past)
        return straight + self.leave_norm(x), tuple(pasts)


def midi(f0_hz: Tensor) -> Tensor:
    """Hertz -> MIDI pitch, NaN where there is none (0)."""
    return torch.where(f0_hz > 0, 69 + 12 * torch.log2(f0_hz.clamp_min(1.0) / 440), torch.nan)


def hertz(pitch: Tensor) -> Tensor:
    """MIDI pitch -> hertz, 0 where there is none (NaN)."""
    return torch.where(torch.isfinite(pitch), 440.0 * 2.0 ** ((pitch.nan_to_num(0.0) - 69) / 12), 0.0)


def full_scale(audio: Tensor) -> Tensor:
    """Sounds [B, C, T] with their peaks just under 1: every clip of a bank has its peak there, and so should what is
    drawn from them."""
    return 0.98 * audio / audio.abs().amax((1, 2), keepdim=True).clamp_min(0.01)


PITCH_FEATURES = 10


def pitch_features(f0_hz: Tensor, voiced: Tensor) -> Tensor:
    """f0 and voicing [...] -> features [..., PITCH_FEATURES]: the octave in four turns; all zero where unvoiced."""
    octave = torch.log2(f0_hz.clamp_min(20.0) / 440.0)
    turns = [f(octave * rate) for rate in (0.35, 0.7, 1.4, 2.8) for f in (torch.sin, torch.cos)]
    on = ((f0_hz > 0) & (voiced > 0)).to(octave.dtype)
    return torch.stack([*turns, octave / 3, torch.ones_like(octave)], -1) * (on * voiced)[..., None]


def random_phases(frames: Tensor, n_bins: int, *, seed: int) -> Tensor:
    """Phases in turns, 0 to 1, keyed by (seed, absolute frame, bin): the same whatever block they are asked in.

    `frames` [N] int64, one after the other -> [N, n_bins] float32. The finaliser of MurmurHash3 on counters of 32 bits.
    """
    if frames.device.type == "cpu":
        phases = np.empty((len(frames), n_bins), np.float32)
        _hash_phases(np.uint32(int(frames[0]) * n_bins + seed * 0x9E3779B1 & 0xFFFFFFFF), phases)
        return torch.from_numpy(phases)
    x = frames[:, None] * n_bins + torch.arange(n_bins, device=frames.device)
    x = (x + seed * 0x9E3779B1) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return ((x ^ (x >> 16)) >> 8).float() / 2**24


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _hash_phases(first: np.uint32, phases: NDArray[np.float32]) -> None:
    flat = phases.reshape(-1)
    for i in range(flat.size):
        x = np.uint32(first + np.uint32(i))
        x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
        x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
        flat[i] = np.float32((x ^ (x >> np.uint32(16))) >> np.uint32(8)) * np.float32(2.0**-24)


def log_bands(n_bands: int, *, sample_rate: int, n_fft: int) -> Tensor:
    """Interpolation from bands to bins, [n_bands, F]: linear below, logarithmic above, never finer than a bin.

    Each bin is a mixture of its two nearest bands with weights that sum to one.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    centres = 700 * (10 ** (torch.linspace(0, top, n_bands, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    above = torch.searchsorted(centres, bins).clamp(1, n_bands - 1)
    part = ((bins - centres[above - 1]) / (centres[above] - centres[above - 1])).clamp(0, 1)
    weights = torch.zeros(n_bands, len(bins), dtype=torch.float64)
    index = torch.arange(len(bins))
    weights[above - 1, index] = 1 - part
    weights[above, index] += part
    return weights.float()


@dataclass
class HeadState:
    """Where a stream of sound stands: oscillator phases, the overlapping tail, the last fine gains, the next frame."""

    phase: Tensor  # [1, K, MOST_PARTIALS + 1] float64
    tail: Tensor  # [1, n_fft - hop_length]
    gains: Tensor  # [1, (frames still sounding) * SUBFRAMES] log-gains
    frame: int
    seed: int


SUBFRAMES = 8
NOISE_BANDS = 128
HARMONIC_BANDS = 48
FREE_BANDS = 32
FREE_RANK = 96  # shapes that the free part mixes: a full matrix would be half of all the work
LOWEST_STIFFNESS, HIGHEST_STIFFNESS = 1e-6, 0.03


@dataclass(frozen=True)
class Voices:
    """What the head says of each voice. Shapes: `index` [B, K, N, P], `band` [B, K, N, M], `stiffness` [B, K, N]."""

    index: Tensor
    band: Tensor
    stiffness: Tensor


class SpectralHead(nn.Module):
    """Frames to sound: three spectra, shaped and added, one inverse STFT, and a gain finer than a frame.

        S = partials(f0)  +  A_n · e^{i·random}  +  A_f · (a + ib)          audio = istft(S) · g

    The partials give every pitched sound its pitch by construction; the noise has no phase to learn; the free part has
    the transients and what has no pitch; g, eight values a frame, puts an onset where it belongs (a window of four hops
    alone would smear it). Joins Vocos (Siuzdak, 2023) with DDSP (Engel et al., 2020). A free part of rank
    0 is none: for a family whose sound is all partials and noise.
    """

    noise_bands: Tensor
    free_bands: Tensor

    def __init__(
        self, channels: int, *, sample_rate: int, hop_length: int, n_partials: int, free_rank: int = FREE_RANK
    ) -> None:
        super().__init__()
        self.sample_rate, self.hop_length, self.n_fft = sample_rate, hop_length, 4 * hop_length
        self.n_partials = n_partials
        n_bins = self.n_fft // 2 + 1
        self.voice_pitch = nn.Linear(PITCH_FEATURES, channels)
        self.voice = nn.Linear(channels, channels)
        self.voice_out = nn.Linear(channels, n_partials + HARMONIC_BANDS + 1)
        self.index = nn.Linear(channels, n_partials, bias=False)
        self.noise = nn.Linear(channels, NOISE_BANDS)
        self.free: nn.Linear | None = None
        if free_rank:
            self.free_shape = nn.Linear(channels, free_rank)
            self.free = nn.Linear(free_rank, 2 * n_bins)
            self.free_level = nn.Linear(channels, FREE_BANDS)
        self.gain = nn.Linear(channels, SUBFRAMES)
        nn.init.normal_(self.index.weight, std=0.02)
        starts = [
            (self.voice_out, 0.0),
            (self.noise, -7.0),
            *([(self.free_level, -7.0)] if free_rank else []),
            (self.gain, 0.0),
        ]
        for layer, bias in starts:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.constant_(layer.bias, bias)
        with torch.no_grad():  # partials start soft and falling, strings barely stiff
            self.voice_out.bias[:n_partials] = -2.0
            self.voice_out.bias[n_partials:-1] = torch.linspace(-2.0, -6.0, HARMONIC_BANDS)
            self.voice_out.bias[-1] = math.log(3e-4)
        self.register_buffer(
            "noise_bands", log_bands(NOISE_BANDS, sample_rate=sample_rate, n_fft=self.n_fft), persistent=False
        )
        self.register_buffer(
            "free_bands", log_bands(FREE_BANDS, sample_rate=sample_rate, n_fft=self.n_fft), persistent=False
        )

    @property
    def latency(self) -> int:
        """Samples by which a stream's output comes after its frames: what the last frame's window still needs."""
        return (self.n_fft - self.hop_length) // 2

    def voices(self, h: Tensor, f0_hz: Tensor, voiced: Tensor) -> Voices:
        """h [B, N, C], f0 and voicing [B, K, N] -> `Voices`; a voice is read off the frame by its pitch."""
        asked = self.voice_pitch(pitch_features(f0_hz, voiced).to(h.dtype))
        out = self.voice_out(F.gelu(self.voice(h[:, None] + asked))).float()
        gate = torch.log(voiced.clamp_min(1e-6))[..., None]
        index, band, stiffness = out.split([self.n_partials, HARMONIC_BANDS, 1], -1)
        bounds = (math.log(LOWEST_STIFFNESS), math.log(HIGHEST_STIFFNESS))
        index = index + self.index(h).float()[:, None]
        return Voices(index, band + gate, torch.exp(stiffness[..., 0].clamp(*bounds)))

    def spectrum(self, h: Tensor, phases: Tensor) -> Tensor:
        """The parts without pitch: h [B, N, C], random `phases` [B or 1, N, F] in turns -> [B, N, F, 2]."""
        unit = self.n_fft / 4
        levels = torch.exp(self.noise(h).float().clamp_max(0.0)) @ self.noise_bands * unit
        turns = phases * (2 * math.pi)
        noise = torch.stack([torch.cos(turns), torch.sin(turns)], -1) * levels[..., None]
        if self.free is None:
            return noise
        free_levels = torch.exp(self.free_level(h).float().clamp_max(0.0)) @ self.free_bands * unit
        free: Tensor = (
            self.free(self.free_shape(h)).float().clamp(-8, 8).unflatten(-1, (-1, 2)) * free_levels[..., None]
        )
        return noise + free

    def fine_gain(self, h: Tensor, log_gain: Tensor | None = None) -> Tensor:
        """h [B, N, C] -> log-gains [B, N * SUBFRAMES], at most 43 dB down and 17 dB up; `log_gain` [B, N], one a frame
        that is known from elsewhere, is laid under them."""
        gains = (5 * torch.tanh(self.gain(h).float() / 5)).clamp_max(2.0)
        return (gains if log_gain is None else gains + log_gain[..., None]).flatten(1)

    def forward(
        self,
        h: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        *,
        phases: Tensor,
        stiffness: Tensor | None = None,
        log_gain: Tensor | None = None,
    ) -> tuple[Tensor, Voices]:
        """h [B, N, C] -> audio [B, N * hop_length] and its voices. The partials stand where the voices say, or, for
        training, where a known `stiffness` [B, K, N] puts them; for `log_gain` see `fine_gain`."""
        voices = self.voices(h, f0_hz, voiced)
        spectrum = self.spectrum(h, phases)
        if (f0_hz > 0).any():
            start = excitation.no_phase(f0_hz.shape[0], f0_hz.shape[1], device=h.device)
            placed = voices if stiffness is None else replace(voices, stiffness=stiffness)
            spectrum = spectrum + self._partials(placed, f0_hz, start)[0]
        audio = spectral.istft(
            torch.view_as_complex(spectrum).transpose(1, 2), n_fft=self.n_fft, hop_length=self.hop_length
        )
        return audio * torch.exp(self._interpolated(self.fine_gain(h, log_gain), 0, audio.shape[1])), voices

    def _partials(self, voices: Voices, f0_hz: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        setting = {"sample_rate": self.sample_rate, "n_fft": self.n_fft, "hop_length": self.hop_length}
        return excitation.write_partials(voices.index, voices.band, f0_hz, voices.stiffness.detach(), phase, **setting)

    def _interpolated(self, gains: Tensor, start: int, length: int) -> Tensor:
        """Log-gains [B, G], each in the middle of its subframe -> [B, length] from `start` on, in straight lines."""
        width = self.hop_length // SUBFRAMES
        if start == 0 and length == gains.shape[1] * width:
            return F.interpolate(gains[:, None], size=length, mode="linear", align_corners=False)[:, 0]
        at = ((torch.arange(start, start + length, device=gains.device) + 0.5) / width - 0.5).clamp(
            0, gains.shape[1] - 1
        )
        low = at.floor().long().clamp_max(gains.shape[1] - 2)
        part = (at - low).to(gains.dtype)
        return gains[:, low] * (1 - part) + gains[:, low + 1] * part

    def init_state(self, *, voices: int, seed: int) -> HeadState:
        weight = self.noise.weight
        return HeadState(
            phase=excitation.no_phase(1, voices, device=weight.device),
            tail=weight.new_zeros(1, self.n_fft - self.hop_length),
            gains=weight.new_zeros(1, 0),
            frame=0,
            seed=seed,
        )

    def step(
        self, h: Tensor, f0_hz: Tensor, voiced: Tensor, state: HeadState, *, log_gain: Tensor | None = None
    ) -> tuple[Tensor, HeadState]:
        """The next frames h [1, n, C] -> the next n * hop_length samples, `latency` behind them, and the new state."""
        hop, n = self.hop_length, h.shape[1]
        frames = torch.arange(state.frame, state.frame + n, device=h.device)
        spectrum = self.spectrum(h, random_phases(frames, self.n_fft // 2 + 1, seed=state.seed)[None])
        if (f0_hz > 0).any():
            pitched, state.phase = self._partials(self.voices(h, f0_hz, voiced), f0_hz, state.phase)
            spectrum = spectrum + pitched
        else:
            state.phase[..., -1] = 0.0
        window = spectral.hann(self.n_fft, h.device)
        pieces = torch.fft.irfft(torch.view_as_complex(spectrum), n=self.n_fft) * window
        total = F.pad(state.tail, (0, n * hop))
        for i in range(n):
            total[:, i * hop : i * hop + self.n_fft] += pieces[:, i]
        # The squared windows that meet at a sample add up to 3/2, but for the first samples, where some are missing.
        weight = torch.full_like(total[:, : n * hop], 1.5)
        if state.frame * hop < self.n_fft:
            weight = self._opening(state.frame * hop, n * hop, h.device)
        gains = torch.cat([state.gains, self.fine_gain(h, log_gain)], 1)
        # `gains` may begin before the block: keep what the samples to come still lie between.
        first = state.frame - state.gains.shape[1] // SUBFRAMES
        start = state.frame * hop - self.latency - first * hop
        audio = total[:, : n * hop] / weight * torch.exp(self._interpolated(gains, start, n * hop))
        audio[:, : max(0, self.latency - state.frame * hop)] = 0.0
        kept = gains[:, -4 * SUBFRAMES :]
        return audio, replace(state, tail=total[:, n * hop :], gains=kept, frame=state.frame + n)

    def _opening(self, start: int, length: int, device: torch.device) -> Tensor:
        """The sum of squared windows over `length` samples, `start` samples after the first window began."""
        squared = spectral.hann(self.n_fft, device).square()
        frames = (start + length) // self.hop_length
        total = torch.zeros(frames * self.hop_length + self.n_fft, device=device)
        for i in range(frames):
            total[i * self.hop_length : i * self.hop_length + self.n_fft] += squared
        return total[start : start + length].clamp_min(1e-4)[None]
