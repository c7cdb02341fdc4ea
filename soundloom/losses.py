"""How far a made sound is from the real one, for training: named terms, differentiable, float32 throughout.

Everything works on real and imaginary parts (p = re² + im²; log amplitude = ½ log p): the backward pass through the
modulus of a complex tensor costs more than the transform.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from soundloom import spectral

FLOOR = 3e-4  # amplitude of a sine that counts as silence: 70 dB below full scale


def spectral_distance(made: Tensor, real: Tensor, *, n_fft: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """How far two batches of sounds [B, T] are in log amplitude, and spectral convergence; each a scalar.

    A cell of the log distance weighs by what can be heard in it: by its level above `FLOOR` in the louder of the two
    sounds, and by how finely the ear divides its frequency, 1 / (f + 700 Hz), as the mel scale does. Most cells of a
    note are silence, and most of the rest hiss; unweighted, they drown its partials. The sum is divided by the weight
    of the real sound alone: dividing by that of both would reward a veil of noise.

    Convergence, ‖|X| - |Y|‖ / ‖|X|‖ (Arık et al., 2018), is taken per sound: over the batch a loud sound would drown
    the quiet ones. It is least for noise that is 2 dB too quiet, so it should weigh little.
    """
    unit = (n_fft / 4 * FLOOR) ** 2
    made_power = spectral.power(made, n_fft=n_fft, hop_length=n_fft // 4) + unit
    made_log = 0.5 * torch.log(made_power)
    with torch.no_grad():
        real_power = spectral.power(real, n_fft=n_fft, hop_length=n_fft // 4) + unit
        real_log, real_amplitude = 0.5 * torch.log(real_power), torch.sqrt(real_power)
        # One cell at -40 dB is added: a crop of nothing but silence would be divided by nothing.
        size = real_power.sum((-1, -2)) + (n_fft / 4 * 0.01) ** 2
        ear = 700 / (700 + torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, device=real.device)[:, None])
        silence = 0.5 * math.log(unit)
        weight = (torch.maximum(made_log, real_log) - silence) * ear
        total = ((real_log - silence) * ear).sum() + 0.01 * weight.numel() * ear.mean()
    log_distance = ((made_log - real_log).abs() * weight).sum() / total
    apart = (torch.sqrt(made_power) - real_amplitude).square().sum((-1, -2))
    return log_distance, torch.sqrt(apart / size + 1e-8).mean()


def envelope_distance(made: Tensor, real: Tensor, *, block: int, floor: float = 1e-3) -> Tensor:
    """Mean difference of log RMS over blocks of `block` samples of two batches [B, T]: where onsets stand."""
    levels = [
        0.5 * torch.log(sound.reshape(len(sound), -1, block).square().mean(-1) + floor**2) for sound in (made, real)
    ]
    return (levels[0] - levels[1]).abs().mean()


TERM_WEIGHTS = {"log": 1.0, "convergence": 0.3, "log_by_turns": 1.0, "convergence_by_turns": 0.3, "envelope": 0.3}


def reconstruction_terms(made: Tensor, real: Tensor, *, n_fft: int, sample_rate: int, step: int) -> dict[str, Tensor]:
    """What keeps a made sound [B, T] close to the real one: `spectral_distance` at the decoder's window in every step,
    at a quarter (transients) and four times of it (low partials) by turns, and `envelope_distance`."""
    log, convergence = spectral_distance(made, real, n_fft=n_fft, sample_rate=sample_rate)
    other = (n_fft // 4, n_fft * 4)[step % 2]
    by_turns = spectral_distance(made, real, n_fft=other, sample_rate=sample_rate)
    envelope = envelope_distance(made, real, block=n_fft // 32)
    return {
        "log": log,
        "convergence": convergence,
        "log_by_turns": by_turns[0],
        "convergence_by_turns": by_turns[1],
        "envelope": envelope,
    }


def reconstruction_score(made: Tensor, real: Tensor, *, n_fft: int, sample_rate: int) -> Tensor:
    """One figure for validation: the mean log distance over three windows; lower is better."""
    sizes = (n_fft // 4, n_fft, n_fft * 4)
    distances = [spectral_distance(made, real, n_fft=size, sample_rate=sample_rate)[0] for size in sizes]
    return torch.stack(distances).mean()


def stiffness_distance(own: Tensor, known: Tensor, f0_hz: Tensor) -> Tensor:
    """Mean difference of log stiffness, own [B, K, N] from known [B, K] (0: not measured), where f0 sounds."""
    counts = ((known > 0)[..., None] & (f0_hz > 0)).float()
    error = (torch.log(own) - torch.log(known.clamp_min(1e-6))[..., None]).abs()
    return (error * counts).sum() / counts.sum().clamp_min(1.0)


def kl_divergence(mean: Tensor, log_variance: Tensor, *, free_bits: float) -> Tensor:
    """KL of N(mean, variance) from N(0, 1) in nats, mean over all but the last dimension, then summed over it.

    A dimension under `free_bits` costs nothing more (Kingma et al., 2016), so that none is pressed to nothing.
    """
    divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
    return divergence.flatten(0, -2).mean(0).clamp_min(free_bits).sum()


def active_latents(mean: Tensor, log_variance: Tensor, *, nats: float = 0.01) -> Tensor:
    """How many dimensions of a latent say at least `nats` each: those that say less are never listened to."""
    divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
    return (divergence.flatten(0, -2).mean(0) >= nats).sum()


def weighted(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    """The sum that is minimised: each term times its weight."""
    return torch.stack([weight * term for weight, term in terms]).sum()
