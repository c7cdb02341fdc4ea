"""Presets: what the scan found decides what is trained, a codec comes first where one is needed, and flags win."""

import json
from pathlib import Path

import numpy as np
import pytest

import soundloom as sl
from soundloom import checkpoint, cli, presets, recipe, resume
from soundloom.audio import Waveform, write
from soundloom.bank import SoundBank
from soundloom.config import override
from soundloom.errors import BankError, ConfigError, TrainingError
from soundloom.presets import PRESETS, Preset, suited
from soundloom.recipe import Choice, decide, shares, stages
from soundloom.train import TrainConfig

RATE = 16000
SMALL = (
    "batch=2", "width=16", "blocks=1", "heads=2",
    "codec.batch=2", "codec.width=16", "codec.latent=8", "codec.seconds=0.3",
)  # fmt: skip


def hit(random):
    t = np.arange(RATE // 5) / RATE
    return random.normal(size=len(t)) * np.exp(-30 * t)


def ring(random):
    t = np.arange(RATE) / RATE
    return np.sin(2 * np.pi * random.uniform(200, 800) * t) * np.exp(-3 * t)


def glide(random):
    t = np.arange(RATE // 2) / RATE
    f0 = random.uniform(120, 250)
    phase = 2 * np.pi * (f0 * t + 0.5 * f0 * t**2)  # up by nine semitones
    return sum(np.sin(k * phase) / k for k in range(1, 6)) * np.hanning(len(t))


def drone(random):
    t = np.arange(40 * RATE) / RATE
    return np.sin(2 * np.pi * 110 * t) * (1 + 0.3 * random.normal(size=len(t)))


def bank_of(folder: Path, make, *, sounds: int) -> SoundBank:
    random = np.random.default_rng(0)
    (folder / "sounds").mkdir(parents=True)
    for i in range(sounds):
        x = make(random)
        write(folder / "sounds" / f"take {i}.wav", Waveform((0.9 * x / np.abs(x).max()).astype(np.float32)[None], RATE))
    return SoundBank.scan(folder / "sounds", folder / "bank")


@pytest.fixture(scope="module")
def hits(tmp_path_factory) -> SoundBank:
    return bank_of(tmp_path_factory.mktemp("hits"), hit, sounds=60)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> SoundBank:
    return bank_of(tmp_path_factory.mktemp("few"), hit, sounds=20)


@pytest.mark.parametrize(
    ("make", "sounds", "name"),
    [(ring, 60, "notes"), (glide, 60, "speech"), (drone, 2, "texture"), (hit, 20, "tiny"), (ring, 20, "tiny")],
)
def test_a_bank_finds_its_preset(tmp_path, make, sounds, name):
    assert suited(bank_of(tmp_path, make, sounds=sounds)).name == name


def test_hits_are_drums_and_little_time_makes_anything_tiny(hits):
    assert suited(hits).name == "drums"
    assert suited(hits, minutes=30).name == "drums"
    assert suited(hits, minutes=1).name == "tiny"


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_sets_is_a_setting_of_its_family(name):
    preset = PRESETS[name]
    assert preset.name == name
    family = checkpoint.family(preset.family)
    assert hasattr(family, "sample"), "a preset makes new sounds"
    override(family.Config(), preset.settings)
    override(checkpoint.family("codec").Config(), preset.codec_settings)
    assert not preset.codec_settings or family.needs_codec


def test_what_is_chosen_is_said(hits):
    said = decide(hits, Choice()).words
    assert said.startswith(f"preset drums (flow), for {len(hits.clips('train'))} one-shots to train on")
    assert "0 % with a pitch" in said
    assert "1 minutes" in decide(hits, Choice(), minutes=1).words
    assert decide(hits, Choice(family="vae")).words == ""


def test_a_named_family_takes_settings_of_a_preset_of_its_own_only(hits, monkeypatch):
    mine = Preset("drums", "flow", "why", ("width=64", "batch=8"), ("latent=16",))
    monkeypatch.setattr(presets, "PRESETS", {**PRESETS, "drums": mine})
    assert decide(hits, Choice(family="vae")).settings == ()
    assert decide(hits, Choice(family="flow", codec="c")).settings == ("codec=c", "width=64", "batch=8")
    own = decide(hits, Choice(settings=("width=32", "codec.latent=8")))
    assert own.settings == ("width=64", "batch=8", "width=32"), "the person's come last"
    assert own.codec_settings == ("latent=16", "latent=8")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(family="flwo"), "did you mean flow"),
        (Choice(family="vae", preset=PRESETS["drums"]), "leave out one"),
        (Choice(family="vae", codec_first=True), "needs no codec"),
        (Choice(family="vae", settings=("codec.batch=2",)), "needs no codec"),
        (Choice(family="flow", codec="c", codec_first=True), "choose one"),
        (Choice(family="flow", settings=("codec.batch=2",)), "--codec-first"),
    ],
)
def test_what_contradicts_itself_is_refused(hits, choice, words):
    with pytest.raises(ConfigError, match=words):
        decide(hits, choice)


