"""What a network says of the next frame of a codec's code: a probability for everything that the frame may be.

    there is one      Bernoulli; a sound that ends ends here
    latent z          a mixture of Gaussians; in each the values lean on those before them, u = e + tie · u
    it has a pitch    Bernoulli
    pitch             a note that goes on:  Gaussians about   anchor + a · (last - anchor) + b
                      or a new note:        any semitone, each with a Gaussian about   number + tuning

The two ways to a pitch are what keeps notes steady and melodies free. A note that goes on is held to its `anchor`, the
mean of its pitches so far: about its last pitch alone it would walk away, by the root of the frames in the tracker's
trembling. A new note is a choice among semitones, so it is as likely a fifth away as a second.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

NOTES = 128
BESIDE = 4  # values of a told frame beside its latent: voiced, last pitch, anchor, whether there was a pitch yet
STEPS = 3  # Gaussians of a note that goes on
SINGLE = 5 + 4 * STEPS  # numbers said beside latent and notes
FEATURES = NOTES + 3  # of the pitch, as a network is told it
NEAREST = 0.05  # least spread of a latent, in units of the bank's own
FINEST = 0.005  # least spread of a pitch, in semitones
WIDEST = 2.0  # largest logarithm of a spread
LEAP = 0.6  # semitones from one frame to the next that begin a new note
MEMORY = 32  # frames over which an anchor looks back
TREMBLING = 4.0  # deviations from the anchor are told in quarters of a semitone
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Said(NamedTuple):
    """Of N frames of B sounds. Shapes: `single` [B, N, SINGLE]; `which` [B, N, K], logits; `mean` and `spread`
    [B, N, K, D]; `notes` [B, N, NOTES], logits."""

    single: Tensor
    which: Tensor
    mean: Tensor
    spread: Tensor
    notes: Tensor


class NextFrame(nn.Module):
    """The last layer: what a hidden vector says of the frame to come, and how likely a given one is."""

    def __init__(self, width: int, latent: int, mixture: int) -> None:
        super().__init__()
        self.latent, self.mixture = latent, mixture
        self.single = nn.Linear(width, SINGLE)
        self.which = nn.Linear(width, mixture)
        self.mean = nn.Linear(width, mixture * latent)
        self.spread = nn.Linear(width, mixture * latent)
        self.notes = nn.Linear(width, NOTES)
        self.carry = nn.Linear(latent, latent, bias=False)  # what the last latent says of the next one by itself
        self.tie = nn.Parameter(torch.zeros(latent, latent))
        with torch.no_grad():
            for layer in (self.single, self.which, self.mean, self.spread, self.notes):
                layer.weight.mul_(0.3)
                layer.bias.zero_()
            self.carry.weight.copy_(0.5 * torch.eye(latent))
            self.spread.bias.fill_(-0.5).add_(torch.randn_like(self.spread.bias), alpha=0.2)
            self.single.bias[0] = 3.0  # it goes on
            self.single.bias[2] = -2.0  # seldom a new note
            self.single.bias[4] = -2.0
            self.single.bias[5 + 3 * STEPS :] = torch.linspace(-4.0, -1.0, STEPS)

    def forward(self, h: Tensor, last: Tensor) -> Said:
        """h [B, N, W] and the latents before [B, N, D]."""
        shape = (*h.shape[:2], self.mixture, self.latent)
        mean = self.mean(h).view(shape) + self.carry(last)[:, :, None]
        return Said(self.single(h), self.which(h), mean, _spread(self.spread(h)).view(shape), self.notes(h))

    def surprise(self, said: Said, before: Tensor, now: Tensor, inside: Tensor, *, ends: bool) -> dict[str, Tensor]:
        """Told frames [B, N, D + BESIDE], the ones before and those to be foretold -> nats [B, N] of each part.

        `inside` [B, N]: 1 up to a sound's end, 0 after it; `ends`: whether sounds end at all, which is then a part.
        Pitch is a density per semitone, where there is one.
        """
        z, voiced, pitch = now[..., : self.latent], now[..., self.latent], now[..., self.latent + 1]
        course = before[..., self.latent + 1 :].unbind(-1)
        nats = {
            "latent": -self.latent_likelihood(said, z) * inside,
            "voicing": F.binary_cross_entropy_with_logits(said.single[..., 1], voiced, reduction="none") * inside,
            "pitch": -pitch_likelihood(said, pitch, *course) * voiced * inside,
        }
        if ends:
            counted = F.pad(inside, (1, 0), value=1.0)[:, :-1]  # the frames of the sound and the one after them
            nats["ending"] = F.binary_cross_entropy_with_logits(said.single[..., 0], inside, reduction="none") * counted
        return nats

    def latent_likelihood(self, said: Said, z: Tensor) -> Tensor:
        """log p(z) [B, N]; the tie has ones on its diagonal, so it changes no volume."""
        u = (z[:, :, None] - said.mean) / said.spread
        e = u - u @ self.tie.tril(-1).T
        nats = (-0.5 * e.square() - said.spread.log()).sum(-1) - self.latent * HALF_LOG_TAU
        return torch.logsumexp(nats + said.which.log_softmax(-1), -1)


def pitch_likelihood(said: Said, pitch: Tensor, last: Tensor, anchor: Tensor, known: Tensor) -> Tensor:
    """log p(pitch) [B, N] per semitone, given the last one, its note's anchor and whether there was one (1 or 0)."""
    logits, pull, shift, spread = said.single[..., 5:].chunk(4, -1)
    mean = anchor[..., None] + pull * (last - anchor)[..., None] + shift
    goes_on = torch.logsumexp(_gaussian(pitch[..., None], mean, _fine(spread)) + logits.log_softmax(-1), -1)
    number = torch.arange(NOTES, device=pitch.device)
    tuned = _gaussian(pitch[..., None], number + said.single[..., 3, None], _fine(said.single[..., 4, None]))
    new = torch.logsumexp(tuned + said.notes.log_softmax(-1), -1)
    jump = said.single[..., 2]
    either = torch.logaddexp(F.logsigmoid(-jump) + goes_on, F.logsigmoid(jump) + new)
    return torch.where(known > 0, either, new)


