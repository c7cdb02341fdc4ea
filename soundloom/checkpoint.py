"""A model folder: `config.json`, `model.safetensors`, `card.md`, `snapshot.npz`. No pickle: opening it is safe."""

import hashlib
import importlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

import soundloom
from soundloom.bank import Batch
from soundloom.condition import Condition
from soundloom.config import did_you_mean, from_dict, to_dict
from soundloom.errors import ConfigError, ModelError
from soundloom.models.base import AbstractModel, Classifies, Codes, Samples
from soundloom.paths import make_folder, replacing
from soundloom.runtime import pick_device

FORMAT = 1
FAMILIES = {
    "codec": "soundloom.models.codec:Codec",
    "gan": "soundloom.models.gan:GAN",
    "vae": "soundloom.models.vae:VAE",
    "flow": "soundloom.models.flow:Flow",
    "rnn": "soundloom.models.rnn:RNN",
    "ddsp": "soundloom.models.ddsp:DDSP",
    "subband": "soundloom.models.subband:SubbandRNN",
    "wavenet": "soundloom.models.wavenet:WaveNet",
    "classifier": "soundloom.models.classifier:Classifier",
}
SNAPSHOT_SECONDS = 0.5


@dataclass(frozen=True)
class Card:
    """What a person wants to know of a model before using it; written as `card.md`."""

    data: str  # the name of the folder of sounds
    data_hash: str
    sounds: int
    licence: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float | str] = field(default_factory=dict)

    def markdown(self, family: str) -> str:
        rows: list[tuple[str, object]] = [
            ("sounds", f"{self.sounds} in {self.data}"),
            ("data hash", self.data_hash),
            ("licence of the sounds", self.licence),
            ("seed", self.seed),
            ("made with", f"Soundloom {soundloom.__version__}"),
        ]
        figures: list[tuple[str, object]] = [
            (name, f"{x:.4g}" if isinstance(x, float) else x) for name, x in self.figures.items()
        ]
        tables = [("", rows), ("## Figures", figures), ("## Settings", list(self.settings.items()))]
        lines = [f"# A {family} made with Soundloom"]
        for title, table in tables:
            lines += [*([title] if title else []), "", "| | |", "|---|---|"]
            lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in table] + [""]
        return "\n".join(lines)


def _cell(value: object) -> str:
    """Text that cannot break out of its table cell, whatever a folder is called."""
    return " ".join(str(value).replace("|", "\\|").replace("<", "&lt;").split())


def family(name: str) -> type[AbstractModel]:
    """The class of a model family, by its name; an unknown name is refused with `ConfigError`."""
    if name not in FAMILIES:
        raise ConfigError(f"there is no family '{name}': {did_you_mean(name, FAMILIES)}")
    module, _, attribute = FAMILIES[name].partition(":")
    return cast(type[AbstractModel], getattr(importlib.import_module(module), attribute))


def save(model: AbstractModel, folder: Path | str, *, card: Card) -> None:
    """Writes a model folder. Each file is replaced in one step; the weights come last and name their snapshot."""
    folder = make_folder(folder)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    config = {
        "format": FORMAT,
        "soundloom": soundloom.__version__,
        "family": model.family,
        "config": to_dict(model.config),
    }
    arrays = {name: tensor.cpu().numpy() for name, tensor in _play(model, _example(model)).items()}
    key = fingerprint(weights)
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "card.md", card.markdown(model.family))
    with replacing(folder / "snapshot.npz") as path, open(path, "wb") as file:
        np.savez(file, allow_pickle=False, weights=np.array(key), **arrays)
    write_tensors(folder / "model.safetensors", weights, {"fingerprint": key})


def load(folder: Path | str, *, device: str | torch.device | None = None) -> AbstractModel:
    """A model from its folder, ready to be used; neither the bank nor the run it came from is needed.

    `device` None takes the best there is. Raises `ModelError` for what is missing, damaged, foreign or of another
    version, and `ConfigError` for unknown keys in the config.
    """
    folder = Path(folder)
    device = device if isinstance(device, torch.device) else pick_device(device)
    name, values = read_config(folder)
    cls = family(name)
    config: Any = from_dict(cls.Config, values, where=str(folder / "config.json"))
    weights, _ = read_tensors(folder / "model.safetensors")
    model = cls.build(config, seed=0)
    fill(model, weights, where=str(folder / "model.safetensors"))
    return model.to(device).eval()


