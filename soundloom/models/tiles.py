"""Products of a few vectors with one matrix, for compiled loops: sums stay in registers while the weights stream by.

numba's own vectoriser keeps the sums in memory and stores a row of them after every input, which takes twice as long.
So the inner loop is written out here for LLVM, in vectors of 16 floats:

    for each tile of 64 outputs:   sums[r][0..3] = out[r];   for each input i:  sums[r][v] += x[r][i] * tile[i][v]
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
TILE = 4 * LANES  # outputs
Floats = NDArray[np.float32]


def tiled(weight: Floats) -> Floats:
    """A matrix [inputs, outputs] -> tiles [outputs / TILE, inputs, TILE], each read from end to end."""
    return np.ascontiguousarray(weight.reshape(len(weight), -1, TILE).transpose(1, 0, 2))


def _tile(rows: int) -> Any:
    """The code for one tile and `rows` vectors at once: tile(out, x, weights, outputs, inputs), of addresses."""

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(typing: Any, out: Any, x: Any, weights: Any, outputs: Any, inputs: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, x, weights, outputs, inputs = arguments
            scalar, vector = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
            word = ir.IntType(32)

            def place(address: Any, offset: Any, kind: Any) -> Any:
                there = builder.add(address, builder.mul(offset, offset.type(4)))
                return builder.inttoptr(there, kind.as_pointer())

            sums = []
            for row in range(rows):
                for v in range(TILE // LANES):
                    offset = builder.add(builder.mul(outputs, outputs.type(row)), outputs.type(v * LANES))
                    pointer = place(out, offset, vector)
                    kept = cgutils.alloca_once(builder, vector)
                    builder.store(builder.load(pointer, align=4), kept)
                    sums.append((pointer, kept))
            with cgutils.for_range(builder, inputs) as loop:
                i = loop.index
                weight = [
                    builder.load(
                        place(weights, builder.add(builder.mul(i, i.type(TILE)), i.type(v * LANES)), vector), align=4
                    )
                    for v in range(TILE // LANES)
                ]
                for row in range(rows):
                    value = builder.load(place(x, builder.add(builder.mul(inputs, inputs.type(row)), i), scalar))
                    spread = builder.insert_element(ir.Constant(vector, ir.Undefined), value, word(0))
                    zeros = ir.Constant(ir.VectorType(word, LANES), [0] * LANES)
                    spread = builder.shuffle_vector(spread, ir.Constant(vector, ir.Undefined), zeros)
                    for v in range(TILE // LANES):
                        kept = sums[row * (TILE // LANES) + v][1]
                        product = builder.fmul(spread, weight[v], flags=("fast",))
                        builder.store(builder.fadd(builder.load(kept), product, flags=("fast",)), kept)
            for pointer, kept in sums:
                builder.store(builder.load(kept), pointer, align=4)
            return context.get_dummy_value()

        return types.void(types.uintp, types.uintp, types.uintp, types.intp, types.intp), generate

    return tile


_one, _four = _tile(1), _tile(4)


@numba.njit(fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def add_product(out: Floats, x: Floats, tiles: Floats) -> None:
    """out [outputs] += x [inputs] @ the matrix of which these are the `tiled` parts."""
    inputs, size = tiles.shape[1], 4 * TILE
    for i in range(len(tiles)):
        _one(out.ctypes.data + i * size, x.ctypes.data, tiles.ctypes.data + i * inputs * size, len(out), inputs)


@numba.njit(fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def add_products(out: Floats, x: Floats, tiles: Floats) -> None:
    """out [n, outputs] += x [n, inputs] @ the matrix: four rows at once, so the weights are read once for the four."""
    inputs, size, n = tiles.shape[1], 4 * TILE, len(out)
    for i in range(len(tiles)):
        weights = tiles.ctypes.data + i * inputs * size
        for row in range(0, n - n % 4, 4):
            _four(out[row].ctypes.data + i * size, x[row].ctypes.data, weights, out.shape[1], inputs)
        for row in range(n - n % 4, n):
            _one(out[row].ctypes.data + i * size, x[row].ctypes.data, weights, out.shape[1], inputs)
