"""Asking in words and descriptors, and making sounds out of sounds, as a person does it on the command line."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import soundloom as sl
from soundloom import cli, factory
from soundloom.condition import DESCRIPTORS, GRAMS, MOST_GRAMS, UNKNOWN, Condition, Manner, grams
from soundloom.errors import ConditionError, ConfigError
from soundloom.run import Run

SMALL_CODEC = ["latent=8", "width=32", "encoder_blocks=1", "decoder_blocks=1", "partials=16", "batch=2"]
SMALL = ["batch=4", "seconds=0.5"]


def run(*arguments: object) -> int:
    return cli.run([*map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bank of 61 sounds; a codec, a flow on it, a GAN and a VAE, each after two steps."""
    root = tmp_path_factory.mktemp("shaping")
    factory.make(root / "all", seed=0)
    (root / "sounds").mkdir()
    for path in sorted((root / "all").glob("*.wav"))[::5]:
        path.rename(root / "sounds" / path.name)
    assert run("scan", root / "sounds", "-o", root / "bank", "-q") == 0
    settings = {
        "codec": SMALL_CODEC,
        "flow": [*SMALL, f"codec={root / 'codec'}", "width=32", "blocks=1", "heads=2"],
        "gan": [*SMALL, "width=32", "blocks=1", "judge_channels=4"],
        "vae": [*SMALL, "width=32", "decoder_blocks=1"],
    }
    for family, chosen in settings.items():
        flags = [flag for setting in chosen for flag in ("--set", setting)]
        assert run("train", root / "bank", "--family", family, "--steps", 2, "-o", root / family, "-q", *flags) == 0
    return root


@pytest.fixture
def sound(folder) -> Path:
    return sorted((folder / "sounds").glob("*.wav"))[0]


def refusal(capsys, *arguments: object) -> str:
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# --- asking -----------------------------------------------------------------------------------------------------------


def test_everything_may_be_asked_at_once(folder, tmp_path, capsys):
    asked = ["--label", "kick", "--pitch", "A1", "--velocity", 0.9, "--brightness", 0.8, "--noisiness", 0.1]
    asked += ["--attack", 0, "--decay", 1, "--loudness", 0.5, "--text", "short dark click", "--seconds", 0.2]
    drawing = ["--guidance", 2, "--solver", "heun", "--solver-steps", 4, "--best-of", 2, "--temperature", 0.9]
    assert run("sample", folder / "flow", "-n", 2, "-o", tmp_path, "--json", *asked, *drawing) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["asked"]["brightness"] == 0.8
    assert document["asked"]["text"] == "short dark click"
    assert document["asked"]["guidance"] == 2
    assert [sl.read(tmp_path / f"{i:03d}.wav").seconds for i in range(2)] == [0.2, 0.2]