def verify(model: AbstractModel, folder: Path | str, *, allowed_db: float = -30.0) -> float:
    """Plays the snapshot of a model folder again; returns how loud the difference is, in dB under the kept sound.

    On the same machine the difference is nothing (-inf dB); another processor or a GPU in 16-bit arithmetic is
    some -40 dB off. Louder than `allowed_db` is refused: then the weights, or the code, are not what they were.
    """
    path = Path(folder) / "snapshot.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
        key = str(kept.pop("weights"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: the model cannot be verified; copy its whole folder") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is damaged ({_first_line(error)}); copy the model folder again") from None
    _, metadata = read_tensors(Path(folder) / "model.safetensors", only_metadata=True)
    if metadata.get("fingerprint") != key:
        raise ModelError(
            f"{path} is of other weights than model.safetensors, as when a save is cut short; "
            "run the same soundloom train again, which mends it, or copy the folder again"
        )
    heard = _play(model, torch.from_numpy(kept["example"]))
    worst = -np.inf
    for name, expected in kept.items():
        actual = heard[name].cpu().numpy() if name in heard else np.empty(0)
        if actual.shape != expected.shape:
            raise ModelError(f"the model gives {name} as {actual.shape}, its snapshot as {expected.shape}")
        difference, level = np.sqrt(np.mean((actual - expected) ** 2.0)), np.sqrt(np.mean(expected**2.0))
        with np.errstate(divide="ignore"):
            worst = max(worst, float(20 * np.log10(difference / max(level, 1e-5))))
    if not worst <= allowed_db:
        raise ModelError(
            f"the model no longer gives the sound in {path}: the difference is {worst:.1f} dB, {allowed_db:g} dB is "
            "allowed; the weights are damaged, or made by another version of Soundloom"
        )
    return worst


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The family's name and its config values from `config.json`, checked for version and unknown keys."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}: soundloom train makes one")
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no model folder: config.json is missing; give the folder train wrote") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({_first_line(error)}); copy the model folder again") from None
    known = ("format", "soundloom", "family", "config")
    if not isinstance(head, dict) or "format" not in head or not isinstance(head.get("family"), str):
        raise ModelError(f"{path} is not Soundloom's: it names no family; give the folder train wrote")
    if head["format"] != FORMAT:
        raise ModelError(
            f"{path} has format {head['format']!r}, this Soundloom reads {FORMAT}: "
            f"use the version that wrote it ({head.get('soundloom', 'unknown')})"
        )
    for key in head:
        if key not in known:
            raise ConfigError(f"{path} has an unknown key '{key}': {did_you_mean(key, known)}")
    if not isinstance(head.get("config"), dict):
        raise ModelError(f"{path} holds no config; copy the model folder again")
    return head["family"], head["config"]


def fill(model: AbstractModel, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copies weights into a model; names or shapes that do not fit are refused with `ModelError`."""
    own = model.state_dict()
    for name, tensor in weights.items():
        if name not in own:
            raise ModelError(f"{where} holds '{name}', which its config does not build: {did_you_mean(name, own)}")
        if tensor.shape != own[name].shape:
            raise ModelError(f"{where}: '{name}' is {list(tensor.shape)}, its config wants {list(own[name].shape)}")
    missing = sorted(own.keys() - weights.keys())
    if missing:
        raise ModelError(f"{where} lacks {len(missing)} tensors, '{missing[0]}' among them; copy the folder again")
    model.load_state_dict(dict(weights))


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A short hash of the values of tensors, by which a snapshot knows its weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def read_tensors(path: Path, *, only_metadata: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; missing or damaged is refused with `ModelError`."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {} if only_metadata else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; copy the whole model folder, or train again") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({_first_line(error)}); copy the model folder again") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file in place of `path`, in one step; a full disk is a `StorageError` and leaves the old file."""
    # through memory: safetensors' own file writing leaves files that nobody else may read
    data = serialise({name: tensor.cpu() for name, tensor in tensors.items()}, dict(metadata))
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _example(model: AbstractModel) -> Tensor:
    """[1, C, T]: a plucked tone of 220 Hz with a noisy onset. Made here, so that a model folder carries no sound of
    the user's."""
    time = torch.arange(int(SNAPSHOT_SECONDS * model.config.sample_rate)) / model.config.sample_rate
    tone = sum(torch.sin(2 * torch.pi * 220 * k * time) * torch.exp(-3 * k * time) / k for k in range(1, 9))
    noise = torch.rand(len(time), generator=torch.Generator().manual_seed(0)) * 2 - 1
    sound = 0.25 * tone + 0.1 * noise * torch.exp(-60 * time)
    return sound.expand(1, model.config.channels, -1).contiguous()


@torch.no_grad()
def _play(model: AbstractModel, example: Tensor) -> dict[str, Tensor]:
    """The example and what the model makes of it, or from nothing, in `SNAPSHOT_SECONDS`."""
    trained, device = model.training, next(model.parameters()).device
    model.eval()
    sounds = {"example": example}
    if isinstance(model, Codes):
        sounds["reconstruction"] = model.decode(model.encode(example.to(device)), seed=0)
    if isinstance(model, Samples) and not model.chaotic:
        generator = torch.Generator().manual_seed(0)
        sample = model.sample(1, seconds=None, condition=None, generator=generator)
        sounds["sample"] = sample[..., : example.shape[-1]]
    if model.chaotic:  # another processor may draw another sound, but it is as surprised by a given one
        sounds["score"] = torch.tensor([_score(model, example.to(device))])
    if isinstance(model, Classifies):
        opinion = model.classify(example[:, 0].to(device))
        sounds["opinion"] = torch.cat([opinion.logits, opinion.embedding], 1)
    model.train(trained)
    return {name: sound.float().contiguous() for name, sound in sounds.items()}


def _score(model: AbstractModel, example: Tensor) -> float:
    """What validation makes of the example, repeated up to the length of a training crop."""
    spec = model.batch_spec
    audio = example.repeat(1, 1, -(-spec.samples // example.shape[-1]))[..., : spec.samples]
    nothing = audio.new_zeros(1, 1, spec.frames)
    one = torch.zeros(1, dtype=torch.int64, device=audio.device)
    batch = Batch(
        audio=audio,
        lengths=one + spec.samples,
        f0_hz=nothing,
        voiced=nothing,
        inharmonicity=audio.new_zeros(1),
        condition=Condition.of(1).to(audio.device),
        clips=one,
    )
    return model.validate(batch, generator=torch.Generator().manual_seed(0))["score"]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
