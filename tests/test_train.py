"""The loop: it learns, keeps the best, keeps to its time, tells what it does, and stops when nothing good can come."""

import json
import math
import signal
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from soundloom import checkpoint, optimise, pace, resume, runtime
from soundloom.audio import read
from soundloom.bank import SoundBank
from soundloom.errors import ConfigError, DivergedError, StorageError, TrainingError
from soundloom.runlog import read_log
from soundloom.train import TrainConfig, data_hash, fit

RUN_FOLDER = {
    "config.json",
    "model.safetensors",
    "card.md",
    "snapshot.npz",
    "log.jsonl",
    "previews",
    "report.html",
    "resume.safetensors",
    "resume.json",
}


@pytest.fixture
def bank(tmp_path):
    return tiny.TinyBank(tmp_path / "bank")


def run(bank, folder, *, family=tiny.Tiny, settings=(), progress=None, **config):
    config = {"seed": 5, "threads": 1, "device": "cpu"} | config
    return fit(family, bank, TrainConfig(**config), folder, settings=settings, progress=progress)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """One run of 600 steps, looked at from all sides."""
    folder = tmp_path_factory.mktemp("learnt")
    bank, seen = tiny.TinyBank(folder / "bank"), []
    bank.folder.mkdir()
    (bank.folder / "LICENSE.txt").write_text("\nCC BY 4.0 | somebody\n\nlong text")
    run(bank, folder / "run", steps=600, progress=seen.append, tensorboard=True, settings=["width=96", "latent=32"])
    return types.SimpleNamespace(bank=bank, folder=folder / "run", seen=seen)


def validation(folder):
    return [
        (line["step"], line["losses"]["score"])
        for line in read_log(folder / "log.jsonl")
        if line["kind"] == "validation"
    ]


