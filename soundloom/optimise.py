"""How weights move: AdamW per player, warm-up and cosine, clipping, the NaN stop, and the average that is kept."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from soundloom.errors import DivergedError
from soundloom.models.base import AbstractModel
from soundloom.runtime import World

CLIP_NORM = 1.0
FINAL_RATE = 0.05  # of the learning rate, at the last step


def rate_at(step: int, steps: int) -> float:
    """The learning rate of a step as a share of the player's: a linear warm-up over a twentieth of the run (500 steps
    at most), then half a cosine down to `FINAL_RATE`.

    >>> [round(rate_at(step, 100), 2) for step in (0, 4, 5, 52, 99)]
    [0.2, 1.0, 1.0, 0.53, 0.05]
    """
    warm_up = max(1, min(500, steps // 20))
    if step < warm_up:
        return (step + 1) / warm_up
    part = (step - warm_up) / max(1, steps - 1 - warm_up)
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part))


def average_decay(step: int, steps: int) -> float:
    """How much of the running average a step keeps: it looks back over a twentieth of the run (10 to 1000 steps), and
    over less in the beginning, so that the first, random weights are soon forgotten."""
    horizon = min(max(steps / 20, 10.0), 1000.0)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))


class Optimiser:
    """The players' optimisers and averages. It is the `Update` that a family calls in its training step.

    `steps` is the length of the run that the schedules are made for.
    """

    def __init__(self, model: AbstractModel, *, steps: int, world: World | None = None) -> None:
        self.steps, self.step, self.world = steps, 0, world or World()
        self.norms: dict[str, float] = {}
        self._players = model.players()
        self._adam = {
            # fused: one pass over memory for all of a player's parameters
            name: torch.optim.AdamW(
                player.parameters,
                lr=player.learning_rate,
                betas=player.betas,
                weight_decay=player.weight_decay,
                fused=True,
            )
            for name, player in self._players.items()
        }
        averaged = {id(p) for player in self._players.values() if player.ema for p in player.parameters}
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._average = {
            name: (parameter, parameter.detach().clone())
            for name, parameter in model.named_parameters()
            if id(parameter) in averaged
        }

    def __call__(self, player: str, loss: Tensor) -> None:
        """One step of `player` down its loss.

        Raises:
            DivergedError: the loss or its gradient is not finite, in any process; the weights are as before.
        """
        parameters = self._players[player].parameters
        adam = self._adam[player]
        if self.world.size == 1:
            self._refuse_unless_finite(player, "loss", float(loss.detach()))
        adam.zero_grad(set_to_none=True)
        # only this player's gradients: what flows through an adversary to its judge would be computed for nothing
        loss.backward(inputs=[p for p in parameters if p.requires_grad])  # type: ignore[no-untyped-call]
        mean_loss = self.world.mean_gradients(parameters, loss)
        if self.world.size > 1:
            # after the exchange, so that all processes stop together and none waits for one that is gone
            self._refuse_unless_finite(player, "loss", float(mean_loss))
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM))
        self._refuse_unless_finite(player, "gradient", norm)
        self.norms[player] = norm
        for group in adam.param_groups:
            group["lr"] = self._players[player].learning_rate * rate_at(self.step, self.steps)
        adam.step()
        adam.zero_grad(set_to_none=True)

    def end_step(self) -> None:
        """Takes the weights of the step that just ended into the average."""
        with torch.no_grad():
            live: list[Tensor] = [parameter for parameter, _ in self._average.values()]
            kept = [average for _, average in self._average.values()]
            if kept:
                torch._foreach_lerp_(kept, live, 1 - average_decay(self.step, self.steps))
        self.step += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the model has its averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, (parameter, average) in self._average.items():
            live = parameter.data
            parameter.data = average
            self._average[name] = (parameter, live)

    def state(self) -> dict[str, Tensor]:
        """Everything that moves besides the weights, as flat named tensors: moments, counts, averages."""
        tensors = {f"average.{name}": average for name, (_, average) in self._average.items()}
        for player, adam in self._adam.items():
            for parameter, moments in adam.state.items():
                for kind, tensor in moments.items():
                    tensors[f"adam.{player}.{kind}.{self._names[id(parameter)]}"] = tensor
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], *, step: int) -> None:
        """Takes back what `state` gave after `step` steps."""
        self.step = step
        for name, (_, average) in self._average.items():
            average.copy_(tensors[f"average.{name}"])
        parameters = {name: parameter for parameter, name in self._named()}
        for player, adam in self._adam.items():
            for key, tensor in tensors.items():
                if key.startswith(f"adam.{player}."):
                    kind, _, name = key.removeprefix(f"adam.{player}.").partition(".")
                    adam.state[parameters[name]][kind] = tensor.clone().to(parameters[name].device)

    def _named(self) -> Iterator[tuple[torch.nn.Parameter, str]]:
        for player in self._players.values():
            for parameter in player.parameters:
                yield parameter, self._names[id(parameter)]

    def _refuse_unless_finite(self, player: str, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergedError(f"step {self.step}: the {what} of the player '{player}' became {value}")
