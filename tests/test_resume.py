"""A run that was interrupted and resumed is the run that was not, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from soundloom import checkpoint, resume
from soundloom.errors import ModelError, TrainingError
from soundloom.runlog import Log, read_log
from soundloom.train import TrainConfig, fit

STEPS = 60
SETTINGS = ["width=16", "noise=0.1"]


def run(folder, *, seed=5, steps=STEPS, settings=SETTINGS, sounds=24, progress=None, **changes):
    config = TrainConfig(steps=steps, seed=seed, threads=1, device="cpu", **changes)
    return fit(
        tiny.Tiny, tiny.TinyBank(folder.parent / "bank", sounds), config, folder, settings=settings, progress=progress
    )


def interrupt_at(*steps):
    """Presses Ctrl-C when a run reaches these steps."""

    def watch(now):
        if now.doing == "training" and now.step in steps:
            signal.raise_signal(signal.SIGINT)

    return watch


def told(folder):
    """The log without the clock."""
    return [{k: v for k, v in line.items() if k != "elapsed_s"} for line in read_log(folder / "log.jsonl")]


def same_run(a, b):
    for name in ("model.safetensors", "snapshot.npz", "config.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    tensors_a, facts_a = checkpoint.read_tensors(a / "resume.safetensors")
    tensors_b, facts_b = checkpoint.read_tensors(b / "resume.safetensors")
    assert tensors_a.keys() == tensors_b.keys()
    for name, tensor in tensors_a.items():
        assert torch.equal(tensor, tensors_b[name]), name
    a_facts, b_facts = json.loads(facts_a["soundloom"]), json.loads(facts_b["soundloom"])
    assert {k: v for k, v in a_facts.items() if k not in ("elapsed_s", "cpu_s")} == {
        k: v for k, v in b_facts.items() if k not in ("elapsed_s", "cpu_s")
    }
    assert told(a) == told(b)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(folder)
    return folder


@pytest.mark.parametrize("stops", [(1,), (29, 30, 31), (7, 41, 59)])
def test_ctrl_c_saves_and_the_same_command_goes_on_bit_for_bit(straight, tmp_path, stops):
    folder = tmp_path / "run"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(folder, progress=interrupt_at(stop))
        assert resume.read(folder).step == stop
    result = run(folder)
    assert (result.step, result.already) == (STEPS, False)
    same_run(straight, folder)


def test_the_same_seed_is_the_same_run_whatever_was_drawn_before(straight, tmp_path):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    before = torch.get_rng_state()
    run(tmp_path / "run")
    same_run(straight, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_is_another_run(straight, tmp_path):
    run(tmp_path / "run", seed=6)
    assert (tmp_path / "run/model.safetensors").read_bytes() != (straight / "model.safetensors").read_bytes()


def test_listening_and_saving_often_change_nothing(tmp_path):
    run(tmp_path / "quiet/run", steps=12)
    run(tmp_path / "often/run", steps=12, preview_every_s=0.0, save_every_s=0.0)
    same_run(tmp_path / "quiet/run", tmp_path / "often/run")
    assert len(list((tmp_path / "quiet/run/previews").glob("step-*-new-0.wav"))) == 1
    assert len(list((tmp_path / "often/run/previews").glob("step-*-new-0.wav"))) == 12


def test_a_finished_run_says_so_and_stays_as_it_is(straight):
    before = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    result = run(straight)
    assert result.already
    assert result.message == f"finished: {STEPS} steps"
    assert {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 6}, "seed 5, this one has 6"),
        ({"steps": 61}, "steps 60, this one has 61"),
        ({"settings": ["width=17"]}, "settings width=16 noise=0.1, this one has width=17"),
        ({"settings": []}, "this one has none"),
        ({"sounds": 30}, "data"),
    ],
)
def test_another_run_in_the_folder_is_refused(straight, changes, words):
    with pytest.raises(TrainingError, match=words) as refused:
        run(straight, **changes)
    assert "choose another folder with -o" in str(refused.value)


def test_a_model_without_a_run_is_not_overwritten(straight, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model.safetensors").write_bytes((straight / "model.safetensors").read_bytes())
    with pytest.raises(TrainingError, match="no run to resume"):
        run(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["model.safetensors"]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_damaged_resume_file_is_refused(straight, tmp_path, part):
    (tmp_path / "run").mkdir()
    data = (straight / "resume.safetensors").read_bytes()
    (tmp_path / "run/resume.safetensors").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ModelError, match=r"resume\.safetensors is damaged"):
        run(tmp_path / "run")


def test_a_resume_file_from_another_version_is_refused(straight, tmp_path):
    (tmp_path / "run").mkdir()
    checkpoint.write_tensors(tmp_path / "run/resume.safetensors", {}, {"soundloom": json.dumps({"format": 99})})
    with pytest.raises(TrainingError, match="another version"):
        run(tmp_path / "run")


def test_lines_past_the_resumed_step_and_half_lines_are_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    whole = [{"step": step, "kind": "train", "losses": {"a": step / 3}} for step in (10, 20, 30)]
    path.write_text("".join(json.dumps(line) + "\n" for line in whole) + '{"step": 40, "ki')
    log = Log(path, step=20)
    log.write(30, "train", {"a": 7.0}, elapsed_s=1.0)
    log.write(30, "validation", {"score": float("nan")}, elapsed_s=1.0)
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[:2] == whole[:2]
    assert [(line["step"], line["losses"]) for line in lines[2:]] == [(30, {"a": 7.0}), (30, {"score": None})]


def test_resume_json_tells_where_a_run_stands(straight):
    facts = json.loads((straight / "resume.json").read_text())
    assert (facts["step"], facts["family"], facts["config"]["steps"]) == (STEPS, "tiny", STEPS)
    assert facts["finished"] == f"finished: {STEPS} steps"


def test_ctrl_c_and_a_polite_kill_of_a_process_save(straight, tmp_path):
    """In a process of its own: 130 is for the command line to say, here the interrupt comes through after saving."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2]); import test_resume\n"
        "number = getattr(signal, sys.argv[3])\n"
        "def watch(now):\n"
        "    if now.doing == 'training' and now.step == 33: os.kill(os.getpid(), number)\n"
        "try: test_resume.run(Path(sys.argv[1]), progress=watch)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    here = str(Path(__file__).parent)
    for name in ("SIGINT", "SIGTERM"):
        folder = tmp_path / name / "run"
        arguments = [sys.executable, "-c", code, str(folder), here, name]
        shown = subprocess.run(arguments, capture_output=True, text=True, env=os.environ)
        assert shown.stdout.strip() == "interrupted", shown.stderr
        assert resume.read(folder).step == 33
    run(folder)
    same_run(straight, folder)
