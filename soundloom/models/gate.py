"""tanh(a) · sigmoid(b), the gate of WaveNet, in one pass over memory in each direction.

As separate operations of torch, adding the condition and the gate were a third of a training step, most of it waiting
for memory. `tanh` here is the rational function by which Eigen and XLA compute it in float32, within 4e-7 of it,
because a loop around it becomes vector instructions.
"""

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def gated(z: Tensor, place: Tensor) -> Tensor:
    """z [B, T, 2C] and what the condition adds [B, S, 2C], S pieces of T / S samples -> [B, T, C]."""
    if z.device.type == "cpu" and z.dtype == torch.bfloat16:
        made: Tensor = _Gate.apply(z, place)  # type: ignore[no-untyped-call]
        return made
    pieces = z.reshape(*place.shape[:2], -1, z.shape[-1])  # [B, S, T / S, 2C]
    a, b = (pieces + place[:, :, None].to(z.dtype)).flatten(1, 2).chunk(2, -1)
    return torch.tanh(a) * torch.sigmoid(b)


class _Gate(torch.autograd.Function):
    """The compiled gate on bfloat16, arithmetic in float32."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, place: Tensor) -> Tensor:
        z, place = z.contiguous(), place.float().contiguous()
        made = z.new_empty(*z.shape[:-1], z.shape[-1] // 2)
        _forward(_bits(z), _rows(place), _bits(made))
        ctx.save_for_backward(z, place)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        z, place = ctx.saved_tensors
        to_z, to_place = torch.empty_like(z), torch.zeros_like(place)
        _backward(_bits(z), _rows(place), _bits(gradient.contiguous()), _bits(to_z), _rows(to_place))
        return to_z, to_place


def _bits(x: Tensor) -> NDArray[np.uint16]:
    """bfloat16 [..., C] as rows of its bits [N, C]: numpy has no such type."""
    bits: NDArray[np.uint16] = x.detach().view(torch.int16).flatten(0, -2).numpy().view(np.uint16)
    return bits


def _rows(x: Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = x.detach().flatten(0, -2).numpy()
    return rows


@numba.njit(inline="always", fastmath=True)
def tanh(x):  # type: ignore[no-untyped-def]
    x = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    s = x * x
    p = s * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = s * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


@numba.njit(inline="always")
def _wide(bits):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@numba.njit(inline="always")
def _narrow(x):  # type: ignore[no-untyped-def]
    bits = np.float32(x).view(np.uint32)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _forward(z: NDArray[np.uint16], place: NDArray[np.float32], made: NDArray[np.uint16]) -> None:
    c, width = made.shape[1], len(z) // len(place)
    half = np.float32(0.5)
    for t in range(len(z)):
        to, za, zb = made[t], z[t, :c], z[t, c:]
        pa, pb = place[t // width, :c], place[t // width, c:]
        for j in range(c):
            a = tanh(_wide(za[j]) + pa[j])
            b = tanh(half * (_wide(zb[j]) + pb[j]))
            to[j] = _narrow(a * (half + half * b))


@numba.njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _backward(
    z: NDArray[np.uint16],
    place: NDArray[np.float32],
    gradient: NDArray[np.uint16],
    to_z: NDArray[np.uint16],
    to_place: NDArray[np.float32],
) -> None:
    c, width = gradient.shape[1], len(z) // len(place)
    half, one = np.float32(0.5), np.float32(1.0)
    for t in range(len(z)):
        g, za, zb, to_a, to_b = gradient[t], z[t, :c], z[t, c:], to_z[t, :c], to_z[t, c:]
        s = t // width
        pa, pb, to_pa, to_pb = place[s, :c], place[s, c:], to_place[s, :c], to_place[s, c:]
        for j in range(c):
            a = tanh(_wide(za[j]) + pa[j])
            b = tanh(half * (_wide(zb[j]) + pb[j]))
            da = _wide(g[j]) * (half + half * b) * (one - a * a)
            db = _wide(g[j]) * a * np.float32(0.25) * (one - b * b)
            to_a[j], to_b[j] = _narrow(da), _narrow(db)
            to_pa[j] += da
            to_pb[j] += db