def test_a_codec_comes_first_only_where_one_is_needed_and_none_is_named(hits):
    assert decide(hits, Choice()).codec_first
    assert decide(hits, Choice(family="flow", codec_first=True)).codec_first
    assert not decide(hits, Choice(family="flow")).codec_first
    assert not decide(hits, Choice(codec="c")).codec_first
    assert not decide(hits, Choice(settings=("codec=c",))).codec_first
    assert not decide(hits, Choice(preset=PRESETS["tiny"])).codec_first


@pytest.mark.parametrize("budget", ["steps", "minutes", "cpu_minutes"])
def test_the_budget_is_that_of_both(budget):
    first, rest = shares(TrainConfig(**{budget: 100}))
    assert getattr(first, budget) == pytest.approx(100 * recipe.CODEC_SHARE)
    assert getattr(first, budget) + getattr(rest, budget) == 100
    assert [part.steps for part in shares(TrainConfig(steps=1))] == [1, 1]


def test_nothing_is_trained_before_everything_is_understood(hits, few, tmp_path):
    for settings, words in ((("bach=2",), "did you mean batch"), (("codec.laten=2",), "did you mean latent")):
        with pytest.raises(ConfigError, match=words):
            stages(decide(hits, Choice(settings=settings)), hits, TrainConfig(steps=2), tmp_path / "run")
    with pytest.raises(ConfigError, match="codec-first"):
        stages(decide(hits, Choice(family="flow")), hits, TrainConfig(steps=2), tmp_path / "run")
    lonely = bank_of(tmp_path / "lonely", hit, sounds=4)
    with pytest.raises(BankError, match="needs 8"):
        stages(decide(lonely, Choice(preset=PRESETS["drums"])), lonely, TrainConfig(steps=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_command_trains_codec_and_flow_and_says_so(hits, tmp_path, capsys):
    out = tmp_path / "run"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["train", hits.folder, "-o", out, "--steps", 4, *settings]
    assert cli.run([*map(str, command)]) == 0
    said = capsys.readouterr().out
    assert "preset drums (flow)" in said
    assert "35 % of the time" in said
    assert [resume.read(folder).step for folder in (out / "codec", out)] == [1, 3]
    assert cli.run([*map(str, command), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["family"], document["preset"], document["codec"]["step"]) == ("flow", "drums", 1)
    assert document["already"]
    assert document["codec"]["already"]
    with pytest.raises(TrainingError, match="family flow, this one has vae"):
        stages(decide(hits, Choice(family="vae")), hits, TrainConfig(steps=2), out)
    given = ["train", hits.folder, "--family", "flow", "--codec", out / "codec", "-o", tmp_path / "given"]
    assert cli.run([*map(str, [*given, "--steps", 1, "-q"]), *settings[:8]]) == 0
    assert not (tmp_path / "given" / "codec").exists()


def test_python_takes_a_preset_of_ones_own(few, tmp_path):
    mine = Preset("mine", "vae", "mine", settings=("batch=2",))
    assert sl.train(few, tmp_path / "a", family=mine, steps=1).model.config.batch == 2
    assert sl.train(few, tmp_path / "b", steps=1, settings=["batch=3"]).family == "vae", "a small bank is tiny"


def test_the_command_line_names_presets(hits, tmp_path, capsys):
    assert cli.run(["train", str(hits.folder), "--preset", "drumz", "-o", str(tmp_path / "x")]) == 1
    assert "did you mean drums" in capsys.readouterr().err
    command = ["train", hits.folder, "--preset", "tiny", "-o", tmp_path / "x", "--steps", 1, "--set", "batch=2"]
    assert cli.run([*map(str, command)]) == 0
    assert "preset tiny (vae): " in capsys.readouterr().out
