"""WaveNet one sample after the other, compiled, with every layer's past kept: what the whole network says, in a
hundredth of the time of running it anew for each sample.

What a layer needs of its past, h[t - dilation], is known up to `dilation` samples ahead: its product with the weights
is made for up to `AHEAD` samples at once, while these weights are in the cache.

    ring of layer l   | h[t-d] … h[t-1] |   the oldest is read for the block to come, then written over
    ahead of layer l  | past · W, for the samples of this block |

A state is a value: it is written in place and handed back, and sounds made in pieces of any length are the same.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom.models.gate import tanh
from soundloom.models.logistics import NARROWEST, STEP
from soundloom.models.tiles import add_product, add_products

AHEAD = 16  # samples for which a layer's past is multiplied at once
DRAWN = 2.0  # stands for a sample that is not given; with fastmath nothing is NaN
Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """A network's weights as the kernel reads them: a row for each input, so that a row's outputs are one vector."""

    enter: Floats  # [FEATURES, C]
    enter_bias: Floats
    past: Floats  # [L, C, 2C], as tiles
    newest: Floats  # [L, C, 2C], as tiles
    onward: Floats  # [L, C, 2C], as tiles: what a gate adds to the residual stream and to the skips
    onward_bias: Floats  # [L, C]
    skip_bias: Floats  # [C]
    leave: Floats  # [C, C]
    leave_bias: Floats
    say: Floats  # [C, 3K]
    say_bias: Floats
    dilations: NDArray[np.int64]


class Course(NamedTuple):
    """What a sound is given, for S pieces of `piece` samples one after the other; the last one lasts for ever."""

    place: Floats  # [S, L, 2C]
    taps: Floats  # [S, order], the newest sample last
    error: Floats  # [S]
    level: Floats  # [S]


class State(NamedTuple):
    """Where a sound stands."""

    rings: Floats  # [sum of dilations, C]
    ahead: Floats  # [L, AHEAD, 2C]
    heard: Floats  # [order], the newest last
    off: Floats  # [1]: how far off the last prediction was, in units of its error


@dataclass
class Stream:
    """A `State` and how many samples have gone by."""

    state: State
    at: int = 0


def rows(weight: Tensor) -> Floats:
    """A layer's weight [outputs, inputs] -> [inputs, outputs], or its bias as it is, as an array of its own."""
    turned: Floats = np.array(weight.detach().float().cpu().numpy().T, order="C")
    return turned


def begun(weights: Weights, order: int) -> Stream:
    """Before the first sample: silence, and nothing kept."""
    n, c = weights.onward_bias.shape
    return Stream(
        State(
            rings=np.zeros((int(weights.dilations.sum()), c), np.float32),
            ahead=np.zeros((n, AHEAD, 2 * c), np.float32),
            heard=np.zeros(order, np.float32),
            off=np.zeros(1, np.float32),
        )
    )


def play(
    weights: Weights,
    course: Course,
    stream: Stream,
    uniforms: Floats,
    *,
    piece: int,
    temperature: float = 1.0,
    given: Floats | None = None,
) -> tuple[Floats, Floats, Stream]:
    """The next T samples, what was said of each [T, 3K], and the stream after them.

    `uniforms` [T, 2], two random numbers a sample. `given` [T]: these samples are not drawn but come from a recording.
    `course` counts its pieces from where the stream is now.
    """
    if given is None:
        given = np.full(len(uniforms), DRAWN, np.float32)
    sound = np.empty(len(uniforms), np.float32)
    said = np.empty((len(uniforms), len(weights.say_bias)), np.float32)
    _play(weights, course, stream.state, (stream.at, piece, np.float32(temperature)), uniforms, given, sound, said)
    return sound, said, Stream(stream.state, stream.at + len(uniforms))


def uniform_numbers(samples: int, generator: torch.Generator) -> Floats:
    """[samples, 2] from 0 to 1."""
    drawn: Floats = torch.rand(samples, 2, generator=generator, device=generator.device).cpu().numpy()
    return drawn


