"""The doctor names what a run was made sick with, and leaves the healthy in peace."""

import dataclasses
import json
import math
import signal
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import tiny
import torch

from soundloom import checkpoint, cli, doctor, factory, resume, vitals
from soundloom.bank import SoundBank
from soundloom.condition import Condition
from soundloom.doctor import History, diagnose, examine
from soundloom.errors import ConfigError, DivergedError, TrainingError
from soundloom.models.base import AbstractModel, Code
from soundloom.models.codec import Codec
from soundloom.models.gan import GAN
from soundloom.models.vae import VAE
from soundloom.runlog import read_log
from soundloom.train import TrainConfig, fit

SETTINGS = {"learning_rate": 1e-3, "kl_weight": 1e-3, "adversary_weight": 0.05}


def run(family, bank, folder, *, steps, settings=(), **changes):
    config = TrainConfig(steps=steps, seed=5, threads=1, device="cpu", **changes)
    return fit(family, bank, config, folder, settings=settings)


def names(result):
    return [finding.name for finding in result.findings]


# --- histories written down ------------------------------------------------------------------------------------------


def history(scores, *, seen=None, vitals=(), losses=(), untrained=4.0, settings=SETTINGS):
    """A validation every ten steps."""

    def series(values):
        return [(10.0 * (i + 1), float(value)) for i, value in enumerate(values)]

    shown = {name: series(values) for name, values in dict(vitals).items()}
    shown["untrained_score"] = [(0.0, untrained)]
    if seen is not None:
        shown["seen_score"] = series(seen)
    return History(settings, {n: series(v) for n, v in dict(losses).items()}, {"score": series(scores)}, shown)


FALLING = [3.0, 2.5, 2.1, 1.8, 1.6]
RISING = [1.0, 0.9, 0.95, 1.0, 1.1]


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (history(FALLING), "improving"),
        (history([-1.0, -1.2, -1.4, -1.6], untrained=0.0), "improving"),  # a likelihood
        (history([1.0, 0.8, 0.799, 0.798, 0.797]), "plateau"),
        (history(FALLING[:3]), "too early to say"),
        (history([]), "too early to say"),
        (history([110, 200, 250]), "diverging"),
        (history([1.0, 0.8, 1.5, 1.9, 2.5], seen=[1.0, 0.8, 1.5, 1.9, 2.5]), "diverging"),
        (history([1.0, 0.8, 1.5, 1.9, 2.5], seen=[1.0, 0.8, 0.7, 0.6, 0.5]), "memorising"),
        (history(RISING, seen=[1.0, 0.8, 0.7, 0.65, 0.6]), "memorising"),
        (
            history(RISING, seen=[1.0, 0.85, 0.9, 0.95, 1.05]),  # both rise a little: nothing is learnt by heart
            "plateau",
        ),
        (history(FALLING, seen=[2.9, 1.5, 1.0, 0.5, 0.2]), "improving"),  # a gap alone is no harm
        (history(FALLING, vitals={"level_db": [-20, -70, -70]}), "silence"),
        (history(FALLING, vitals={"level_db": [-20, -20, -70]}), "improving"),  # once is not enough
        (history(FALLING, vitals={"new_peak_db": [-70, -70]}), "silence"),
        (history(FALLING, vitals={"bank_level_db": [-67.0]}), "silence"),
        (history(FALLING, vitals={"beyond_full_scale": [0.2, 0.2], "level_db": [8, 8]}), "clipping"),
        (history(FALLING, vitals={"beyond_full_scale": [0.02, 0.02], "level_db": [20, 20]}), "clipping"),
        (history(FALLING, vitals={"latent_effect": [0.2, 0.0, 0.0]}), "collapsed latents"),
        (history(FALLING, vitals={"latent_effect": [0.2, 0.2], "kl": [9.0, 0.5, 0.5]}), "collapsed latents"),
        (history(FALLING, vitals={"kl": [1e13, 1e13]}), "diverging"),  # whatever the score says
        (history([2.3, 11.5, 6.8], seen=[2.3, 9.3, 6.5]), "too early to say"),  # a swing at the start
        (history(FALLING, vitals={"spread": [0.9, 0.1, 0.1]}), "mode collapse"),
        (history(FALLING, vitals={"floor_db": [-60, -20, -20]}), "noise floor"),
        (history(FALLING, losses={"judge": [2, 1, 0.2, 0.1, 0.1]}), "diverging adversary"),
        (history(FALLING, losses={"judge": [2] * 5, "adversarial": [0, 1, 5, 20, 40]}), "diverging adversary"),
        (history(FALLING, losses={"judge": [1.6] * 5, "matching": [0.7] * 5}), "diverging adversary"),
        (history(FALLING, losses={"judge": [1.6] * 5, "matching": [0.3] * 5}), "improving"),
        (history([1, 0.8, 0.9, 1.0], losses={"judge": [2] * 4, "adversarial": [0] * 4}), "diverging adversary"),
        (history([100, 90, 120, 130], losses={"judge": [0] * 4, "adversarial": [9] * 4}), "diverging"),
    ],
)
def test_a_history_has_its_verdict(told, verdict):
    findings = diagnose(told)
    assert findings[0].name == verdict
    assert {finding.name for finding in findings} <= set(get_args(doctor.Name))
    for finding in findings:
        assert finding.words
        assert finding.advice
        assert all(math.isfinite(value) for value in finding.evidence.values())