def features(told: Tensor, latent: int) -> Tensor:
    """Told frames [..., D + BESIDE] -> what a network hears of their pitch [..., FEATURES - 1]: a bump on the keyboard,
    whether it sounds, and how far it is from its anchor."""
    voiced, last, anchor, known = told[..., latent:].unbind(-1)
    keys = torch.arange(NOTES, device=told.device)
    bump = (1 - (last[..., None] - keys).abs()).clamp_min(0) * known[..., None]
    return torch.cat([bump, torch.stack([voiced, trembling(last, anchor)], -1)], -1)


def trembling(last: Tensor, anchor: Tensor) -> Tensor:
    return (TREMBLING * (last - anchor)).clamp(-1, 1)


def told(z: Tensor, midi: Tensor) -> Tensor:
    """Normalised latents [N, D] and MIDI pitches [N], NaN where there is none -> told frames [N, D + BESIDE]."""
    beside = np.zeros((len(midi), BESIDE), np.float32)
    pitches = midi.nan_to_num(0.0).clamp(0, NOTES - 1).cpu().numpy().astype(np.float32)
    _tell(pitches, beside)
    return torch.cat([z, torch.from_numpy(beside).to(z)], -1)


def _spread(x: Tensor) -> Tensor:
    return NEAREST + x.clamp_max(WIDEST).exp()


def _fine(x: Tensor) -> Tensor:
    return FINEST + x.clamp_max(WIDEST).exp()


def _gaussian(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / spread).square() - spread.log() - HALF_LOG_TAU


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def follow(pitch: np.float32, course: NDArray[np.float32]) -> None:
    """Takes a frame's pitch, 0 where it has none, into a course: voiced, last, anchor, known, and the anchor's frames.

    A note goes on while its pitch does not leap and does not pause.
    """
    if pitch <= 0:
        course[0] = 0
        return
    if course[0] > 0 and abs(pitch - course[1]) < np.float32(LEAP):
        course[4] = min(course[4] + np.float32(1), np.float32(MEMORY))
        course[2] += (pitch - course[2]) / course[4]
    else:
        course[2], course[4] = pitch, np.float32(1)
    course[0], course[1], course[3] = np.float32(1), pitch, np.float32(1)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _tell(pitches: NDArray[np.float32], beside: NDArray[np.float32]) -> None:
    course = np.zeros(5, np.float32)
    for n in range(len(pitches)):
        follow(pitches[n], course)
        beside[n, :] = course[:4]
