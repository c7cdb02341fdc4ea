"""The sub-band RNN one step after the other, compiled: what it is told of the past, the cell, the draw.

What a step is told of the sixteen bands up to now does not depend on any weight: a linear predictor for each band,
fitted to the past alone, and how far off it has been. So training reads it off real sounds with `observed`, once, and
`generated` computes the very same from what it has drawn itself.

The predictor is a lattice whose reflection coefficients follow the signal (Makhoul, 1978): with forward and backward
errors f_0 = b_0 = x, and b' the backward error a step earlier,

    f_m = f_(m-1) - k_m b'_(m-1)        b_m = b'_(m-1) - k_m f_(m-1)        k_m = Σ λ^age 2 f_(m-1) b'_(m-1)
                                                                                  / Σ λ^age (f_(m-1)² + b'_(m-1)²)

|k_m| < 1 by construction, so what it predicts from its own predictions does not grow. (Least squares, which are not
bound so, blew up within a second when played back to themselves.) What is expected next is Σ_m k_m b_(m-1). The
innermost loop is always over the sixteen bands, one or two vector registers.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from soundloom.models.bandspectrum import LAGS
from soundloom.models.filterbank import BANDS
from soundloom.models.gate import tanh

ORDER = 32  # past values of its own band from which a band is predicted
MEMORY = 0.995  # λ, a step
SHRINK = 0.999  # of the reflections
ERROR_MEMORY, LEVEL_MEMORY = 0.96, 0.96
FAINTEST = 1e-5  # a third of a step of 16 bits
LOUDEST = 6.0  # no band of a sound in [-1, 1] comes near
LEAST_LOG_SCALE, MOST_LOG_SCALE = -4.0, 10.0
TRUSTED = 5.0  # where trust starts from, before the sigmoid
GOVERNED = 0.05  # of what a band's level is outside its bounds is corrected in a step, both in logs
ZERO, UNIT = 7.0, 2.0  # of logs of scales and levels as they are told
FEATURES = 5  # of each band
TOLD = FEATURES * BANDS

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Past(NamedTuple):
    """What is known of the bands so far; written in place."""

    history: Floats  # [LAGS, BANDS] the newest values first
    reflections: Doubles  # [ORDER, BANDS]
    products: Doubles  # [ORDER, BANDS] Σ 2 f b'
    powers: Doubles  # [ORDER, BANDS] Σ f² + b'²
    backward: Doubles  # [ORDER, BANDS] b_0 to b_(ORDER - 1)
    error: Doubles  # [BANDS] mean square of the errors of prediction
    level: Doubles  # [BANDS] mean square
    expected: Doubles  # [BANDS] of the next step
    scale: Doubles  # [BANDS] how far off that may be
    told: Floats  # [TOLD]


class Weights(NamedTuple):
    """The net, transposed so that a product runs along rows. H is the width of the cell, S that of the head."""

    guide: Floats  # [G, 3H + S + OUT]: what the condition adds to the gates, the head and what is said
    bias: Floats  # [3H + S + OUT]
    told: Floats  # [TOLD + BANDS, 3H + S + OUT]: what is told of the past adds to the same
    hidden: Floats  # [H, 3H]
    hidden_bias: Floats  # [H] of the candidate, inside the reset
    head: Floats  # [H, S]
    say: Floats  # [S, OUT]
    bounds: Floats  # [G, 4 BANDS]
    bounds_bias: Floats  # [4 BANDS]


def no_past() -> Past:
    past = Past(
        history=np.zeros((LAGS, BANDS), np.float32),
        reflections=np.zeros((ORDER, BANDS)),
        products=np.zeros((ORDER, BANDS)),
        powers=np.zeros((ORDER, BANDS)),
        backward=np.zeros((ORDER, BANDS)),
        error=np.zeros(BANDS),
        level=np.zeros(BANDS),
        expected=np.zeros(BANDS),
        scale=np.zeros(BANDS),
        told=np.zeros(TOLD, np.float32),
    )
    _tell(past, np.zeros(BANDS))
    return past


@numba.njit(inline="always")
def _soft(x):  # type: ignore[no-untyped-def]
    return np.copysign(np.log1p(abs(x)), x)


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _tell(past: Past, off: Doubles) -> None:
    """Writes the next prediction, its scale and the features; `off`: errors of the last one in its own scale."""
    for k in range(BANDS):
        past.expected[k] = 0.0
    for m in range(ORDER):
        for k in range(BANDS):
            past.expected[k] += past.reflections[m, k] * past.backward[m, k]
    for k in range(BANDS):
        past.expected[k] = min(max(past.expected[k], -LOUDEST), LOUDEST)
        level = np.sqrt(past.level[k]) + FAINTEST
        scale = np.sqrt(past.error[k]) + FAINTEST
        past.scale[k] = scale
        past.told[k] = _soft(off[k])
        past.told[BANDS + k] = _soft(past.history[0, k] / level)
        past.told[2 * BANDS + k] = _soft(past.expected[k] / level)
        past.told[3 * BANDS + k] = (np.log(scale) + ZERO) / UNIT
        past.told[4 * BANDS + k] = (np.log(level) + ZERO) / UNIT


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _absorb(past: Past, x: Floats) -> None:
    """Takes the values x [BANDS] of a step into the past."""
    off, forward, rising = np.empty(BANDS), np.empty(BANDS), np.empty(BANDS)
    for k in range(BANDS):
        error = x[k] - past.expected[k]
        off[k] = error / past.scale[k]
        past.error[k] = ERROR_MEMORY * past.error[k] + (1 - ERROR_MEMORY) * error * error
        past.level[k] = LEVEL_MEMORY * past.level[k] + (1 - LEVEL_MEMORY) * x[k] * x[k]
        forward[k] = rising[k] = x[k]
    for i in range(LAGS - 1, 0, -1):
        past.history[i] = past.history[i - 1]
    past.history[0] = x
    for m in range(ORDER):
        reflections, products, powers = past.reflections[m], past.products[m], past.powers[m]
        backward = past.backward[m]
        for k in range(BANDS):
            f, b = forward[k], backward[k]
            backward[k] = rising[k]
            forward[k] = f - reflections[k] * b
            rising[k] = b - reflections[k] * f
            products[k] = MEMORY * products[k] + 2 * f * b
            powers[k] = MEMORY * powers[k] + f * f + b * b
            reflections[k] = SHRINK * products[k] / (powers[k] + FAINTEST * FAINTEST)
    _tell(past, off)


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def observed(past: Past, bands: Floats, told: Floats, expected: Floats) -> None:
    """Bands [T, BANDS] -> what a net is told before each step [T, TOLD], and what is expected [T, BANDS]."""
    for t in range(len(bands)):
        told[t] = past.told
        for k in range(BANDS):
            expected[t, k] = past.expected[k]
        _absorb(past, bands[t])


@numba.njit(inline="always")
def _add_product(out, weights, vector):  # type: ignore[no-untyped-def]
    """out += vector · weights, four rows at a time: each sum is loaded and stored once for four products."""
    for i in range(0, len(vector), 4):
        a, b, c, d = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        va, vb, vc, vd = vector[i], vector[i + 1], vector[i + 2], vector[i + 3]
        for j in range(len(out)):
            out[j] += va * a[j] + vb * b[j] + vc * c[j] + vd * d[j]


class Room(NamedTuple):
    """Arrays to work in."""

    place: Floats  # [3H + S + OUT]
    sums: Floats  # [3H + S + OUT]
    more: Floats  # [3H]
    bounds: Floats  # [4 BANDS] least and most log-scale, least and most log-level
    taps: Floats  # [LAGS, BANDS] of the predictors that the condition gives
    error: Floats  # [BANDS] log of how far off these usually are
    alone: Floats  # [1]: 1 where the condition gives none
    told: Floats  # [TOLD + BANDS]
    kept: Floats  # [3 BANDS]: what the past expects, the log-scale, and what the condition's predictors expect


@numba.njit(inline="always")
def _room(weights):  # type: ignore[no-untyped-def]
    place = np.empty(len(weights.bias), np.float32)
    more = np.empty(3 * len(weights.hidden), np.float32)
    bounds, kept = np.empty(4 * BANDS, np.float32), np.empty(3 * BANDS, np.float32)
    taps, told = np.empty((LAGS, BANDS), np.float32), np.empty(TOLD + BANDS, np.float32)
    error, alone = np.empty(BANDS, np.float32), np.empty(1, np.float32)
    return Room(place, np.empty_like(place), more, bounds, taps, error, alone, told, kept)


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _steer(weights: Weights, guide: Floats, room: Room) -> None:
    """What a piece's condition adds, and the bounds that it sets. Row by row and not by a library's product, whose
    rounding depends on how many rows it is given."""
    known = guide[: len(weights.guide)]
    room.place[:] = weights.bias
    _add_product(room.place, weights.guide, known)
    room.bounds[:] = weights.bounds_bias
    _add_product(room.bounds, weights.bounds, known)
    taps = len(known) + LAGS * BANDS
    room.taps[:] = guide[len(known) : taps].reshape(LAGS, BANDS)
    room.alone[0] = guide[taps]
    for k in range(BANDS):
        room.error[k] = UNIT * known[len(known) - 2 * BANDS + k] - ZERO


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _expect(past: Past, room: Room) -> None:
    """What the past expects, the log-scale of what is off, and what the condition's predictors expect, into `kept`;
    and what the net is told. The past speaks only where the condition gives no predictors."""
    kept, told, alone = room.kept, room.told, room.alone[0]
    told[:TOLD] = past.told
    kept[2 * BANDS :] = 0
    for i in range(LAGS):
        for k in range(BANDS):
            kept[2 * BANDS + k] += room.taps[i, k] * past.history[i, k]
    for k in range(BANDS):
        log_scale = UNIT * past.told[3 * BANDS + k] - ZERO
        log_level = UNIT * past.told[4 * BANDS + k] - ZERO
        followed = min(max(log_scale, room.bounds[k]), room.bounds[BANDS + k])
        kept[k] = alone * past.expected[k]
        kept[BANDS + k] = alone * followed + (1 - alone) * room.error[k]
        told[TOLD + k] = _soft(kept[2 * BANDS + k] * np.exp(-log_level))


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _advance(weights: Weights, past: Past, hidden: Floats, room: Room) -> Floats:
    """One step of the net: `hidden` [H] moves on; returned is what the head says, [OUT], a view."""
    _expect(past, room)
    width, sums, more = len(hidden), room.sums, room.more
    half, one = np.float32(0.5), np.float32(1.0)
    sums[:] = room.place
    more[:] = 0
    more[2 * width :] = weights.hidden_bias
    _add_product(sums, weights.told, room.told)
    _add_product(more, weights.hidden, hidden)
    for j in range(width):
        reset = half + half * tanh(half * (sums[j] + more[j]))
        keep = half + half * tanh(half * (sums[width + j] + more[width + j]))
        candidate = tanh(sums[2 * width + j] + reset * more[2 * width + j])
        hidden[j] = (one - keep) * candidate + keep * hidden[j]
    head, said = sums[3 * width : 3 * width + len(weights.say)], sums[3 * width + len(weights.say) :]
    _add_product(head, weights.head, hidden)
    for j in range(len(head)):
        head[j] = max(head[j], np.float32(0.0))
    _add_product(said, weights.say, head)
    return said


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _govern(past: Past, room: Room) -> None:
    """Where a band is louder or softer than the condition lets it be, all that is remembered of its waveform is scaled
    a little: its tones go on at the same pitch at another level. (Scaling the prediction alone detunes them.)"""
    for k in range(BANDS):
        log_level = UNIT * past.told[4 * BANDS + k] - ZERO
        over = log_level - min(max(log_level, room.bounds[2 * BANDS + k]), room.bounds[3 * BANDS + k])
        if over != 0:
            gain = np.exp(-GOVERNED * over)
            past.expected[k] *= gain
            past.level[k] *= gain * gain
            for i in range(ORDER):
                past.backward[i, k] *= gain
            for i in range(LAGS):
                past.history[i, k] *= gain


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def forced(
    weights: Weights, past: Past, hidden: Floats, guide: Floats, piece: int, bands: Floats, said: Floats, kept: Floats
) -> None:
    """The net along given bands [T, BANDS], `guide` [T / piece, G]: what it says of each step [T, OUT], and around
    what, in what scale [T, 3 · BANDS]."""
    room = _room(weights)
    for t in range(len(bands)):
        if t % piece == 0:
            _steer(weights, guide[t // piece], room)
        said[t] = _advance(weights, past, hidden, room)
        kept[t] = room.kept
        _absorb(past, bands[t])


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def generated(
    weights: Weights,
    past: Past,
    hidden: Floats,
    guide: Floats,
    piece: int,
    uniforms: Floats,
    temperature: float,
    bands: Floats,
) -> None:
    """Draws bands [T, BANDS], each step given those before it. `uniforms` [T, 2 · BANDS]: which part of the mixture,
    and where in it."""
    room = _room(weights)
    for t in range(len(bands)):
        if t % piece == 0:
            _steer(weights, guide[t // piece], room)
        said = _advance(weights, past, hidden, room)
        for k in range(BANDS):
            drawn = _draw(said, k, room.kept, uniforms[t], temperature)
            bands[t, k] = min(max(drawn, -LOUDEST), LOUDEST)
        _absorb(past, bands[t])
        _govern(past, room)


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _draw(said: Floats, k: int, kept: Floats, uniforms: Floats, temperature: float) -> float:
    """A value of band k. `said` is [1 + 3K, BANDS]: how far the past is trusted, then logits, means
    and log-scales."""
    parts = (len(said) // BANDS - 1) // 3
    which, best = 0, said[BANDS + k]
    for i in range(1, parts):
        if said[(1 + i) * BANDS + k] > best:
            which, best = i, said[(1 + i) * BANDS + k]
    if temperature > 0:
        total = 0.0
        for i in range(parts):
            total += np.exp(said[(1 + i) * BANDS + k] - best)
        left = uniforms[k] * total
        for i in range(parts):
            which = i
            left -= np.exp(said[(1 + i) * BANDS + k] - best)
            if left < 0:
                break
    trust = 0.5 + 0.5 * tanh(np.float32(0.5 * (said[k] + TRUSTED)))
    mean = said[(1 + parts + which) * BANDS + k]
    log_scale = min(max(said[(1 + 2 * parts + which) * BANDS + k], LEAST_LOG_SCALE), MOST_LOG_SCALE)
    place = min(max(uniforms[BANDS + k], 1e-6), 1 - 1e-6)
    spread = temperature * np.exp(log_scale) * np.log(place / (1 - place))
    drawn: float = trust * kept[k] + kept[2 * BANDS + k] + np.exp(kept[BANDS + k]) * (mean + spread)
    return drawn