def test_the_gravest_comes_first_and_the_trend_last():
    signs = {"floor_db": [-20, -20], "spread": [0.1, 0.1], "latent_effect": [0, 0]}
    found = [finding.name for finding in diagnose(history(FALLING, vitals=signs))]
    assert found == ["collapsed latents", "mode collapse", "noise floor", "improving"]
    assert [finding.sick for finding in diagnose(history(FALLING, vitals=signs))] == [True, True, True, False]


def test_a_score_that_is_no_number_is_no_good_score():
    lines = [{"step": step, "kind": "validation", "losses": {"score": None}} for step in (1, 2, 3)]
    assert diagnose(History.of(lines, {}))[0].name == "too early to say"


# --- vitals of sounds that are known ----------------------------------------------------------------------------------


RATE = 16000
TONE = (torch.sin(2 * math.pi * 440 * torch.arange(RATE) / RATE) * (torch.arange(RATE) < RATE // 2))[None]


def test_level_and_clipping_of_a_tone_made_too_loud():
    figures = vitals.of_re_syntheses([TONE], [2 * TONE], sample_rate=RATE)
    assert figures["level_db"] == pytest.approx(6.02, abs=0.01)
    assert figures["beyond_full_scale"] == pytest.approx(0.5 * 2 / 3, abs=0.01)  # |sin| > 1/2 two thirds of the time


@pytest.mark.parametrize("noise_db", [-20, -40])
def test_noise_where_nothing_sounds_is_measured(noise_db):
    noise = torch.randn(TONE.shape, generator=torch.Generator().manual_seed(1)) * 10 ** (noise_db / 20)
    there = vitals.of_re_syntheses([TONE], [TONE + noise], sample_rate=RATE)["floor_db"]
    louder = vitals.of_re_syntheses([TONE], [TONE + 2 * noise], sample_rate=RATE)["floor_db"]
    assert louder - there == pytest.approx(6.02, abs=0.1)
    assert vitals.of_re_syntheses([TONE], [TONE], sample_rate=RATE)["floor_db"] < -60


def test_silence_has_no_figure_that_is_no_number():
    figures = vitals.of_re_syntheses([TONE], [0 * TONE], sample_rate=RATE)
    assert figures["level_db"] < -100
    assert vitals.spread([0 * TONE, 0 * TONE], sample_rate=RATE) == 0.0
    assert math.isnan(vitals.of_re_syntheses([0 * TONE], [TONE], sample_rate=RATE)["floor_db"])


def test_spread_is_of_timbre_not_of_level():
    assert vitals.spread([TONE, 0.1 * TONE], sample_rate=RATE) < 0.01
    noise = torch.randn(TONE.shape, generator=torch.Generator().manual_seed(1))
    assert vitals.spread([TONE, noise], sample_rate=RATE) > 10


# --- small runs made sick ---------------------------------------------------------------------------------------------


class Well(tiny.Tiny):
    """Each new sound has a latent of its own; `Tiny` draws one for each frame, and so makes noise, always the same."""

    def sample(self, n, *, seconds, condition, generator):
        z = 2 * torch.randn(n, self.config.latent, 1, generator=generator).expand(-1, -1, 31)
        return self.decode(Code(z, z[:, :1], z[:, :1])).clamp(-1, 1)


class Deaf(Well):
    """Its new sounds do not listen to the noise they are to come from."""

    def sample(self, n, *, seconds, condition, generator):
        return super().sample(1, seconds=seconds, condition=condition, generator=generator).expand(n, -1, -1)


class Mute(Well):
    def decode(self, code, *, seed=0):
        return 1e-4 * super().decode(code, seed=seed)


class Hot(Well):
    """What is trained is in order, what is used is too loud."""

    def decode(self, code, *, seed=0):
        return super().decode(code, seed=seed) * (1 if self.training else 30)


class Hissing(Well):
    def decode(self, code, *, seed=0):
        audio = super().decode(code, seed=seed)
        noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(seed)).to(audio)
        return audio if self.training else audio + 0.3 * noise


class Fixed(Well):
    """A decoder fed a constant latent."""

    def decode(self, code, *, seed=0):
        return super().decode(dataclasses.replace(code, z=0 * code.z), seed=seed)


@pytest.fixture
def bank(tmp_path):
    return tiny.TinyBank(tmp_path / "bank")


@pytest.mark.parametrize(
    ("family", "verdict"),
    [
        (Deaf, "mode collapse"),
        (Mute, "silence"),
        (Hot, "clipping"),
        (Fixed, "collapsed latents"),
        (Hissing, "noise floor"),
    ],
)
def test_a_small_family_made_sick_is_found_out(bank, tmp_path, family, verdict):
    result = run(family, bank, tmp_path / "run", steps=200, settings=["width=96", "latent=32"])
    assert verdict in names(result)
    assert result.findings[0].sick


def test_what_is_not_sick_in_a_small_family_is_not_called_so(bank, tmp_path):
    """Frames of 64 samples with 32 latents do leave noise at -30 dB, and nothing else."""
    result = run(Well, bank, tmp_path / "run", steps=200, settings=["width=96", "latent=32"])
    assert set(names(result)) <= {"noise floor", *doctor.WELL}
    verdicts = [line["verdict"] for line in read_log(tmp_path / "run/log.jsonl") if "verdict" in line]
    assert len(verdicts) == 20
    assert set(verdicts) <= {"noise floor", *doctor.WELL}
    assert verdicts[0] == "too early to say"


class OneHeldOut(tiny.TinyBank):
    def clips(self, split=None):
        every = super().clips()
        return {"train": every[1:], "validation": every[:1], None: every}[split]


def test_one_sound_alone_cannot_exchange_its_latent(tmp_path):
    """Exchanged with itself, it does not move: that says nothing about the decoder."""
    result = run(Well, OneHeldOut(tmp_path / "bank"), tmp_path / "run", steps=60)
    assert "collapsed latents" not in names(result)
    line = [line for line in read_log(tmp_path / "run/log.jsonl") if "verdict" in line][-1]
    assert "latent_effect" not in line["losses"]
    assert "floor_db" in line["losses"]  # what one sound can tell is told


class NoiseBank(tiny.TinyBank):
    """Sounds that have nothing in common: what is learnt of some says nothing of the others."""

    def __init__(self, folder):
        super().__init__(folder, 12)
        self._audio = 0.3 * np.random.default_rng(1).standard_normal(self._audio.shape).astype(np.float32)


def test_sounds_learnt_by_heart_are_found_out_and_patience_stops_in_time(tmp_path):
    settings = ["width=512", "latent=16", "noise=0", "learning_rate=0.01", "adversary_from=1"]
    result = run(tiny.Tiny, NoiseBank(tmp_path / "bank"), tmp_path / "long", steps=200, settings=settings)
    assert names(result)[0] == "memorising"
    gap = result.findings[0].evidence
    assert gap["seen_score"] < 0.8 * gap["score"]
    patient = run(tiny.Tiny, NoiseBank(tmp_path / "bank"), tmp_path / "run", steps=200, settings=settings, patience=3)
    assert patient.step < 200
    assert patient.score == result.score  # nothing better came after
    kept = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("long", "run")]
    assert kept[0] == kept[1]
    best_step = resume.read(tmp_path / "run").best_step
    assert patient.message == (
        f"finished: stopped before it gets worse, at step {patient.step} of 200, after 3 validations without a better "
        f"score; the model of step {best_step} is kept"
    )
    assert patient.step - best_step == 3 * 10
    again = run(tiny.Tiny, NoiseBank(tmp_path / "bank"), tmp_path / "run", steps=200, settings=settings, patience=3)
    assert again.already
    assert names(again) == names(patient)


