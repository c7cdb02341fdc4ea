"""Two processes train one model together, each on half of the batch, as one process would on the whole."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from soundloom import checkpoint
from soundloom.bank import Batch
from soundloom.resume import keyed_generator
from soundloom.runlog import read_log
from soundloom.train import TrainConfig, fit

pytestmark = pytest.mark.alone

STEPS = 40

TOGETHER = """
import json, os, signal, sys
from pathlib import Path
import test_distributed, tiny, torch
from soundloom import errors, optimise, resume, runtime

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
told = {}

# The exchange itself, against what can be said by hand.
world = runtime.joined(torch.device("cpu"))
a, b, c = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
a.grad = torch.full((2, 3), 1.0 + 2 * rank)      # mean of 1 and 3
b.grad = torch.full((2, 3), 4.0) if rank else None   # the other process did not reach it: counts as zeros
loss = world.mean_gradients([a, b, c], torch.tensor(10.0 * rank))
told["mean"] = [float(loss), a.grad.tolist(), b.grad.tolist(), c.grad]
told["agree"] = world.agree(rank == 1, False, True)
told["leaders"] = world.leaders(100 + rank)
told["leads"] = world.leads

# A loss that is not finite in one process stops both, and moves neither.
model = tiny.Tiny.build(tiny.TinyConfig(), seed=0)
before = [p.detach().clone() for p in model.parameters()]
update = optimise.Optimiser(model, steps=10, world=world)
loss = sum(p.square().sum() for p in model.parameters()) * (float("nan") if rank else 1.0)
try:
    update("generator", loss)
except errors.DivergedError as error:
    told["diverged"] = str(error)
told["unmoved"] = all(torch.equal(p, q) for p, q in zip(model.parameters(), before))


# A run, interrupted in one process alone and resumed by both.
def watch(now):
    if now.doing == "training" and now.step == 11:
        signal.raise_signal(signal.SIGINT)
try:
    test_distributed.run(folder, batch=4, bank=tiny.TinyBank(folder.parent / "bank"), progress=watch)
except KeyboardInterrupt:
    told["interrupted"] = resume.read(folder).step
result = test_distributed.run(folder, batch=4, bank=tiny.TinyBank(folder.parent / "bank"))
told["result"] = [result.step, result.message]
Path(f"{folder}-{rank}.json").write_text(json.dumps(told))
"""

ALONE = """
import sys
from pathlib import Path
import test_distributed
test_distributed.run(Path(sys.argv[1]), batch=8, bank=test_distributed.both_halves(Path(sys.argv[1]).parent / "bank"))
"""


def run(folder, *, batch, bank, progress=None):
    settings = [f"batch={batch}", "noise=0"]
    config = TrainConfig(steps=STEPS, seed=5, threads=1, device="cpu")
    return fit(tiny.Tiny, bank, config, folder, settings=settings, progress=progress)


def both_halves(folder):
    """A bank that draws, in one process, what two processes would."""

    class BothHalves(tiny.TinyBank):
        step = 0

        def draw(self, spec, *, split, generator):
            half = replace(spec, size=spec.size // 2)
            first = super().draw(half, split=split, generator=generator)
            second = super().draw(half, split=split, generator=keyed_generator(5, "step", self.step, 1))
            self.step += 1
            merged = {
                name: torch.cat([getattr(first, name), getattr(second, name)])
                for name in ("audio", "lengths", "f0_hz", "voiced", "inharmonicity", "clips")
            }
            return Batch(**merged, condition=first.condition)

    return BothHalves(folder)


def launch(*command):
    path = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=os.environ | path, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    (folder / "script.py").write_text(TOGETHER)
    launch(
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(folder / "script.py"),
        str(folder / "run"),
    )
    return folder / "run"


def told(folder):
    return [json.loads(Path(f"{folder}-{rank}.json").read_text()) for rank in (0, 1)]


def test_gradients_are_averaged_and_decisions_shared(together):
    for rank, facts in enumerate(told(together)):
        assert facts["mean"] == [5.0, [[2.0] * 3] * 2, [[2.0] * 3] * 2, None]
        assert facts["agree"] == [True, False, True]
        assert facts["leaders"] == 100
        assert facts["leads"] == (rank == 0)


def test_a_nan_in_one_process_stops_both(together):
    for facts in told(together):
        assert "the loss of the player 'generator' became nan" in facts["diverged"]
        assert facts["unmoved"]


def test_an_interrupt_in_one_process_saves_and_stops_both(together):
    leader, other = told(together)
    assert leader["interrupted"] == 11  # the step that the other one was at, too
    assert "interrupted" in other
    for facts in (leader, other):
        assert facts["result"] == [STEPS, f"finished: {STEPS} steps"]


def test_two_processes_do_what_one_does_with_the_double_batch(together, tmp_path):
    alone = tmp_path / "alone"
    launch("-c", ALONE, str(alone))
    ours, _ = checkpoint.read_tensors(together / "resume.safetensors")
    theirs, _ = checkpoint.read_tensors(alone / "resume.safetensors")
    assert ours.keys() == theirs.keys()
    started = tiny.Tiny.build(tiny.TinyConfig(batch=4, noise=0), seed=5).state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2e-3, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")
        if name.startswith("model."):
            moved = (tensor - started[name.removeprefix("model.")]).abs().max()
            assert moved > 0.01, f"{name} has learnt nothing: the comparison would say nothing"
    scores = [
        [line["losses"]["score"] for line in read_log(f / "log.jsonl") if line["kind"] == "validation"]
        for f in (together, alone)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
