"""Every drum recipe with its label and share, and the drums of many made-up machines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from training import drums, grains, metal
from training.clips import Clip, Facts, Sound, clip
from training.pieces import chance
from training.production import Chain, machine, produced

MACHINES = 40  # made-up machines a recipe: a chain of production each, kept together when the set is split


@dataclass(frozen=True)
class Recipe:
    """A way to make a drum. `share` is its part of its label; no machine cuts it before `least_s`."""

    label: str
    make: Callable[[np.random.Generator], Sound]
    share: float
    least_s: float = 0.06

    @property
    def name(self) -> str:
        return self.make.__name__


RECIPES = (
    Recipe("kick", drums.kick_bridged, 0.22, 0.1),
    Recipe("kick", drums.kick_swept, 0.2, 0.1),
    Recipe("kick", drums.kick_preset, 0.18),
    Recipe("kick", drums.kick_skin, 0.3, 0.08),
    Recipe("kick", drums.kick_home, 0.1),
    Recipe("snare", drums.snare_analogue, 0.22, 0.08),
    Recipe("snare", drums.snare_swept, 0.13, 0.08),
    Recipe("snare", drums.snare_preset, 0.15),
    Recipe("snare", drums.snare_skin, 0.32, 0.08),
    Recipe("snare", drums.snare_gated, 0.12, 0.1),
    Recipe("snare", drums.snare_brush, 0.06, 0.08),
    Recipe("rim", drums.rim_rung, 0.3),
    Recipe("rim", drums.rim_ping, 0.15),
    Recipe("rim", drums.rim_stick, 0.4),
    Recipe("rim", drums.rim_dry, 0.15),
    Recipe("clap", drums.clap_analogue, 0.45, 0.1),
    Recipe("clap", drums.clap_hands, 0.4, 0.1),
    Recipe("clap", drums.clap_single, 0.15, 0.08),
    Recipe("closed hat", metal.closed_squares, 0.28),
    Recipe("closed hat", metal.closed_noise, 0.3),
    Recipe("closed hat", metal.closed_plates, 0.32),
    Recipe("closed hat", metal.closed_ring, 0.1),
    Recipe("open hat", metal.open_squares, 0.3, 0.25),
    Recipe("open hat", metal.open_noise, 0.3, 0.25),
    Recipe("open hat", metal.open_plates, 0.4, 0.25),
    Recipe("tom", drums.tom_bridged, 0.3, 0.15),
    Recipe("tom", drums.tom_swept, 0.25, 0.15),
    Recipe("tom", drums.tom_skin, 0.35, 0.15),
    Recipe("tom", drums.tom_home, 0.1, 0.12),
    Recipe("cymbal", metal.crash_plates, 0.35, 0.5),
    Recipe("cymbal", metal.ride_plates, 0.3, 0.4),
    Recipe("cymbal", metal.cymbal_squares, 0.2, 0.5),
    Recipe("cymbal", metal.cymbal_noise, 0.15, 0.6),
    Recipe("cowbell", metal.cowbell_squares, 0.3),
    Recipe("cowbell", metal.cowbell_struck, 0.2),
    Recipe("cowbell", metal.agogo, 0.1),
    Recipe("cowbell", metal.clave, 0.25),
    Recipe("cowbell", metal.woodblock, 0.15),
    Recipe("hand drum", drums.hand_tone, 0.35),
    Recipe("hand drum", drums.hand_analogue, 0.28),
    Recipe("hand drum", drums.hand_slap, 0.2),
    Recipe("hand drum", drums.hand_loaded, 0.17, 0.1),
    Recipe("shaker", grains.maracas, 0.28),
    Recipe("shaker", grains.shaker, 0.22),
    Recipe("shaker", grains.cabasa, 0.16),
    Recipe("shaker", grains.tambourine, 0.18, 0.08),
    Recipe("shaker", grains.tambourine_analogue, 0.08, 0.08),
    Recipe("shaker", grains.guiro, 0.08),
)
UNDECIDED = frozenset({"tom", "cowbell", "hand drum"})  # may have a pitch or not: do not care


def drum(recipe: Recipe, *, number: int, seed: int) -> Clip | None:
    """Drum `number` of a recipe: the same for the same seed, whatever was made before."""
    place = RECIPES.index(recipe)
    which = number % MACHINES
    chain = machine(np.random.default_rng([seed, 1, place, which]))
    rng = np.random.default_rng([seed, 2, place, number])
    if chance(rng, 0.125):  # untouched
        chain = Chain()
    sound = produced(recipe.make(rng), kept(chain, recipe.label, least_s=recipe.least_s), rng)
    facts = Facts(recipe.label, "drums", f"{recipe.name}/{which}", tonal=-1 if recipe.label in UNDECIDED else 0)
    return clip(sound, facts, lead=int(rng.integers(0, 60)))


def drums_of(recipe: Recipe, *, numbers: range, seed: int) -> Iterator[Clip]:
    for number in numbers:
        made = drum(recipe, number=number, seed=seed)
        if made is not None:
            yield made


def counts(total: int) -> dict[Recipe, int]:
    """How many of each recipe, so that every label has the same number of about `total` clips."""
    each = total / len({recipe.label for recipe in RECIPES})
    return {recipe: round(each * recipe.share) for recipe in RECIPES}


def kept(chain: Chain, label: str, *, least_s: float) -> Chain:
    """The chain without what would make another drum of this one: a hat keeps its highs, a kick its lows, a tail."""
    cuts = {"closed hat": 5000, "open hat": 5000, "shaker": 5000, "cymbal": 4500}
    return replace(
        chain,
        gate_s=None if chain.gate_s is None else max(chain.gate_s, least_s),
        high_cut_hz=chain.high_cut_hz and max(chain.high_cut_hz, cuts.get(label, 0)),
        held_hz=chain.held_hz and max(chain.held_hz, 2 * cuts.get(label, 0)),
        low_cut_hz=chain.low_cut_hz and min(chain.low_cut_hz, 45 if label == "kick" else 200),
    )