def test_patience_is_kept_by_a_resumed_run(tmp_path):
    settings = ["width=512", "latent=16", "noise=0", "learning_rate=0.01", "adversary_from=1"]

    def go(folder, **changes):
        config = TrainConfig(steps=200, seed=5, threads=1, device="cpu", patience=3)
        return fit(tiny.Tiny, NoiseBank(tmp_path / "bank"), config, folder, settings=settings, **changes)

    straight = go(tmp_path / "straight")

    def interrupt(now):
        if now.doing == "training" and now.step == straight.step - 14:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", progress=interrupt)
    with pytest.raises(TrainingError, match="a run with patience 3, this one has none"):
        run(tiny.Tiny, NoiseBank(tmp_path / "bank"), tmp_path / "run", steps=200, settings=settings)
    resumed = go(tmp_path / "run")
    assert (resumed.step, resumed.message, resumed.score) == (straight.step, straight.message, straight.score)
    logs = [
        [{k: v for k, v in line.items() if k != "elapsed_s"} for line in read_log(tmp_path / name / "log.jsonl")]
        for name in ("straight", "run")
    ]
    assert logs[0] == logs[1]


def test_patience_starts_at_one(bank, tmp_path):
    with pytest.raises(ConfigError, match="patience is 0: it starts at 1"):
        run(tiny.Tiny, bank, tmp_path / "run", steps=3, patience=0)