@numba.njit(fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _add_product(out: Floats, x: Floats, weight: Floats) -> None:
    """out += x @ weight, for the small ones."""
    for i in range(weight.shape[0]):
        factor, row = x[i], weight[i]
        for j in range(len(out)):
            out[j] += factor * row[j]


@numba.njit(fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _draw(said: Floats, uniforms: Floats, temperature: np.float32) -> Any:
    """As `logistics.drawn`."""
    k = len(said) // 3
    which = 0
    for i in range(k):
        if said[i] > said[which]:
            which = i
    most = said[which]
    if temperature == 0:
        return said[k + which]
    total = np.float32(0)
    for i in range(k):
        total += np.exp(said[i] - most)
    share, aim = np.float32(0), uniforms[0] * total
    for i in range(k):
        share += np.exp(said[i] - most)
        which = i
        if share >= aim:
            break
    spread = np.exp(min(max(said[2 * k + which], np.float32(NARROWEST)), np.float32(4.0))) * temperature
    place = min(max(uniforms[1], np.float32(1e-6)), np.float32(1 - 1e-6))
    return said[k + which] + spread * np.log(place / (np.float32(1) - place))


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _play(
    weights: Weights,
    course: Course,
    state: State,
    clock: tuple[int, int, np.float32],
    uniforms: Floats,
    given: Floats,
    sound: Floats,
    said: Floats,
) -> None:
    start, piece, temperature = clock
    n, c = weights.onward_bias.shape
    order = len(state.heard)
    heard = np.empty(order + len(sound), np.float32)
    heard[:order] = state.heard
    told = np.empty(3, np.float32)
    h, gate = np.empty(c, np.float32), np.empty(c, np.float32)
    z, onward = np.empty(2 * c, np.float32), np.empty(2 * c, np.float32)
    skip, last = np.empty(c, np.float32), np.empty(c, np.float32)
    half, step = np.float32(0.5), np.float32(STEP)
    off = state.off[0]
    for t in range(len(sound)):
        now = start + t
        s = min(t // piece, len(course.error) - 1)
        error, level = course.error[s], course.level[s]
        expected = np.float32(0)
        taps = course.taps[s]
        for k in range(order):
            expected += taps[k] * heard[t + k]
        told[0], told[1], told[2] = (
            np.arcsinh(off),
            np.arcsinh(heard[order + t - 1] / level),
            np.arcsinh(expected / level),
        )
        h[:] = weights.enter_bias
        _add_product(h, told, weights.enter)
        skip[:] = weights.skip_bias
        ring = 0
        for layer in range(n):
            dilation = weights.dilations[layer]
            block = min(dilation, AHEAD)
            if now % block == 0:
                coming, first = state.ahead[layer, :block], ring + now % dilation
                coming[:] = 0
                add_products(coming, state.rings[first : first + block], weights.past[layer])
            ahead, place = state.ahead[layer, now % block], course.place[s, layer]
            for j in range(2 * c):
                z[j] = ahead[j] + place[j]
            add_product(z, h, weights.newest[layer])
            a, b = z[:c], z[c:]
            for j in range(c):
                gate[j] = tanh(a[j]) * (half + half * tanh(half * b[j]))
            state.rings[ring + now % dilation, :] = h
            bias = weights.onward_bias[layer]
            for j in range(c):
                onward[j] = h[j] + bias[j]
                onward[c + j] = skip[j]
            add_product(onward, gate, weights.onward[layer])
            h[:] = onward[:c]
            skip[:] = onward[c:]
            ring += dilation
        for j in range(c):
            skip[j] = max(skip[j], np.float32(0))
        last[:] = weights.leave_bias
        _add_product(last, skip, weights.leave)
        for j in range(c):
            last[j] = max(last[j], np.float32(0))
        said[t, :] = weights.say_bias
        _add_product(said[t], last, weights.say)
        value = given[t]
        if value >= DRAWN:
            value = expected + error * _draw(said[t], uniforms[t], temperature)
        value = min(max(value, np.float32(-1)), np.float32(1))
        value = np.floor(value / step + half) * step
        off = (value - expected) / error
        sound[t], heard[order + t] = value, value
    state.off[0] = off
    state.heard[:] = heard[len(sound) :]
