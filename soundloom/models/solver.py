"""How a flow is followed: from noise at time 0 to a sound at time 1, back again, and what happens to volume on the way.

    dx/dt = v(x, t)        log p₁(x₁) = log p₀(x₀) - ∫ tr(∂v/∂x) dt

(Chen et al., 2018). The trace is estimated without bias by eᵀ (∂v/∂x) e with random signs e (Hutchinson, 1989), as in
FFJORD (Grathwohl et al., 2019): one pass backwards through v instead of as many as there are values.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from soundloom.config import did_you_mean
from soundloom.errors import ConfigError

Velocity = Callable[[Tensor, Tensor], Tensor]  # x [B, ...], t [B] -> [B, ...]
Method = Literal["euler", "midpoint", "heun"]
METHODS: tuple[Method, ...] = get_args(Method)
CALLS = {"euler": 1, "midpoint": 2, "heun": 2}  # of the velocity, per step


def follow(
    velocity: Velocity, x: Tensor, *, start: float, end: float, steps: int, method: Method = "midpoint"
) -> Tensor:
    """x at time `start` -> x at time `end`, in equal steps; `end` may lie before `start`.

    Euler's error falls with the step, that of the midpoint method and of Heun's with its square.

    >>> grown = follow(lambda x, t: x, torch.ones(1), start=0.0, end=1.0, steps=50)
    >>> bool(abs(grown - math.e) < 1e-3)
    True
    """
    step = (end - start) / steps
    for i in range(steps):
        t = x.new_full((len(x),), start + i * step)
        x = x + step * _slope(velocity, x, t, step, method)
    return x


def method(name: str) -> Method:
    """The solver of a name; an unknown one is refused with `ConfigError`."""
    for known in METHODS:
        if name == known:
            return known
    raise ConfigError(f"there is no solver '{name}': {did_you_mean(name, METHODS)}")


def _slope(velocity: Velocity, x: Tensor, t: Tensor, step: float, method: Method) -> Tensor:
    first = velocity(x, t)
    if method == "euler":
        return first
    if method == "midpoint":
        return velocity(x + step / 2 * first, t + step / 2)
    return (first + velocity(x + step * first, t + step)) / 2


def log_likelihood(velocity: Velocity, x: Tensor, *, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x [B, ...] at time 1 -> the logarithm of its density in nats [B], and its noise at time 0.

    Midpoint steps backwards; the trace is taken at the midpoints with one random sign vector for the whole way, so that
    the estimate is one of a smooth integral (Grathwohl et al., 2019).
    """
    signs = torch.randint(0, 2, x.shape, generator=generator, device=generator.device).to(x) * 2 - 1
    step = -1.0 / steps
    volume = x.new_zeros(len(x))
    for i in range(steps):
        t = x.new_full((len(x),), 1.0 + i * step)
        with torch.no_grad():
            middle = x + step / 2 * velocity(x, t)
        with torch.enable_grad():
            middle.requires_grad_(True)
            slope = velocity(middle, t + step / 2)
            (pulled,) = torch.autograd.grad((slope * signs).sum(), middle)
        x = (x + step * slope).detach()
        volume = volume + step * (pulled * signs).flatten(1).sum(1)
    size = x[0].numel()
    normal = -0.5 * x.flatten(1).square().sum(1) - 0.5 * size * math.log(2 * math.pi)
    # d log p / dt = -trace: from time 1 down to 0 the steps are negative, so `volume` is minus the integral.
    return normal + volume, x