def test_a_run_that_breaks_is_diverging_and_its_page_says_so(bank, tmp_path):
    with pytest.raises(DivergedError):
        run(tiny.Tiny, bank, tmp_path / "run", steps=400, settings=["learning_rate=1e38"])
    finding = examine(tmp_path / "run").findings[0]
    assert finding.name == "diverging"
    assert "of the player 'generator' became" in finding.words
    assert "--set learning_rate=1e+37" in finding.advice
    assert "the run broke" in (tmp_path / "run/report.html").read_text()


class Judging(AbstractModel):
    """A family that neither makes sounds nor takes them apart, as a classifier: loud or not."""

    family, Config = "judging", tiny.TinyConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.net = torch.nn.Linear(1, 1)

    configure = classmethod(tiny.Tiny.configure.__func__)
    batch_spec = tiny.Tiny.batch_spec

    def players(self):
        return {"judging": tiny.Player(list(self.parameters()), 0.03)}

    def _loss(self, batch):
        level = batch.audio.square().mean((1, 2))[:, None]
        return torch.nn.functional.binary_cross_entropy_with_logits(self.net(300 * level), (level > 0.008).float())

    def train_step(self, batch, *, step, generator, update):
        loss = self._loss(batch)
        update("judging", loss)
        return {"loss": loss.item()}

    def validate(self, batch, *, generator):
        return {"score": self._loss(batch).item(), "accuracy": 0.5}