@pytest.mark.parametrize(
    ("family", "flags", "words"),
    [
        ("vae", ["--text", "dark"], "a vae is not told of text: train a gan or flow"),
        ("vae", ["--brightness", 0.5], "not told of descriptors"),
        ("vae", ["--guidance", 2], "a vae knows no guidance: a flow does"),
        ("gan", ["--best-of", 4], "a gan knows no best of: a flow does"),
        ("flow", ["--label", "kik"], "did you mean kick?"),
        ("flow", ["--brightness", 1.5], "brightness is 1.5: it goes from 0"),
        ("flow", ["--guidance", 99], "guidance is 99: it goes from 0 to 10"),
        ("flow", ["--temperature", -1], "temperature is -1: it goes from 0 to 2"),
        ("flow", ["--solver", "eulr"], "did you mean euler?"),
        ("flow", ["--seconds", 20], "up to 0.5 s"),
        ("gan", ["--seconds", 20], "up to 0.5 s"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(folder, tmp_path, capsys, family, flags, words):
    assert words in refusal(capsys, "sample", folder / family, "-n", 1, "-o", tmp_path, *flags)


def test_a_pitch_far_outside_is_made_and_told_with_the_range(folder, tmp_path, capsys):
    assert run("sample", folder / "flow", "-n", 1, "--pitch", 127, "-o", tmp_path) == 0
    said = "".join(capsys.readouterr())
    assert "is far from the pitches this model has heard" in said
    assert " to " in said
    with pytest.warns(UserWarning, match="far from the pitches"):
        Run.load(folder / "gan").sample(1, pitch=127)


def test_a_condition_is_checked_and_hashed_the_same_everywhere():
    with pytest.raises(ConditionError, match="did you mean brightness"):
        Condition.of(1, descriptors={"brightnes": 0.5})
    with pytest.raises(ConditionError, match="velocity is 2"):
        Condition.of(1, velocity=2.0)
    with pytest.raises(ConditionError, match="best_of"):
        Manner(best_of=0)
    assert grams("kick").tolist()[:3] == [zlib.crc32(gram) % GRAMS for gram in (b"kick", b"<ki", b"kic")]
    assert (grams("a" * 3000) != UNKNOWN).sum() <= MOST_GRAMS
    assert (grams("") == UNKNOWN).all()


def test_what_is_left_out_in_training_leaves_every_kind_of_subset():
    n, labels = 4000, ("a", "b")
    everything = Condition.of(n, labels, pitch=60, label="b", velocity=0.5, text="dark kick",
                              descriptors=dict.fromkeys(DESCRIPTORS, 0.5))  # fmt: skip
    left = everything.dropped(0.12, generator=torch.Generator().manual_seed(0))
    label, pitch = left.label != UNKNOWN, torch.isfinite(left.pitch)
    others = torch.isfinite(left.descriptors).sum(1) + torch.isfinite(left.velocity) + (left.text[:, 0] != UNKNOWN)
    shares = {
        "nothing": ~label & ~pitch & (others == 0),
        "label alone": label & ~pitch & (others == 0),
        "label and pitch": label & pitch & (others == 0),
        "everything": label & pitch & (others == 7),
        "some": (others > 0) & (others < 7),
    }
    found = {name: float(share.float().mean()) for name, share in shares.items()}
    assert 0.12 < found["nothing"] < 0.25
    assert all(share > 0.03 for share in found.values()), found


# --- shaping ----------------------------------------------------------------------------------------------------------


def test_vary_leaves_variations_and_the_sound_again(folder, sound, tmp_path, capsys):
    assert run("vary", folder / "flow", sound, "-n", 3, "--strength", 0.3, "-o", tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in document["files"]] == ["00.wav", "01.wav", "02.wav"]
    assert document["error_db"] < 6  # of a flow after two steps, whose way is nearly straight
    assert sl.read(tmp_path / "again.wav").seconds > 0.1


def test_fill_leaves_one_file_and_continue_and_transfer_say_who_can(folder, sound, tmp_path, capsys):
    assert run("fill", folder / "flow", sound, "--start", 0.05, "--end", 0.1, "-o", tmp_path / "mended.wav", "-q") == 0
    assert np.isfinite(sl.read(tmp_path / "mended.wav").samples).all()
    out = ("-o", tmp_path / "x.wav")
    assert "train a rnn" in refusal(capsys, "continue", folder / "flow", sound, *out)
    assert "train a ddsp" in refusal(capsys, "transfer", folder / "flow", sound, *out)
    assert "train a flow" in refusal(capsys, "vary", folder / "vae", sound, "-o", tmp_path)
    assert "no meaning here" in refusal(capsys, "vary", folder / "flow", sound, "--guidance", 2, "-o", tmp_path)
    assert "the start comes before" in refusal(capsys, "fill", folder / "flow", sound, "--start", 2, "--end", 1, *out)


def test_strength_and_silence_are_refused(folder, tmp_path):
    flow = Run.load(folder / "flow")
    tone = sl.Waveform(np.sin(np.arange(22050) / 20)[None].astype(np.float32), 44100)
    with pytest.raises(ConfigError, match="strength is 2"):
        flow.vary(tone, strength=2.0)
    with pytest.raises(sl.SoundloomError, match="silent throughout"):
        flow.vary(sl.Waveform(np.zeros((1, 4410), np.float32), 44100))