def test_it_learns_to_re_synthesise_sounds_it_never_heard(learnt):
    model = checkpoint.load(learnt.folder, device="cpu")
    audio = torch.from_numpy(np.stack([learnt.bank.audio(c).samples for c in learnt.bank.clips("validation")]))
    audio = audio[..., : audio.shape[-1] // tiny.FRAME * tiny.FRAME]
    with torch.no_grad():
        error = model.decode(model.encode(audio)) - audio
    assert 10 * math.log10(audio.square().mean() / error.square().mean()) > 4  # dB of signal over error
    first, last = validation(learnt.folder)[0][1], validation(learnt.folder)[-1][1]
    assert last < 0.4 * first


def test_the_run_folder_holds_what_is_promised(learnt):
    assert {path.name for path in learnt.folder.iterdir()} == RUN_FOLDER | {"tensorboard"}
    model = checkpoint.load(learnt.folder, device="cpu")
    assert checkpoint.verify(model, learnt.folder) == -math.inf
    assert model.config.steps == 600


def test_the_card_names_data_licence_and_figures(learnt):
    text = (learnt.folder / "card.md").read_text()
    assert f"| data hash | {data_hash(learnt.bank)} |" in text
    assert "| sounds | 20 in bank |" in text
    assert "| licence of the sounds | CC BY 4.0 \\| somebody |" in text
    assert "| width | 96 |" in text
    assert f"| score | {min(score for _, score in validation(learnt.folder)):.4g} |" in text


def test_the_kept_model_is_the_best_one(learnt):
    model = checkpoint.load(learnt.folder, device="cpu")
    scores = [score for _, score in validation(learnt.folder)]
    assert len(scores) == pace.VALIDATIONS
    assert pace.validate(model, learnt.bank, seed=5)["score"] == min(scores)
    assert resume.read(learnt.folder).best == min(scores)


def test_a_worse_model_does_not_replace_the_best(bank, tmp_path):
    """Steps so long that the weights only get worse: what is kept is the first validation's."""
    run(bank, tmp_path / "run", steps=100, settings=["learning_rate=3"])
    scores = validation(tmp_path / "run")
    best = min(scores, key=lambda pair: pair[1])
    assert best[1] < scores[-1][1]
    model = checkpoint.load(tmp_path / "run", device="cpu")
    assert pace.validate(model, bank, seed=5)["score"] == best[1]
    assert f"| step | {best[0]} |" in (tmp_path / "run/card.md").read_text()


def test_the_log_names_losses_of_both_phases(learnt):
    lines = [line for line in read_log(learnt.folder / "log.jsonl") if line["kind"] == "train"]
    assert [line["step"] for line in lines] == list(range(3, 601, 3))
    assert {tuple(line["losses"]) for line in lines[:99]} == {("error",)}
    assert set(lines[-1]["losses"]) == {"error", "judged"}
    assert [line["elapsed_s"] for line in lines] == sorted(line["elapsed_s"] for line in lines)


def test_tensorboard_shows_what_the_log_says(learnt):
    events = EventAccumulator(str(learnt.folder / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("validation/score")]
    assert np.array(shown) == pytest.approx(np.array(validation(learnt.folder)))


def test_previews_are_the_sounds_of_the_model(learnt):
    names = {path.name for path in (learnt.folder / "previews").glob("*.wav")}
    made = {"reconstruction-0", "reconstruction-1", *(f"new-{i}" for i in range(4))}
    assert names == {"original-0.wav", "original-1.wav", *(f"step-0000600-{name}.wav" for name in made)}
    assert {path.stem for path in (learnt.folder / "previews").glob("*.png")} == {name[:-4] for name in names}
    clip = int(learnt.bank.clips("validation")[0])
    original, kept = learnt.bank.audio(clip), read(learnt.folder / "previews/original-0.wav")
    assert kept.sample_rate == original.sample_rate
    assert np.abs(kept.samples - original.samples).max() < 2**-14  # 16 bits
    page = (learnt.folder / "report.html").read_text()
    for text in ("finished: 600 steps", "error", "judged", "score", "reconstruction-1", "new-3"):
        assert text in page
    assert page.count("<audio") == 8


def test_progress_knows_the_way_and_the_pace(learnt):
    training = [now for now in learnt.seen if now.doing == "training"]
    assert [now.step for now in training] == list(range(1, 601))
    assert training[0].score is None
    assert min(now.score for now in learnt.seen if now.score) == resume.read(learnt.folder).best
    assert training[-1].eta_s == 0
    assert {now.doing for now in learnt.seen} == {"saving", "training", "validating", "previewing", "finished"}
    assert learnt.seen[-1].doing == "finished"
    assert set(training[-1].losses) == {"error", "judged"}


class Clock:
    """Time that passes only when a model works, so that what is said about time can be tested."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        clock = types.SimpleNamespace(monotonic=lambda: self.now, process_time=lambda: self.now)
        monkeypatch.setattr(sys.modules["soundloom.train"], "time", clock)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def costing(clock, first_s, second_s, validation_s=0.2):
    class Costing(tiny.Tiny):
        def train_step(self, batch, *, step, generator, update):
            late = step >= self.config.adversary_from * self.config.steps
            clock.now += second_s if late else first_s
            return super().train_step(batch, step=step, generator=generator, update=update)

        def validate(self, batch, *, generator):
            clock.now += validation_s
            return super().validate(batch, generator=generator)

    return Costing


@pytest.mark.parametrize("budget", ["minutes", "cpu_minutes"])
def test_a_budget_of_time_becomes_steps_that_fit_it(bank, tmp_path, clock, budget):
    """Half of the steps at 0.5 s and half at 1.5 s: 2 minutes hold some 100."""
    began = clock.now
    result = run(bank, tmp_path / "run", family=costing(clock, 0.5, 1.5), **{budget: 2.0})
    assert result.step == result.steps
    assert 0.85 * 120 < clock.now - began <= 120
    assert result.elapsed_s == pytest.approx(clock.now - began)


def test_audio_per_second_and_time_left(bank, tmp_path, clock):
    seen = []
    run(bank, tmp_path / "run", family=costing(clock, 0.5, 0.5), steps=40, progress=seen.append)
    now = next(now for now in seen if now.doing == "training" and now.step == 10)
    assert now.audio_s_per_s == pytest.approx(4 * 16 * 64 / 8000 / 0.5)
    assert now.eta_s == pytest.approx(15)


def test_minutes_count_over_resumes_and_steps_are_kept(bank, tmp_path, clock):
    family = costing(clock, 0.5, 0.5)

    def interrupt(now):
        if now.doing == "training" and now.step == 50:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(bank, tmp_path / "run", family=family, minutes=2.0, progress=interrupt)
    before = resume.read(tmp_path / "run")
    clock.now += 86400  # a day later, on a machine half as fast
    result = run(bank, tmp_path / "run", family=costing(clock, 1.0, 1.0), minutes=2.0)
    assert result.steps == before.config["steps"] > 190
    assert result.message == f"finished: the time is over at step {result.step} of {result.steps}"
    assert 115 < result.elapsed_s <= 121
    assert run(bank, tmp_path / "run", family=family, minutes=2.0).already
    assert checkpoint.verify(checkpoint.load(tmp_path / "run", device="cpu"), tmp_path / "run") == -math.inf


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "one of steps, minutes and cpu_minutes, not none"),
        ({"steps": 3, "minutes": 1.0}, "not steps and minutes"),
        ({"steps": 0}, "steps is 0: it must be more than 0"),
        ({"minutes": -1.0}, "minutes is -1"),
        ({"minutes": math.nan}, "minutes is nan"),
        ({"steps": 3, "device": "gpu"}, "no device 'gpu' on this machine.*cpu"),
        ({"steps": 3, "threads": 0}, "threads is 0"),
        ({"steps": 3, "save_every_s": -1.0}, "save_every_s is -1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(bank, tmp_path, config, words):
    with pytest.raises(ConfigError, match=words):
        run(bank, tmp_path / "run", **config)


def test_unknown_families_and_settings_are_refused(bank, tmp_path):
    with pytest.raises(ConfigError, match="no family 'codek': did you mean codec"):
        run(bank, tmp_path / "run", family="codek", steps=3)
    with pytest.raises(ConfigError, match=r"widht.*did you mean width"):
        run(bank, tmp_path / "run", steps=3, settings=["widht=3"])


def test_a_bank_with_nothing_to_train_on_is_refused(tmp_path):
    class Empty(tiny.TinyBank):
        def clips(self, split=None):
            return super().clips(split)[:0]

    with pytest.raises(TrainingError, match="no sounds to train on"):
        run(Empty(tmp_path / "bank"), tmp_path / "run", steps=3)


def test_a_bank_too_small_to_hold_any_sound_out_is_trained_on(tmp_path):
    class Whole(tiny.TinyBank):
        def clips(self, split=None):
            every = super().clips()
            return every[:0] if split == "validation" else every

    result = run(Whole(tmp_path / "bank", 3), tmp_path / "run", steps=20)
    assert result.score > 0
    assert "trained on" in result.judged_on
    assert "| judged on | the very sounds it was trained on" in (tmp_path / "run/card.md").read_text()
    assert "held-out sounds" not in (tmp_path / "run/report.html").read_text()


def test_validations_take_a_tenth_of_a_run_at_most(bank):
    """4 sounds a step, forward and backward, against 4 held-out and 4 seen ones forward, at a third."""
    clips = len(pace.held_out(bank))
    found = [pace.validations(clips, steps=steps, together=4) for steps in (1, 10, 30, 66, 67, 9999)]
    assert found == [1, 1, 4, 9, 10, 20]


def test_two_runs_do_not_share_a_folder(bank, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        runtime.alone_in(tmp_path / "run", runtime.World()),
        pytest.raises(TrainingError, match="another process is training in"),
    ):
        run(bank, tmp_path / "run", steps=3)


@pytest.mark.parametrize("rate", ["1e18", "1e38"])
def test_a_run_that_diverges_names_step_player_and_advice(bank, tmp_path, rate):
    folder = tmp_path / "run"
    with pytest.raises(DivergedError) as stopped:
        run(bank, folder, steps=400, settings=[f"learning_rate={rate}"], save_every_s=0.0)
    words = str(stopped.value)
    assert "of the player 'generator' became" in words
    state = resume.read(folder)
    assert f"step {state.step}: the" in words
    assert f"the state of step {state.step} is kept in {folder}" in words
    assert f"--set learning_rate={float(rate) / 2:g}" in words
    assert "\n" not in words
    tensors, _ = checkpoint.read_tensors(folder / "resume.safetensors")
    assert all(torch.isfinite(tensor).all() for name, tensor in tensors.items() if name.startswith("model."))


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path):
    def fill(now):
        if now.doing == "training" and now.step == 20:
            with pytest.raises(OSError, match="No space"):
                (disk / "filler").write_bytes(bytes(3_000_000))

    with tiny.small_disk(tmp_path / "disk", 2000) as disk:
        bank, folder = tiny.TinyBank(disk / "bank"), disk / "run"
        with pytest.raises(StorageError, match="No space left on device"):
            run(bank, folder, steps=40, progress=fill, save_every_s=0.0)
        assert resume.read(folder).step == 19
        (disk / "filler").unlink()
        assert run(bank, folder, steps=40).step == 40
        whole = run(bank, tmp_path / "whole", steps=40)
        assert (folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
        assert [line["step"] for line in read_log(folder / "log.jsonl") if line["kind"] == "train"] == list(
            range(1, 41)
        )


def test_a_read_only_folder_is_refused(bank, tmp_path):
    (tmp_path / "run").mkdir(mode=0o555)
    with tiny.ordinary_user(tmp_path / "run"), pytest.raises(StorageError, match="cannot write into"):
        run(bank, tmp_path / "run", steps=3)
    assert not list((tmp_path / "run").iterdir())


def test_the_learning_rate_warms_up_and_falls_by_half_a_cosine():
    rates = np.array([optimise.rate_at(step, 1000) for step in range(1000)])
    assert rates[:50] == pytest.approx(np.arange(1, 51) / 50)
    assert rates[-1] == pytest.approx(0.05)
    t = np.linspace(0, 1, 950)
    assert rates[50:] == pytest.approx(0.05 + 0.95 * (1 + np.cos(np.pi * t)) / 2)


@pytest.mark.parametrize("steps", [1, 2, 3, 19, 20, 21])
def test_the_shortest_runs_have_a_schedule_too(bank, tmp_path, steps):
    assert all(0.05 <= optimise.rate_at(step, steps) <= 1 for step in range(steps))
    assert run(bank, tmp_path / "run", steps=steps).step == steps


def test_an_update_is_clipped_adam_with_an_average():
    """Against the definition of AdamW and of the running average, written down in numpy."""
    model = tiny.Tiny.build(tiny.TinyConfig(learning_rate=0.01), seed=0)
    weight = model.decoder[2].weight
    w = weight.detach().double().numpy().copy()
    m, v, average = np.zeros_like(w), np.zeros_like(w), w.copy()
    update = optimise.Optimiser(model, steps=100)
    target = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    for step in range(30):
        update("generator", 50 * (weight - target).square().sum())
        update.end_step()
        gradient = 100 * (w - target.double().numpy())
        assert update.norms["generator"] == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
        gradient /= np.linalg.norm(gradient)  # clipped to a norm of 1
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        rate = 0.01 * optimise.rate_at(step, 100)
        w -= rate * (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-8)
        decay = min((1 + step) / (10 + step), 1 - 1 / 10)
        average = decay * average + (1 - decay) * w
    assert weight.detach().numpy() == pytest.approx(w, abs=1e-4)
    with update.averaged():
        assert weight.detach().numpy() == pytest.approx(average, abs=1e-4)
    assert weight.detach().numpy() == pytest.approx(w, abs=1e-4)


def test_a_players_loss_moves_nobody_else():
    model = tiny.Tiny.build(tiny.TinyConfig(), seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    update = optimise.Optimiser(model, steps=10)
    frames = torch.randn(2, 5, tiny.FRAME, generator=torch.Generator().manual_seed(1))
    update("generator", model.judge(model.decoder(model.encoder(frames))).square().mean())
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"encoder", "decoder"}
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_infinite_gradient_of_a_finite_loss_moves_nothing(value):
    model = tiny.Tiny.build(tiny.TinyConfig(), seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    update = optimise.Optimiser(model, steps=10)
    weight = model.encoder[0].weight
    weight.register_hook(lambda gradient: gradient + value)
    with pytest.raises(DivergedError, match="step 0: the gradient of the player 'generator' became"):
        update("generator", weight.square().mean())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_devices_are_named(monkeypatch):
    assert runtime.devices()[-1] == "cpu"
    assert runtime.pick_device(None) == torch.device(runtime.devices()[0])
    with pytest.raises(ConfigError, match=r"no device 'cuda:9'.*cpu"):
        runtime.pick_device("cuda:9")


@pytest.fixture(scope="module")
def piano(sounds, tmp_path_factory):
    """A bank of sixteen real notes."""
    folder = tmp_path_factory.mktemp("piano")
    (folder / "in").mkdir()
    for path in sorted((sounds / "piano").glob("*.flac"))[::7]:
        (folder / "in" / path.name).symlink_to(path)
    return SoundBank.scan(folder / "in", folder / "bank")


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("codec", ["batch=2", "seconds=0.3", "width=64"]),
        ("vae", ["batch=2"]),
    ],
)
def test_the_real_families_resume_bit_for_bit(piano, tmp_path, family, settings):
    def interrupt(now):
        if now.doing == "training" and now.step == 2:  # before the adversary joins: it must be restored as well
            signal.raise_signal(signal.SIGINT)

    run(piano, tmp_path / "straight", family=family, settings=settings, steps=4)
    with pytest.raises(KeyboardInterrupt):
        run(piano, tmp_path / "resumed", family=family, settings=settings, steps=4, progress=interrupt)
    run(piano, tmp_path / "resumed", family=family, settings=settings, steps=4)
    for name in ("model.safetensors", "snapshot.npz"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    ours, theirs = (checkpoint.read_tensors(tmp_path / f / "resume.safetensors")[0] for f in ("straight", "resumed"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    model = checkpoint.load(tmp_path / "resumed", device="cpu")
    assert checkpoint.verify(model, tmp_path / "resumed") == -math.inf
    head = json.loads(Path(tmp_path / "resumed/config.json").read_text())
    assert head["family"] == family
