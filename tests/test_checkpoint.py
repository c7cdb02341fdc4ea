"""A model folder survives the way to someone else, and one that does not is refused with a sentence."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from soundloom import checkpoint
from soundloom.errors import ConfigError, ModelError, SoundloomError, StorageError

FILES = ["config.json", "model.safetensors", "card.md", "snapshot.npz"]


def card(**changes):
    facts = {"data": "my sounds", "data_hash": "abc", "sounds": 3, "licence": "CC0", "seed": 7}
    return checkpoint.Card(**{**facts, **changes})


@pytest.fixture(scope="module")
def model():
    return tiny.Tiny.build(tiny.TinyConfig(width=16), seed=3).eval()


@pytest.fixture
def folder(model, tmp_path):
    checkpoint.save(model, tmp_path / "model", card=card())
    return tmp_path / "model"


def play(model, seed=1):
    with torch.no_grad():
        return model.sample(2, seconds=0.2, condition=None, generator=torch.Generator().manual_seed(seed))


def test_a_loaded_model_sounds_the_same_bit_for_bit(model, folder):
    loaded = checkpoint.load(folder, device="cpu")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(play(loaded), play(model))
    assert checkpoint.verify(loaded, folder) == -np.inf


def test_the_snapshot_is_what_the_model_makes(model, folder):
    kept = np.load(folder / "snapshot.npz")
    example = torch.from_numpy(kept["example"])
    assert example.shape == (1, 1, model.config.sample_rate // 2)
    with torch.no_grad():
        made = model.decode(model.encode(example))
    assert np.array_equal(kept["reconstruction"], made.numpy())
    new = play(model, seed=0)[:1]
    assert kept["sample"].shape[0] == 1
    assert np.isfinite(kept["sample"]).all()
    assert new.abs().max() > 0


def test_loading_needs_neither_bank_nor_training_code(folder):
    code = (
        "import sys, tiny; from soundloom import checkpoint; checkpoint.load(sys.argv[1], device='cpu');"
        "print([m for m in ('train', 'optimise', 'resume', 'preview', 'runlog') if 'soundloom.' + m in sys.modules])"
    )
    path = {"PYTHONPATH": str(Path(tiny.__file__).parent)}
    shown = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, env=os.environ | path
    )
    assert shown.stdout.strip() == "[]"


def test_the_card_tells_what_a_person_asks(model, tmp_path):
    facts = card(data="kick|snare\n# <script>", settings={"width": 16}, figures={"score": 0.12345678})
    checkpoint.save(model, tmp_path, card=facts)
    text = (tmp_path / "card.md").read_text()
    assert "| sounds | 3 in kick\\|snare # &lt;script> |" in text  # one cell, whatever the folder is called
    for row in ("| data hash | abc |", "| licence of the sounds | CC0 |", "| seed | 7 |", "| score | 0.1235 |"):
        assert row in text
    assert "| width | 16 |" in text


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        checkpoint.load(folder, device="cpu")


def test_a_missing_folder_or_snapshot_is_named(model, folder):
    with pytest.raises(ModelError, match="there is no model folder"):
        checkpoint.load(folder / "elsewhere", device="cpu")
    (folder / "snapshot.npz").unlink()
    with pytest.raises(ModelError, match=r"snapshot\.npz is missing"):
        checkpoint.verify(model, folder)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "snapshot.npz"])
def test_a_truncated_file_is_refused(folder, name, part):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: min(int(len(data) * part), len(data) - 2)])
    with pytest.raises(SoundloomError, match=name) as refused:
        checkpoint.verify(checkpoint.load(folder, device="cpu"), folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "snapshot.npz"])
@pytest.mark.parametrize("content", [b"RIFF\x24\x00\x00\x00WAVEfmt ", b"\xff" * 4096, b"[1, 2]", b"{}", b"null"])
def test_a_foreign_file_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(SoundloomError, match=name):
        checkpoint.verify(checkpoint.load(folder, device="cpu"), folder)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_opening_a_strangers_model_runs_no_code(folder, tmp_path, model):
    marker = tmp_path / "ran"
    shutil.copytree(folder, tmp_path / "second")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.load(folder, device="cpu")
    objects = np.array([Bomb(marker)], dtype=object)
    np.savez(tmp_path / "second/snapshot.npz", weights=objects, example=objects)
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.verify(model, tmp_path / "second")
    assert not marker.exists()


def test_no_file_of_the_package_pickles():
    for path in Path(checkpoint.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {"pickle", "joblib", "dill", "shelve"} & {a.name for a in node.names}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                assert node.attr not in ("load", "save"), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path


def change(folder, **changes):
    path = folder / "config.json"
    head = json.loads(path.read_text())
    head.update({key: value for key, value in changes.items() if key != "config"})
    head["config"].update(changes.get("config", {}))
    path.write_text(json.dumps(head))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"config": {"widht": 3}}, ConfigError, "widht.*did you mean width"),
        ({"config": {"width": "wide"}}, ConfigError, "width is 'wide'"),
        ({"famly": "tiny"}, ConfigError, "famly.*did you mean family"),
        ({"family": "tinny"}, ConfigError, "tinny.*did you mean tiny"),
        ({"format": 99, "soundloom": "9.9"}, ModelError, r"99.*9\.9"),
        ({"config": {"width": 17}}, ModelError, r"is \[16\], its config wants \[17\]"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, changes, error, words):
    change(folder, **changes)
    with pytest.raises(error, match=words):
        checkpoint.load(folder, device="cpu")


def test_weights_that_do_not_fit_are_refused(folder):
    weights, metadata = checkpoint.read_tensors(folder / "model.safetensors")
    left = dict(list(weights.items())[1:])
    checkpoint.write_tensors(folder / "model.safetensors", left, metadata)
    with pytest.raises(ModelError, match="lacks 1 tensor"):
        checkpoint.load(folder, device="cpu")
    checkpoint.write_tensors(
        folder / "model.safetensors", {**weights, "decoder.0.wieght": weights["decoder.0.weight"] + 1}, {}
    )
    with pytest.raises(ModelError, match=r"decoder\.0\.wieght.*did you mean decoder\.0\.weight"):
        checkpoint.load(folder, device="cpu")


def test_changed_weights_are_heard(folder):
    """The difference to the snapshot is measured: 1 % off in the weights is some -40 dB, 20 % is refused."""
    loaded = checkpoint.load(folder, device="cpu")
    noise = torch.Generator().manual_seed(0)
    kept = {name: value.clone() for name, value in loaded.state_dict().items()}

    def off_by(part):
        loaded.load_state_dict({k: v * (1 + part * torch.randn(v.shape, generator=noise)) for k, v in kept.items()})
        return loaded

    assert -55 < checkpoint.verify(off_by(0.01), folder) < -30
    with pytest.raises(ModelError, match="no longer gives the sound"):
        checkpoint.verify(off_by(0.2), folder)


def test_a_save_that_was_cut_short_is_told_from_damage(model, folder):
    """Snapshot new, weights old: what a kill between the two leaves."""
    other = tiny.Tiny.build(tiny.TinyConfig(width=16), seed=4)
    old = (folder / "model.safetensors").read_bytes()
    checkpoint.save(other, folder, card=card())
    (folder / "model.safetensors").write_bytes(old)
    loaded = checkpoint.load(folder, device="cpu")  # the weights themselves are whole
    assert torch.equal(play(loaded), play(model))
    with pytest.raises(ModelError, match="cut short"):
        checkpoint.verify(loaded, folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_disk(tmp_path):
    with tiny.small_disk(tmp_path / "disk", 256) as disk:
        yield disk


def test_a_full_disk_keeps_the_old_model(model, small_disk):
    folder = small_disk / "model"
    checkpoint.save(model, folder, card=card())
    before = contents(folder)
    other = tiny.Tiny.build(tiny.TinyConfig(width=2000), seed=4)  # 1 MB
    with pytest.raises(StorageError, match="No space left on device"):
        checkpoint.write_tensors(folder / "model.safetensors", other.state_dict(), {})
    assert contents(folder) == before
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(bytes(300_000))
    with pytest.raises(StorageError):
        checkpoint.save(model, folder, card=card())
    assert contents(folder) == before
    assert torch.equal(play(checkpoint.load(folder, device="cpu")), play(model))


def test_a_file_size_limit_keeps_the_old_model(model, folder):
    """The same fault where no disk can be mounted: the system refuses to let a file grow."""
    code = (
        "import resource, sys, tiny\n"
        "from soundloom import checkpoint, errors\n"
        "model = tiny.Tiny.build(tiny.TinyConfig(width=2000), seed=4)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: checkpoint.write_tensors(__import__('pathlib').Path(sys.argv[1]), model.state_dict(), {})\n"
        "except errors.StorageError as error: print(error)\n"
    )
    before = contents(folder)
    shown = run_python(code, str(folder / "model.safetensors"))
    assert "File too large" in shown
    assert contents(folder) == before


def test_a_read_only_folder_is_refused(model, folder):
    before = contents(folder)
    os.chmod(folder, 0o555)
    with tiny.ordinary_user(folder), pytest.raises(StorageError, match=r"cannot write into.*another folder"):
        checkpoint.save(model, folder, card=card())
    assert contents(folder) == before


def test_other_users_may_read_a_model(folder):
    assert {oct(path.stat().st_mode & 0o044) for path in folder.iterdir()} == {"0o44"}


def run_python(code, *arguments):
    path = {"PYTHONPATH": str(Path(tiny.__file__).parent)}
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ | path
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout
