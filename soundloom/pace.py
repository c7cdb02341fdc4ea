"""How many steps a time budget holds, and how a model does on sounds it was not trained on."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from soundloom.bank import SoundBank, spread_evenly
from soundloom.models.base import AbstractModel, Prepares
from soundloom.optimise import Optimiser
from soundloom.resume import keyed_generator
from soundloom.runlog import Means

VALIDATIONS = 20  # over a run, fewer where they would take more than a tenth of it
ENDLESS = 10**9  # steps
PLANNED = 0.94  # of a budget: a schedule that ends early is whole, one that is cut short is not


def affordable(
    family: type[AbstractModel],
    values: Any,
    bank: SoundBank,
    *,
    budget_s: float,
    clock: Callable[[], float],
    device: torch.device,
    processes: int,
    look: Callable[[AbstractModel, SoundBank], object],
) -> int:
    """How many steps fit into `budget_s` seconds of `clock`, measured with a throwaway copy of the model.

    A family whose config has `adversary_from` (0 to 1) has two phases, with dearer steps from that share of the run
    on. Both are timed, by taking the first and the last step of an endless run. What the measuring itself and the
    validations take, each a `look` at the model, is subtracted.
    """
    began = clock()
    model = family.build(dataclasses.replace(values, steps=ENDLESS), seed=0).to(device).train()
    if isinstance(model, Prepares):
        model.prepare(bank, fresh=True)
    optimiser = Optimiser(model, steps=ENDLESS)
    first = float(getattr(values, "adversary_from", 1.0))
    step_s = 0.0
    for share, step in ((first, 0), (1 - first, ENDLESS - 1)):
        if share > 0:
            step_s += share * _step_s(model, bank, optimiser, step, clock, at_least_s=min(3.0, 0.02 * budget_s))
    validation_began = clock()
    look(model, bank)
    validation_s = clock() - validation_began
    left_s = budget_s - (clock() - began)
    together = model.batch_spec.size * processes
    times = validations(len(held_out(bank, most=model.validation_clips)), steps=int(left_s / step_s), together=together)
    return max(1, int(PLANNED * (left_s - times * validation_s) / step_s))


def validations(clips: int, *, steps: int, together: int) -> int:
    """How often a run of `steps`, each on `together` sounds, validates on `clips` sounds: within about a tenth of its
    time, at least once, and `VALIDATIONS` times at most.

    Counted in sounds and not in seconds, so that a run and its repetition validate at the same steps: a validation
    goes forward only, a third of what its sounds would cost in training, over sounds held out and as many seen.
    """
    return max(1, min(VALIDATIONS, 3 * steps * together // (20 * clips)))


def _step_s(
    model: AbstractModel,
    bank: SoundBank,
    optimiser: Optimiser,
    step: int,
    clock: Callable[[], float],
    *,
    at_least_s: float,
) -> float:
    """The median time of a step. The first is not counted: it compiles kernels and fills caches."""
    device, took = next(model.parameters()).device, list[float]()
    while len(took) < 3 or (sum(took[1:]) < at_least_s and len(took) < 100):
        began = clock()
        generator = keyed_generator("measuring", step, len(took))
        batch = bank.draw(model.batch_spec, split="train", generator=generator).to(device)
        model.train_step(batch, step=step, generator=generator, update=optimiser)
        optimiser.end_step()
        took.append(clock() - began)
    return statistics.median(took[1:])


def held_out(bank: SoundBank, *, most: int = AbstractModel.validation_clips) -> list[int]:
    """Up to `most` held-out clips, spread evenly; of a bank too small to hold any out, those trained on."""
    clips = bank.clips("validation")
    return spread_evenly(clips if len(clips) else bank.clips("train"), most)


def judged_on(bank: SoundBank) -> str:
    """What scores are measured on, in words."""
    if len(bank.clips("validation")):
        return "held-out sounds"
    return "the very sounds it was trained on, as the bank has too few to hold any out"


@torch.no_grad()
def validate(
    model: AbstractModel, bank: SoundBank, *, seed: int, clips: Sequence[int] | None = None
) -> dict[str, float]:
    """Mean losses on held-out sounds, or on `clips`; always the same sounds and the same randomness."""
    device, spec = next(model.parameters()).device, model.batch_spec
    means, clips = Means({}), held_out(bank, most=model.validation_clips) if clips is None else clips
    model.eval()
    for i in range(0, len(clips), spec.size):
        batch = bank.take(spec, clips[i : i + spec.size]).to(device)
        losses = model.validate(batch, generator=keyed_generator(seed, "validation", i))
        means.add(losses, weight=len(batch.audio))
    model.train()
    return means.take()
