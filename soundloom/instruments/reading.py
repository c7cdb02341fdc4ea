"""Reading a recording between its samples: eight neighbours, weighed; exact to -88 dB below 15 kHz."""

import functools
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # Numba brings it
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

TAPS = 8
POSITION_BITS = 32  # of the fraction of a position
BEFORE = 3  # of the taps lie before the position
PHASE_BITS = 7  # positions between two samples that weights are kept for: 128, and in between they go linearly


@functools.cache
def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights of the taps by phase, and how they go on to the next phase, both flat [128 · 8].

    For each phase d they are the least-squares answer to "which h makes Σ h_k exp(iωk) most like exp(iωd)?" over the
    band that data oversampled twice has content in: with W(ω) the weight of a frequency, the 8 equations
    Σ_l h_l ∫W cos(ω(k-l)) = ∫W cos(ω(k-d)). What is below 0.17 cycles a sample (15 kHz of 44.1, oversampled) counts a
    thousand times what is above.
    """
    f = (np.arange(400) + 0.5) / 400 * 0.25
    weight = np.where(f < 0.17, 1.0, 1e-3)
    k = np.arange(TAPS, dtype=np.float64) - BEFORE
    d = np.linspace(0.0, 1.0, (1 << PHASE_BITS) + 1)

    def integral(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        weighed: NDArray[np.float64] = np.cos(2 * np.pi * distance[..., None] * f) @ weight
        return weighed

    table = np.linalg.solve(integral(k[:, None] - k[None, :]), integral(k[:, None] - d[None, :])).T
    return table[:-1].ravel().astype(np.float32), np.diff(table, axis=0).ravel().astype(np.float32)


@intrinsic  # type: ignore[untyped-decorator]
def read_four(_: Any, data: Any, table: Any, slope: Any, places: Any, out: Any, at: Any) -> Any:
    """out[at + i] = Σ data[index + k] · (table[8 row + k] + fraction · slope[8 row + k]) over eight k, at four places.

    A place is a 64-bit number: index, then `PHASE_BITS` of row, then the fraction. All arrays are contiguous float32;
    `data` is that from the first tap of place 0 on.

    Written as vector operations, which Numba's own loop over eight taps does not become (it leaves LLVM's straight-line
    vectoriser off, and is half as fast); four at a time, so that their sums share the additions: two vectors of eight
    products are one of eight half sums, and so on.
    """
    signature = types.void(data, table, slope, places, out, at)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [
            make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args, args, strict=True)
            if isinstance(kind, types.Array)
        ]
        places = cgutils.unpack_tuple(builder, args[3], 4)
        products = [_weighed(builder, pointers, place) for place in places]
        lower, upper = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        halves = [_added(builder, products[i], products[i + 2], lower, upper) for i in (0, 1)]
        quarters = _added(builder, halves[0], halves[1], [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15])
        sums = _added(builder, quarters, quarters, [0, 1, 4, 5], [2, 3, 6, 7])
        target = builder.bitcast(builder.gep(pointers[3], [args[5]]), sums.type.as_pointer())
        builder.store(sums, target).align = 4
        return context.get_dummy_value()

    return signature, generate


def _weighed(builder: Any, pointers: Any, place: Any) -> Any:
    """Eight neighbours of a place times their weights."""
    number, whole, many = ir.FloatType(), ir.IntType(64), ir.VectorType(ir.FloatType(), TAPS)
    fine = POSITION_BITS - PHASE_BITS

    def load(pointer: Any, index: Any) -> Any:
        loaded = builder.load(builder.bitcast(builder.gep(pointer, [index]), many.as_pointer()))
        loaded.align = 4
        return loaded

    phase = builder.and_(builder.lshr(place, whole(fine)), whole((1 << PHASE_BITS) - 1))
    row = builder.mul(phase, whole(TAPS))
    rest = builder.sitofp(builder.and_(place, whole((1 << fine) - 1)), number)
    lone = builder.insert_element(ir.Constant(many, ir.Undefined), builder.fmul(rest, number(2.0**-fine)), whole(0))
    fraction = _shuffled(builder, lone, lone, [0] * TAPS)
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(many, [many] * 3), "llvm.fma.v8f32")
    weights = builder.call(fma, [fraction, load(pointers[2], row), load(pointers[1], row)])
    return builder.fmul(load(pointers[0], builder.lshr(place, whole(POSITION_BITS))), weights)


def _added(builder: Any, a: Any, b: Any, these: list[int], those: list[int]) -> Any:
    return builder.fadd(_shuffled(builder, a, b, these), _shuffled(builder, a, b, those))


def _shuffled(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _span(data, down, position, step, bend, table, slope, sound, n):  # type: ignore[no-untyped-def]
    """Fill `sound`, and up to three samples after it, from a level of a recording, at positions that are `step` apart.

    The step grows by `bend` each time. What is left over when all fours are done is read four times, for one's sake.
    """
    whole = n - n % 4
    for j in range(0, whole, 4):
        second = position + step
        third = second + step + bend
        fourth = third + step + 2 * bend
        places = (position >> down, second >> down, third >> down, fourth >> down)
        read_four(data, table, slope, places, sound, j)
        position = fourth + step + 3 * bend
        step += 4 * bend
    for j in range(whole, n):
        place = position >> down
        read_four(data, table, slope, (place, place, place, place), sound, j)
        position += step
        step += bend


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def read(v, pieces, data, table, slope, tick_at, m, left, right):  # type: ignore[no-untyped-def]
    """The next m samples of a recording; loops go back, or on to the rest after the key. True if it is stereo."""
    bend = v.step_bend
    step = v.step + bend * tick_at
    down = max(v.level - 1, 0) >> 1
    at = 0
    while True:
        piece = pieces[v.piece]
        count = m - at
        fastest = max(step, step + bend * count)
        if v.position + count * fastest >= piece.wrap_at:
            count = min(max((piece.wrap_at - v.position) // fastest, 1), count)
        _span(data[piece.left[v.level] :], down, v.position, step, bend, table, slope, left[at:], count)
        if piece.stereo == 1:
            _span(data[piece.right[v.level] :], down, v.position, step, bend, table, slope, right[at:], count)
        v.position += count * step + (count * (count - 1) >> 1) * bend
        step += count * bend
        at += count
        if v.position >= piece.wrap_at:
            beyond = v.position - piece.wrap_at
            if piece.rest >= 0 and v.held == 0 and v.one_shot == 0:
                v.piece, v.position = piece.rest, piece.rest_at + beyond
                beyond = v.position - pieces[v.piece].wrap_at
                piece = pieces[v.piece]
            if beyond >= 0:
                v.position = piece.wrap_at - piece.wrap_length + beyond % piece.wrap_length
        if at == m:
            return piece.stereo == 1
