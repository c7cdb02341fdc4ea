"""What every family keeps to from end to end: trained by the loop, saved, opened elsewhere, verified, put to use."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import soundloom as sl
from soundloom import checkpoint, factory
from soundloom.audio import write
from soundloom.bank import SoundBank
from soundloom.evaluate import evaluate
from soundloom.models.base import Codes, Continues, Embeds, Resynthesises, Samples
from soundloom.run import Run
from soundloom.train import TrainConfig, fit

RATE = 16000
SMALL = {
    "codec": ["latent=8", "width=32", "encoder_blocks=1", "decoder_blocks=1", "partials=16", "batch=2", "seconds=0.5"],
    "gan": ["width=32", "blocks=1", "judge_channels=4", "batch=4", "seconds=0.4"],
    "vae": ["width=32", "decoder_blocks=1", "batch=2", "seconds=0.4"],
    "flow": ["width=32", "blocks=1", "heads=2", "batch=4", "seconds=0.4"],
    "rnn": ["width=32", "batch=4", "seconds=0.4"],
    "subband": ["width=32", "batch=2", "seconds=0.4"],
    "wavenet": ["cycles=1", "dilations=4", "width=32", "order=16", "guide=16", "batch=2", "seconds=0.2"],
    "ddsp": ["width=32", "blocks=1", "partials=16", "batch=2", "seconds=0.5", "reverb_s=0.2"],
}
CODES = ("flow", "rnn")


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> SoundBank:
    """Thirty notes at 16 kHz, nearly all with a pitch."""
    root = tmp_path_factory.mktemp("families")
    factory.make(root / "all", seed=0)
    (root / "sounds").mkdir()
    found = [path for path in sorted((root / "all").glob("*.wav")) if path.name.startswith(("pluck", "bass", "pad"))]
    for path in found[:: max(1, len(found) // 30)]:
        sound = sl.resample(sl.read(path), RATE)
        write(root / "sounds" / path.name, sl.Waveform(sound.samples[:, : RATE // 2], RATE))
    return SoundBank.scan(root / "sounds", root / "bank")


@pytest.fixture(scope="module")
def runs(bank, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    for family, settings in SMALL.items():
        own = [f"codec={root / 'codec'}", *settings] if family in CODES else settings
        fit(family, bank, TrainConfig(steps=3, threads=1), root / family, settings=own)
    return {family: root / family for family in SMALL}


def test_every_family_is_here():
    assert {*SMALL, "classifier", "tiny"} >= set(checkpoint.FAMILIES)


@pytest.mark.parametrize("family", SMALL)
def test_a_folder_alone_is_the_model(runs, family, tmp_path):
    """Moved elsewhere, without bank or codec, it gives the sound of its snapshot."""
    moved = runs[family].rename(tmp_path / "elsewhere")
    try:
        assert checkpoint.verify(checkpoint.load(moved, device="cpu"), moved) < -60
    finally:
        moved.rename(runs[family])


@pytest.mark.parametrize("family", SMALL)
def test_new_sounds_are_sounds(runs, family):
    run = Run.load(runs[family], device="cpu")
    if not isinstance(run.model, Samples):
        with pytest.raises(sl.SoundloomError, match="makes no new sounds"):
            run.sample(1)
        return
    a, b, c = (run.sample(2, seed=seed, seconds=0.2) for seed in (1, 1, 2))
    for sound in a:
        assert sound.samples.shape == (1, round(0.2 * RATE))
        assert np.isfinite(sound.samples).all()
        assert 0 < np.abs(sound.samples).max() <= 1
    assert all(np.array_equal(x.samples, y.samples) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0].samples, c[0].samples)


@pytest.mark.parametrize("family", SMALL)
def test_a_recording_keeps_its_length_and_rate(runs, bank, family):
    run = Run.load(runs[family], device="cpu")
    sound = sl.resample(bank.audio(0), 22050)
    if not isinstance(run.model, Codes | Embeds | Resynthesises):
        with pytest.raises(sl.SoundloomError, match="train a"):
            run.reconstruct(sound)
        return
    made = run.reconstruct(sound)
    assert (made.sample_rate, made.samples.shape) == (22050, sound.samples.shape)
    assert np.isfinite(made.samples).all()


@pytest.mark.parametrize("family", [name for name in SMALL if name in ("rnn", "subband", "wavenet")])
def test_it_goes_on_for_as_long_as_asked(runs, bank, family):
    run = Run.load(runs[family], device="cpu")
    assert isinstance(run.model, Continues)
    for before in (bank.audio(1), None):
        assert run.go_on(before, seconds=0.3).seconds == pytest.approx(0.3, abs=1e-4)


def test_a_banks_codes_are_taken_once(runs, bank, monkeypatch):
    """The copy that measures the pace and the run itself are two models, with the same codec and bank."""
    flow = checkpoint.load(runs["flow"], device="cpu")
    flow.prepare(bank, fresh=False)
    encoded = []
    monkeypatch.setattr(type(flow.space.codec), "encode", lambda self, *given, **more: encoded.append(given))
    again = checkpoint.load(runs["flow"], device="cpu")
    again.prepare(bank, fresh=False)
    assert encoded == []
    assert again.space.known(0) is flow.space.known(0)


@pytest.mark.parametrize("family", ["flow", "rnn", "wavenet"])
def test_an_evaluation_runs_through(runs, bank, family):
    result = evaluate(Run.load(runs[family], device="cpu"), bank, samples=20, most=2)
    assert {"distances", "variety", "honesty", "obedience", "steering"} <= {section.name for section in result.sections}


@pytest.mark.parametrize("family", ["flow", "rnn", "subband", "gan"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(runs, bank, family, tmp_path, monkeypatch):
    """Stopped after two of four steps and gone on with, bit for bit; the codec's folder may be gone by then."""
    own = [f"codec={runs['codec']}", *SMALL[family]] if family in CODES else SMALL[family]
    config = TrainConfig(steps=4, threads=1)
    fit(family, bank, config, tmp_path / "whole", settings=own)
    model_class, model_step, taken = checkpoint.family(family), checkpoint.family(family).train_step, []

    def step(self, *arguments, **more):
        taken.append(1)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return model_step(self, *arguments, **more)

    monkeypatch.setattr(model_class, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        fit(family, bank, dataclasses.replace(config, save_every_s=0), tmp_path / "cut", settings=own)
    monkeypatch.setattr(model_class, "train_step", model_step)
    fit(family, bank, dataclasses.replace(config, save_every_s=0), tmp_path / "cut", settings=own)
    a, b = (checkpoint.load(tmp_path / name, device="cpu").state_dict() for name in ("whole", "cut"))
    assert [name for name in a if not torch.equal(a[name].nan_to_num(-7), b[name].nan_to_num(-7))] == []
