"""What a sound is like, in numbers a musician knows: pitch, loudness, brightness, noisiness, attack, decay, onset."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from soundloom import spectral
from soundloom.chords import track_pitches
from soundloom.errors import ConfigError
from soundloom.partials import inharmonicity
from soundloom.peaks import spectra
from soundloom.pitch import PitchTrack, best_path, candidates, track_pitch

__all__ = ["Descriptors", "PitchTrack", "describe", "inharmonicity", "track_pitch", "track_pitches"]

PITCHED = 0.05  # pitch_confidence below which a sound has no pitch
SHORTEST_BLOCK_S = 0.4
QUIETEST_LUFS = -120.0
LONGEST_DECAY_S = 60.0
ENVELOPE_HZ = 1000  # points of the envelope a second


@dataclass(frozen=True)
class Descriptors:
    """One number per sound, shapes [B], and the pitch track [B, N] they come from.

    `pitch` is MIDI (69 = 440 Hz), NaN where the sound has none. `brightness_hz` is the centre of gravity of the
    spectrum. `noisiness` goes from 0 (pure tones) to 1 (noise of any colour). `onset_s` is when the sound begins,
    `attack_s` how long from there until it is within 3 dB of its loudest, `decay_s` how long it would take to fall by
    60 dB from there at the rate of its first 20 dB (60 at most).
    """

    pitch: Tensor
    pitch_confidence: Tensor
    loudness_lufs: Tensor
    brightness_hz: Tensor
    noisiness: Tensor
    attack_s: Tensor
    decay_s: Tensor
    onset_s: Tensor
    inharmonicity: Tensor
    track: PitchTrack


def describe(audio: Tensor, lengths: Tensor, *, sample_rate: int) -> Descriptors:
    """Everything at once. audio [B, T], of which the first lengths [B] samples of each row count; the hop of the track
    is `spectral.default_hop(sample_rate)`.

    Loudness is ITU-R BS.1770-4 for one channel, gated; a sound shorter than its block of 0.4 s is one block of its own
    length, without gates, so that a 30 ms hat and a long one at the same level come out alike.
    """
    if audio.ndim != 2 or lengths.shape != audio.shape[:1]:
        raise ConfigError(
            f"audio has shape {list(audio.shape)} and lengths {list(lengths.shape)}: they should be [B, T] and [B]"
        )
    hop_length = spectral.default_hop(sample_rate)
    n_fft = 4 * hop_length
    inside = torch.arange(audio.shape[-1], device=audio.device) < lengths[:, None]
    audio = torch.where(inside, audio.detach().float(), 0.0)
    parts = spectra(audio.cpu(), n_fft, hop_length)  # [B·N, F, 2]
    found = candidates(audio, sample_rate=sample_rate, hop_length=hop_length, known=parts)
    track = best_path(found, device=audio.device)
    real, imaginary = torch.from_numpy(parts).to(audio.device).unbind(-1)
    square = real.square().addcmul_(imaginary, imaginary).mul_((n_fft / 4) ** 2)  # without the scale of `parts`
    power = square.reshape(len(audio), -1, n_fft // 2 + 1).transpose(1, 2)  # [B, F, N]
    energy = power.sum(1)
    pitch, confidence = note_pitch(track, energy.sqrt())
    onset, attack, decay = _times(audio, lengths, sample_rate=sample_rate)
    return Descriptors(
        pitch=pitch,
        pitch_confidence=confidence,
        loudness_lufs=_loudness(power, lengths, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length),
        brightness_hz=_brightness(power, energy, sample_rate=sample_rate),
        noisiness=_noisiness(power, energy),
        attack_s=attack,
        decay_s=decay,
        onset_s=onset,
        inharmonicity=inharmonicity(audio, track.f0_hz, sample_rate=sample_rate, hop_length=hop_length),
        track=track,
    )


def note_pitch(track: PitchTrack, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The one pitch of each sound, MIDI, NaN where it has none, and how sure it is, 0 to 1: both [B].

    The median over voiced frames, weighted with their confidence and `weight` [B, N] (their amplitude). Sure is a
    sound most of whose frames are voiced, sure, and within half a semitone of the median.
    """
    midi = 69 + 12 * torch.log2(track.f0_hz.clamp(min=1e-3) / 440)
    votes = weight * track.confidence * track.voiced
    order = midi.argsort(-1)
    rising = votes.gather(-1, order).cumsum(-1)
    middle = torch.searchsorted(rising, rising[:, -1:] / 2).clamp(max=midi.shape[-1] - 1)
    pitch = midi.gather(-1, order.gather(-1, middle))  # [B, 1]
    agree = (midi - pitch).abs() < 0.5
    confidence = (votes * agree).sum(-1) / weight.sum(-1).clamp(min=1e-9)
    pitched = (confidence > PITCHED) & (track.voiced.sum(-1) > 0)
    return torch.where(pitched, pitch[:, 0], torch.nan), confidence


