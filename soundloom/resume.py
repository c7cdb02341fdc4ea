"""What a run is continued from: `resume.safetensors`, and `resume.json` for whoever wants to read where it stands."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soundloom.checkpoint import fill, read_tensors, write_tensors, write_text
from soundloom.config import from_dict, to_dict
from soundloom.errors import TrainingError
from soundloom.models.base import AbstractModel
from soundloom.optimise import Optimiser

FORMAT = 1


@dataclass(frozen=True)
class State:
    """Where a run stands after `step` steps. `best` is the lowest validation score so far, of `best_step`;
    None before the first.

    `run` are the settings that make the run what it is (family, settings, seed, budget, data): the same command
    resumes it, another one is refused. `means` are the losses since the last line of the log, as [sum, count].
    `finished` says why it ended, and is empty while it has not.
    """

    family: str
    config: dict[str, Any]
    run: dict[str, Any]
    step: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    best: float | None = None
    best_step: int = 0
    means: dict[str, list[float]] = field(default_factory=dict)
    finished: str = ""


def save(folder: Path, state: State, model: AbstractModel, optimiser: Optimiser) -> None:
    """Both files. The first alone decides: tensors and facts in one file, replaced in one step, cannot disagree."""
    tensors = {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    tensors |= optimiser.state()
    text = json.dumps({"format": FORMAT, **to_dict(state)})
    write_tensors(folder / "resume.safetensors", tensors, {"soundloom": text})
    write_text(folder / "resume.json", json.dumps({"format": FORMAT, **to_dict(state)}, indent=2) + "\n")


def read(folder: Path) -> State | None:
    """Where the run in a folder stands; None where none has begun."""
    path = folder / "resume.safetensors"
    if not path.exists():
        return None
    _, metadata = read_tensors(path, only_metadata=True)
    values = json.loads(metadata.get("soundloom", "{}"))
    if values.pop("format", None) != FORMAT:
        raise TrainingError(f"{path} is from another version of Soundloom: finish the run with that one, or choose -o")
    return from_dict(State, values, where=str(path))


def restore(folder: Path, model: AbstractModel, optimiser: Optimiser, *, step: int) -> None:
    """The weights and everything else that moves, as they were saved."""
    path = folder / "resume.safetensors"
    tensors, _ = read_tensors(path)
    own: dict[str, Tensor] = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    fill(model, own, where=str(path))
    optimiser.restore(tensors, step=step)


def refuse_other_run(state: State, run: Mapping[str, Any], folder: Path) -> None:
    """A run goes on as it began: a command that asks for something else in its folder is refused."""
    for key, value in run.items():
        if state.run.get(key) != value:
            raise TrainingError(
                f"{folder} holds a run with {key} {_shown(state.run.get(key))}, this one has {_shown(value)}: "
                "the same command resumes it; for another run choose another folder with -o"
            )


def _shown(value: Any) -> str:
    return "none" if value in (None, [], "") else " ".join(value) if isinstance(value, list) else str(value)


def keyed_generator(*key: int | str) -> torch.Generator:
    """A generator that depends on nothing but its key: step 1000 draws the same whether or not the run was resumed.

    It lives on the CPU, so that every device is dealt the same random numbers.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