def test_a_family_that_makes_no_sounds_has_a_doctor_too(bank, tmp_path, monkeypatch):
    monkeypatch.setitem(checkpoint.FAMILIES, "judging", "test_doctor:Judging")
    result = run(Judging, bank, tmp_path / "run", steps=200)
    assert names(result) == ["improving"]
    line = [line for line in read_log(tmp_path / "run/log.jsonl") if "verdict" in line][-1]
    assert set(line["losses"]) == {"seen_score", "bank_level_db"}


# --- the command ------------------------------------------------------------------------------------------------------


def test_doctor_after_the_fact_in_words_and_as_a_document(bank, tmp_path, capsys):
    run(Fixed, bank, tmp_path / "run", steps=200)
    assert cli.run(["doctor", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "collapsed latents: exchanging the latents of two sounds changes nothing" in out
    assert "finished: 200 steps, step 200 of 200" in out
    assert cli.run(["doctor", str(tmp_path / "run"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "collapsed latents"
    assert document["sick"] is True
    assert document["findings"][0]["evidence"]["latent_effect"] == 0
    assert {finding["name"] for finding in document["findings"]} <= set(doctor.NAMES)
    assert {line["verdict"] for line in document["course"]} <= set(doctor.NAMES)
    page = (tmp_path / "run/report.html").read_text()
    for text in ("What the doctor says", "collapsed latents", "exchanging the latents", "latent_effect"):
        assert text in page


@pytest.mark.parametrize("there", ["nothing", "a model alone"])
def test_a_folder_without_a_run_is_refused(tmp_path, capsys, there):
    if there == "a model alone":
        (tmp_path / "config.json").write_text("{}")
    assert cli.run(["doctor", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "holds no log of a run that has been validated" in err
    assert err.count("\n") == 1


# --- the real families ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drums(tmp_path_factory) -> SoundBank:
    """Twenty-one factory sounds, six of them held out."""
    folder = tmp_path_factory.mktemp("drums")
    with pytest.MonkeyPatch.context() as patch:
        kinds = [kind for kind in factory.KINDS if kind.name in ("kick", "snare", "hat")]
        few = [dataclasses.replace(k, pitches=k.pitches[:14:2], velocities=k.velocities[-1:]) for k in kinds]
        patch.setattr(factory, "KINDS", tuple(few))
        factory.make(folder / "sounds", seed=0)
    return scanned(folder)


def scanned(folder: Path) -> SoundBank:
    files = sorted((folder / "sounds").glob("*.wav"))
    rows = [f"{file.name},{'train' if i % 4 else 'validation'}" for i, file in enumerate(files)]
    (folder / "split.csv").write_text("\n".join(["path,split", *rows]))
    return SoundBank.scan(folder / "sounds", folder / "bank", split=folder / "split.csv")


class ConstantCodec(Codec):
    def _decoder_in(self, z, f0_hz, voiced):
        return super()._decoder_in(0 * z, f0_hz, voiced)


class ConstantVAE(VAE):
    def _about(self, z, label):
        return super()._about(0 * z, label)


def judged_fast(players):
    judge = players["judge"]
    return {**players, "judge": dataclasses.replace(judge, learning_rate=100 * judge.learning_rate)}


class FastJudgeCodec(Codec):
    def players(self):
        return judged_fast(super().players())


class FastJudgeVAE(VAE):
    def players(self):
        return judged_fast(super().players())


CODEC = ["batch=4", "width=48", "seconds=0.4"]
VAES = ["batch=4", "width=48", "crop_s=0.4"]
DEAD = ["kl_weight=50", "free_bits=0"]  # free bits alone would keep latents alive at any weight


@pytest.mark.parametrize(
    ("family", "settings", "verdict"),
    [
        (Codec, [*CODEC, "learning_rate=0.2"], "diverging"),
        (ConstantCodec, CODEC, "collapsed latents"),
        (Codec, [*CODEC, *DEAD], "collapsed latents"),
        pytest.param(VAE, [*VAES, "learning_rate=0.15"], "diverging", marks=pytest.mark.slow),
        pytest.param(ConstantVAE, VAES, "collapsed latents", marks=pytest.mark.slow),
        pytest.param(VAE, [*VAES, *DEAD], "collapsed latents", marks=pytest.mark.slow),
    ],
)
def test_a_real_family_made_sick_is_found_out(drums, tmp_path, family, settings, verdict):
    result = run(family, drums, tmp_path / "run", steps=30, settings=settings)
    assert names(result)[0] == verdict


@pytest.mark.parametrize(("family", "settings"), [(Codec, CODEC), pytest.param(VAE, VAES, marks=pytest.mark.slow)])
def test_a_real_family_that_is_well_is_left_in_peace(drums, tmp_path, family, settings):
    result = run(family, drums, tmp_path / "run", steps=40, settings=settings)
    assert not any(finding.sick for finding in result.findings)
    latents = [line["losses"] for line in read_log(tmp_path / "run/log.jsonl") if line["kind"] == "validation"][-1]
    assert latents["active_latents"] > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings", "sick"),
    [
        (FastJudgeVAE, VAES, True),
        (VAE, VAES, False),
        (FastJudgeCodec, CODEC, True),
        (Codec, CODEC, False),
    ],
)
def test_an_adversary_at_a_hundred_times_its_rate_is_found_out(drums, tmp_path, family, settings, sick):
    """The score does not tell in so few steps: the adversary's own losses do."""
    more = ["width=64", "adversary_from=0.1"]
    result = run(family, drums, tmp_path / "run", steps=160, settings=[*settings, *more])
    assert ("diverging adversary" in names(result)) is sick
    assert result.findings[0].sick is sick


def test_a_bank_of_silence_is_refused_and_one_of_hiss_found_out(tmp_path):
    (tmp_path / "sounds").mkdir()
    hiss = np.random.default_rng(0).standard_normal((12, 11025))
    for i, sound in enumerate(hiss):
        soundfile.write(tmp_path / f"sounds/{i}.wav", 0 * sound, 44100)
    with pytest.raises(ValueError, match="silent: its peak is nothing at all"):
        scanned(tmp_path)
    for i, sound in enumerate(hiss):
        soundfile.write(tmp_path / f"sounds/{i}.wav", 2e-4 * sound, 44100, subtype="PCM_24")
    result = run(Codec, scanned(tmp_path), tmp_path / "run", steps=4, settings=CODEC)
    assert names(result)[0] == "silence"
    assert result.findings[0].evidence["bank_level_db"] < -55


# --- what takes a GAN -------------------------------------------------------------------------------------------------

GANS = ["width=32", "blocks=1", "partials=16", "judge_channels=4", "batch=8", "seconds=0.25", "noise=8"]


class DeafGAN(GAN):
    """Its generator does not listen to its noise."""

    def _noise(self, n, generator):
        return 0 * super()._noise(n, generator)


class CollapsedGAN(GAN):
    """Whatever is asked, one course, one wish, one sound."""

    def _rendered(self, rows, condition, generator, **more):
        generator = torch.Generator().manual_seed(0)
        return super()._rendered(0 * rows, Condition.of(len(rows)), generator, **more)[:1].expand(len(rows), -1, -1)


@pytest.mark.parametrize(
    ("family", "verdict"), [(DeafGAN, "ignored noise"), (CollapsedGAN, "mode collapse"), (GAN, None)]
)
def test_a_gan_made_sick_is_found_out_and_a_healthy_one_left_in_peace(drums, tmp_path, family, verdict):
    result = run(family, drums, tmp_path / "run", steps=24, settings=GANS)
    found = set(names(result)) & {"ignored noise", "mode collapse", "diverging adversary", "diverging"}
    assert (verdict in found) if verdict else not found


def test_judges_that_are_never_wrong_are_told():
    lines = [{"step": step, "kind": "train", "elapsed_s": 0.0, "losses": {"judges": 0.003}} for step in range(40)]
    assert doctor.diagnose(doctor.History.of(lines, {}))[0].name == "diverging adversary"
    lines = [{**line, "losses": {"judges": 0.4}} for line in lines]
    assert doctor.diagnose(doctor.History.of(lines, {}))[0].name == "too early to say"