def _loudness(power: Tensor, lengths: Tensor, *, sample_rate: int, n_fft: int, hop_length: int) -> Tensor:
    """BS.1770-4 from the STFT: the K filter as a weight on power bins, blocks of 0.4 s as means over frames."""
    # By Parseval, one-sided power over n_fft and the energy of the Hann window (3/8 n_fft) is the mean square.
    weight = _k_weighting(sample_rate, n_fft).to(power.device)
    square = torch.einsum("f,bfn->bn", weight, power) * (2 / (0.375 * n_fft * n_fft))
    energy = torch.nn.functional.pad(square.double().cumsum(-1), (1, 0)) * hop_length  # up to each frame's hop
    block, step = SHORTEST_BLOCK_S * sample_rate, SHORTEST_BLOCK_S * sample_rate / 4
    loudness = []
    for row, length in zip(energy, lengths.tolist(), strict=True):
        if length < block:
            blocks = (row[-1] / max(1, length))[None]
        else:
            starts = torch.arange(int((length - block) / step) + 1, device=row.device) * step
            blocks = (_between(row, (starts + block) / hop_length) - _between(row, starts / hop_length)) / block
            loud = blocks[_lufs(blocks) > -70]
            if len(loud):
                blocks = loud[_lufs(loud) > _lufs(loud.mean()) - 10]
        loudness.append(_lufs(blocks.mean()).float())
    return torch.stack(loudness).clamp(min=QUIETEST_LUFS)


