"""`kill -9` at any moment: the run goes on from its last save, and ends as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from test_resume import run, same_run

from soundloom import checkpoint, resume

pytestmark = pytest.mark.alone

STEPS = 150
KILLS = 16  # that came after some progress

# A process that has everything imported and forks the runs it kills: a fresh interpreter for each would cost seconds.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import test_resume, torch
from soundloom import checkpoint, errors, resume

folder, kills, dice = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
torch.set_num_threads(1)
test_resume.run(folder.parent / "warm/run", steps=3)  # loads what torch loads on first use
steps, whole, torn, ended, longest_s = [0], 0, 0, False, 0.05
while not ended:
    child = os.fork()
    if child == 0:
        # saving after every step, so that most of the time goes into saving
        test_resume.run(folder, steps=int(sys.argv[4]), save_every_s=0.0, preview_every_s=1.0)
        os._exit(0)
    if len(set(steps)) <= kills:
        time.sleep(dice.uniform(0.0, longest_s))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    ended = not os.WIFSIGNALED(status)
    assert not ended or status == 0
    state = resume.read(folder)  # whole at any moment
    steps.append(state.step if state else 0)
    if steps[-1] == steps[-2]:
        longest_s *= 1.2  # a busy machine: give the next one more time
    if (folder / "model.safetensors").exists():
        model = checkpoint.load(folder, device="cpu")  # whole at any moment, too
        try:
            checkpoint.verify(model, folder)
            whole += 1
        except errors.ModelError as error:
            assert "cut short" in str(error), error
            torn += 1
print(json.dumps({"steps": steps, "whole": whole, "torn": torn}))
"""


def test_a_run_killed_many_times_is_the_run_that_was_not(tmp_path):
    seed = random.randrange(1000)
    path = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "killed/run"
    arguments = [sys.executable, "-c", KILLER, str(folder), str(KILLS), str(seed), str(STEPS)]
    shown = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | path)
    assert shown.returncode == 0, f"seed {seed}: {shown.stderr}"
    outcome = json.loads(shown.stdout)
    assert outcome["steps"] == sorted(outcome["steps"]), "no saved step was ever lost"
    in_the_middle = {step for step in outcome["steps"] if 0 < step < STEPS}
    assert len(in_the_middle) >= 5, f"the kills came too early or too late to say anything: {outcome}"
    run(tmp_path / "straight/run", steps=STEPS)
    same_run(tmp_path / "straight/run", folder)
    checkpoint.verify(checkpoint.load(folder, device="cpu"), folder)
    assert resume.read(folder).finished
    assert not list(folder.rglob("*.part")), "what a kill left half-written is cleared away"
