"""The recurrent network frame after frame, compiled: what torch does in a dozen small operations a frame, in one loop.

    last frame ──▶ gated units (Cho et al., 2014), a layer or two ──▶ what is said of the next frame ──▶ drawn ──┐
        ▲────────────────────────────────────────────────────────────────────────────────────────────────────┘

Only what is drawn is worked out: of the mixture the one component that was chosen, the notes only where a new one
begins. Every random number is keyed by (seed, absolute frame, place), so a stream is the same in any blocks.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from soundloom.models.nextframe import FINEST, NEAREST, NOTES, STEPS, TREMBLING, WIDEST, NextFrame, follow

Floats = NDArray[np.float32]
FARTHEST = 8.0  # a drawn latent stays within so many of the bank's spreads


class Weights(NamedTuple):
    """A network's weights, each row what one number is made of; the first layer's by what it is told."""

    latent: Floats  # [3H, D]
    notes: Floats  # [NOTES, 3H]: a row is added for each of the two keys that a pitch lies between
    beside: Floats  # [3, 3H]: voiced, trembling, nothing before
    enter: Floats  # [L - 1, 3H, H]
    enter_bias: Floats  # [L - 1, 3H]
    again: Floats  # [L, 3H, H]
    again_bias: Floats  # [L, 3H]
    single: Floats  # [SINGLE, H]
    single_bias: Floats
    which: Floats  # [K, H]
    which_bias: Floats
    mean: Floats  # [K * D, H]
    mean_bias: Floats
    spread: Floats  # [K * D, H]
    spread_bias: Floats
    new: Floats  # [NOTES, H]
    new_bias: Floats
    carry: Floats  # [D, D]
    tie: Floats  # [D, D]


class Memory(NamedTuple):
    """Where a sound stands; written in place."""

    hidden: Floats  # [L, H]
    latent: Floats  # [D], normalised
    course: Floats  # [5]: see `nextframe.follow`
    begun: Floats  # [2]: 1 after the first frame; 1 after the end


def packed(gru: nn.GRU, head: NextFrame) -> tuple[Weights, Floats, Floats]:
    """A network as the kernel wants it, and what turns an encoded condition into what the first layer adds to every
    frame: a matrix [3H, W] and a bias [3H]."""

    def rows(x: Tensor | nn.Module) -> Floats:
        assert isinstance(x, Tensor)
        return np.ascontiguousarray(x.detach().float().cpu().numpy())

    def stacked(name: str, first: int, *shape: int) -> Floats:
        parts = [rows(getattr(gru, f"{name}_l{i}")) for i in range(first, gru.num_layers)]
        return np.stack(parts) if parts else np.zeros((0, *shape), np.float32)

    size, d = gru.hidden_size, head.latent
    enter = rows(gru.weight_ih_l0)
    key = d + NOTES
    weights = Weights(
        latent=np.ascontiguousarray(enter[:, :d]),
        notes=np.ascontiguousarray(enter[:, d:key].T),
        beside=np.ascontiguousarray(enter[:, key : key + 3].T),
        enter=stacked("weight_ih", 1, 3 * size, size),
        enter_bias=stacked("bias_ih", 1, 3 * size),
        again=stacked("weight_hh", 0),
        again_bias=stacked("bias_hh", 0),
        single=rows(head.single.weight),
        single_bias=rows(head.single.bias),
        which=rows(head.which.weight),
        which_bias=rows(head.which.bias),
        mean=rows(head.mean.weight),
        mean_bias=rows(head.mean.bias),
        spread=rows(head.spread.weight),
        spread_bias=rows(head.spread.bias),
        new=rows(head.notes.weight),
        new_bias=rows(head.notes.bias),
        carry=rows(head.carry.weight),
        tie=rows(head.tie.tril(-1)),
    )
    return weights, np.ascontiguousarray(enter[:, key + 3 :]), rows(gru.bias_ih_l0)


def begun(weights: Weights) -> Memory:
    """Before the first frame."""
    layers, _, size = weights.again.shape
    return Memory(
        hidden=np.zeros((layers, size), np.float32),
        latent=np.zeros(weights.latent.shape[1], np.float32),
        course=np.zeros(5, np.float32),
        begun=np.zeros(2, np.float32),
    )


def hear(weights: Weights, told: Floats, memory: Memory, latents: Floats, pitches: Floats) -> None:
    """Takes given frames into the memory: latents [N, D], normalised, and MIDI pitches [N], 0 where there is none."""
    _hear(weights, told, memory, latents, pitches)


def draw(
    weights: Weights,
    told: Floats,
    memory: Memory,
    frames: int,
    *,
    seed: int,
    at: int,
    temperature: float,
    ends: bool,
) -> tuple[Floats, Floats, int]:
    """The next frames: latents [N, D], pitches [N], and how many there are before the sound's end (all, if none).

    `told` [3H] is what the condition adds to the first layer; `at` the absolute number of the first frame.
    """
    latents = np.zeros((frames, weights.latent.shape[1]), np.float32)
    pitches = np.zeros(frames, np.float32)
    drawn = _draw(weights, told, memory, latents, pitches, (seed & 0xFFFFFFFF, at, np.float32(temperature), ends))
    return latents, pitches, int(drawn)


@numba.njit(fastmath=True, inline="always")  # type: ignore[untyped-decorator]
def _product(out: Floats, weight: Floats, x: Floats, bias: Floats) -> None:
    """out = weight @ x + bias."""
    for i in range(weight.shape[0]):
        total = np.float32(0)
        row = weight[i]
        for j in range(weight.shape[1]):
            total += row[j] * x[j]
        out[i] = total + bias[i]


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _dot(a: Floats, b: Floats) -> np.float32:
    total = np.float32(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@numba.njit  # type: ignore[untyped-decorator]
def _mixed(x: np.uint32) -> np.uint32:
    """The finaliser of MurmurHash3."""
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@numba.njit  # type: ignore[untyped-decorator]
def _uniform(key: np.uint32, place: int) -> np.float32:
    """Between 0 and 1, neither of them."""
    x = _mixed(np.uint32(key + np.uint32(place) * np.uint32(0x9E3779B1)))
    return (np.float32(x >> np.uint32(9)) + np.float32(0.5)) * np.float32(2.0**-23)


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _normal(key: np.uint32, place: int) -> np.float32:
    """Box and Muller, 1958."""
    angle = np.float32(2 * np.pi) * _uniform(key, 2 * place + 1)
    return np.float32(np.sqrt(np.float32(-2) * np.log(_uniform(key, 2 * place))) * np.cos(angle))


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _chosen(logits: Floats, uniform: np.float32, temperature: np.float32) -> int:
    best = 0
    for i in range(len(logits)):
        if logits[i] > logits[best]:
            best = i
    if temperature == 0:
        return best
    total = np.float32(0)
    for i in range(len(logits)):
        total += np.exp((logits[i] - logits[best]) / temperature)
    aim, share = uniform * total, np.float32(0)
    for i in range(len(logits)):
        share += np.exp((logits[i] - logits[best]) / temperature)
        if share >= aim:
            return i
    return best


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _happens(logit: np.float32, uniform: np.float32, temperature: np.float32) -> bool:
    if temperature == 0:
        return bool(logit > 0)
    return bool(uniform < np.float32(1) / (np.float32(1) + np.exp(-logit / temperature)))


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _advance(weights: Weights, told: Floats, memory: Memory, gates: Floats, again: Floats) -> None:
    """The hidden vectors after the last frame."""
    size = memory.hidden.shape[1]
    course = memory.course
    if memory.begun[0] == 0:
        for j in range(3 * size):
            gates[j] = told[j] + weights.beside[2, j]
    else:
        _product(gates, weights.latent, memory.latent, told)
        tremble = min(max(np.float32(TREMBLING) * (course[1] - course[2]), np.float32(-1)), np.float32(1))
        low = min(int(course[1]), NOTES - 2)
        part = (course[1] - np.float32(low)) * course[3]
        rest = course[3] - part
        below, above, aside = weights.notes[low], weights.notes[low + 1], weights.beside
        for j in range(3 * size):
            gates[j] += rest * below[j] + part * above[j] + course[0] * aside[0, j] + tremble * aside[1, j]
    one = np.float32(1)
    for layer in range(memory.hidden.shape[0]):
        h = memory.hidden[layer]
        if layer > 0:
            _product(gates, weights.enter[layer - 1], memory.hidden[layer - 1], weights.enter_bias[layer - 1])
        _product(again, weights.again[layer], h, weights.again_bias[layer])
        for j in range(size):
            reset = one / (one + np.exp(-(gates[j] + again[j])))
            keep = one / (one + np.exp(-(gates[size + j] + again[size + j])))
            new = np.tanh(gates[2 * size + j] + reset * again[2 * size + j])
            h[j] = new + keep * (h[j] - new)


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _pitch(
    weights: Weights, h: Floats, single: Floats, course: Floats, key: np.uint32, temperature: np.float32
) -> np.float32:
    if course[3] == 0 or _happens(single[2], _uniform(key, 3), temperature):
        logits = np.empty(NOTES, np.float32)
        _product(logits, weights.new, h, weights.new_bias)
        mean = np.float32(_chosen(logits, _uniform(key, 4), temperature)) + single[3]
        spread = single[4]
    else:
        k = _chosen(single[5 : 5 + STEPS], _uniform(key, 4), temperature)
        mean = course[2] + single[5 + STEPS + k] * (course[1] - course[2]) + single[5 + 2 * STEPS + k]
        spread = single[5 + 3 * STEPS + k]
    spread = np.float32(FINEST) + np.exp(min(spread, np.float32(WIDEST)))
    pitch = mean + temperature * spread * _normal(key, 3)
    return min(max(pitch, np.float32(1)), np.float32(NOTES - 1))


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _latent(
    weights: Weights, h: Floats, last: Floats, key: np.uint32, temperature: np.float32, out: Floats, u: Floats
) -> None:
    """Draws the latent into `out`."""
    d = len(out)
    logits = np.empty(len(weights.which_bias), np.float32)
    _product(logits, weights.which, h, weights.which_bias)
    first = d * _chosen(logits, _uniform(key, 0), temperature)
    for i in range(d):
        lean = np.float32(0)
        for j in range(i):
            lean += weights.tie[i, j] * u[j]
        u[i] = temperature * _normal(key, 8 + i) + lean
        mean = _dot(weights.mean[first + i], h) + weights.mean_bias[first + i] + _dot(weights.carry[i], last)
        spread = _dot(weights.spread[first + i], h) + weights.spread_bias[first + i]
        value = mean + u[i] * (np.float32(NEAREST) + np.exp(min(spread, np.float32(WIDEST))))
        out[i] = min(max(value, np.float32(-FARTHEST)), np.float32(FARTHEST))


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _hear(weights: Weights, told: Floats, memory: Memory, latents: Floats, pitches: Floats) -> None:
    size = memory.hidden.shape[1]
    gates, again = np.empty(3 * size, np.float32), np.empty(3 * size, np.float32)
    for n in range(len(pitches)):
        _advance(weights, told, memory, gates, again)
        memory.latent[:] = latents[n]
        follow(pitches[n], memory.course)
        memory.begun[0] = 1


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _draw(
    weights: Weights,
    told: Floats,
    memory: Memory,
    latents: Floats,
    pitches: Floats,
    manner: tuple[int, int, np.float32, bool],
) -> int:
    seed, at, temperature, ends = manner
    size = memory.hidden.shape[1]
    gates, again = np.empty(3 * size, np.float32), np.empty(3 * size, np.float32)
    single, u = np.empty(len(weights.single_bias), np.float32), np.empty(latents.shape[1], np.float32)
    for n in range(len(pitches)):
        if memory.begun[1] > 0:
            return n
        key = _mixed(np.uint32(_mixed(np.uint32(seed)) + np.uint32(at + n)))
        _advance(weights, told, memory, gates, again)
        h = memory.hidden[-1]
        _product(single, weights.single, h, weights.single_bias)
        if ends and not _happens(single[0], _uniform(key, 1), temperature):
            memory.begun[1] = 1
            return n
        _latent(weights, h, memory.latent, key, temperature, latents[n], u)
        if _happens(single[1], _uniform(key, 2), temperature):
            pitches[n] = _pitch(weights, h, single, memory.course, key, temperature)
        memory.latent[:] = latents[n]
        follow(pitches[n], memory.course)
        memory.begun[0] = 1
    return len(pitches)