def _between(values: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation of values [N] at fractional indices."""
    index = at.long().clamp(max=len(values) - 2)
    return torch.lerp(values[index], values[index + 1], at.to(values) - index)


def _lufs(square: Tensor) -> Tensor:
    return -0.691 + 10 * torch.log10(square.clamp(min=1e-15))


@lru_cache(maxsize=16)
def _k_weighting(sample_rate: int, n_fft: int) -> Tensor:
    """|H|² of BS.1770's shelf and high-pass at the STFT's bins: their analogue prototypes, so that any rate will do."""
    with torch.inference_mode(False):
        f = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
        z = torch.exp(-2j * math.pi * f / sample_rate)
        response = torch.ones_like(z)
        for centre, q, gain_db in (
            (1681.974450955533, 0.7071752369554196, 3.999843853973347),
            (38.13547087602444, 0.5003270373238773, None),
        ):
            k = math.tan(math.pi * centre / sample_rate)
            a = (1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k)
            if gain_db is None:
                b = (a[0], -2 * a[0], a[0])
            else:
                high = 10 ** (gain_db / 20)
                band = high**0.4996667741545416
                b = (high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k)
            response = response * (b[0] + b[1] * z + b[2] * z * z) / (a[0] + a[1] * z + a[2] * z * z)
        squared: Tensor = response.abs().square().float()
        return squared


def _brightness(power: Tensor, energy: Tensor, *, sample_rate: int) -> Tensor:
    """The centroid of each frame's amplitude spectrum, the mean over frames weighted with their energy."""
    hz = torch.linspace(0, sample_rate / 2, power.shape[1], device=power.device)
    amplitude = power.sqrt()
    centroid = torch.einsum("f,bfn->bn", hz, amplitude) / amplitude.sum(1).clamp(min=1e-9)
    return (centroid * energy).sum(-1) / energy.sum(-1).clamp(min=1e-12)


def _noisiness(power: Tensor, energy: Tensor) -> Tensor:
    """Flatness (geometric over arithmetic mean) in bands of 16 bins, weighted with their power: the colour of a noise
    does not matter. Bins of white noise are exponentially distributed: flatness exp(-0.577), which is made 1."""
    bands = power[:, : power.shape[1] // 16 * 16].unflatten(1, (-1, 16))  # type: ignore[no-untyped-call]
    level = bands.mean(2)
    flatness = (bands.clamp(min=1e-20).log().mean(2).exp() / level.clamp(min=1e-20) * math.exp(0.5772)).clamp(max=1)
    share: Tensor = (flatness * level).sum((1, 2)) / level.sum((1, 2)).clamp(min=1e-20)
    return share


def _times(audio: Tensor, lengths: Tensor, *, sample_rate: int) -> tuple[Tensor, Tensor, Tensor]:
    """onset_s, attack_s, decay_s, each [B]."""
    magnitude = audio.abs()
    peak = magnitude.amax(-1)
    # Onset, to the sample: the first that is within 30 dB of the peak, or well above a louder background.
    floor = _quantile_level(audio, sample_rate)
    threshold = torch.minimum(torch.maximum(4 * floor, 0.03 * peak), 0.25 * peak)
    onset = (magnitude >= threshold[:, None]).byte().argmax(-1)
    step = max(1, sample_rate // ENVELOPE_HZ)
    # Means of 8 steps around every step, by way of the means of each.
    short = _means(torch.nn.functional.pad(audio, (0, -audio.shape[-1] % step)), step)
    square = torch.nn.functional.avg_pool1d(short[:, None], 8, 1, padding=4)[:, 0, :-1]
    envelope_db = 10 * torch.log10(square.clamp(min=1e-12))
    times = []
    for row, begin, length in zip(envelope_db, onset.tolist(), lengths.tolist(), strict=True):
        curve = row[begin // step : max(begin // step + 1, length // step)]
        top = curve.amax()
        rise = int((curve >= top - 3).float().argmax())
        peak_at = int(curve.argmax())
        after = curve[peak_at:]
        below = (after < top - 20).nonzero()
        stop = int(below[0]) if len(below) else len(after)
        decay = LONGEST_DECAY_S
        if stop > 2:
            t = torch.arange(stop, dtype=torch.float64) * step / sample_rate
            y = after[:stop].double().cpu()
            slope = float(((t - t.mean()) * (y - y.mean())).sum() / (t - t.mean()).square().sum())
            decay = min(LONGEST_DECAY_S, -60 / slope) if slope < 0 else LONGEST_DECAY_S
        times.append((begin / sample_rate, max(0.0, rise * step / sample_rate), decay))
    onset_s, attack_s, decay_s = torch.tensor(times, dtype=torch.float32, device=audio.device).unbind(-1)
    return onset_s, attack_s, decay_s


def _quantile_level(audio: Tensor, sample_rate: int) -> Tensor:
    """The background: the level that a tenth of the 10 ms pieces stay under, [B]."""
    return _means(audio, min(max(1, sample_rate // 100), audio.shape[-1])).quantile(0.1, dim=-1).sqrt()


def _means(audio: Tensor, width: int) -> Tensor:
    """The mean square of each whole piece of `width` samples: [B, T] -> [B, T // width]."""
    whole = audio.shape[-1] // width * width
    return audio[:, :whole].square().reshape(len(audio), -1, width).mean(-1)
