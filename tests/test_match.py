"""Knobs that were hidden are found, or sounds as close; what is asked wrongly is refused; Ctrl-C keeps the best."""

import json
import sys

import numpy as np
import pytest
from contract import play

from soundloom import cli
from soundloom.audio import Waveform, write
from soundloom.errors import AudioError, ConfigError
from soundloom.instruments.base import Event
from soundloom.instruments.engines import engine
from soundloom.instruments.patch import load
from soundloom.match import RATE, match

HIDDEN = {
    "pluck": {"decay_s": 1.2, "damping": 0.7, "brightness": 0.3, "body": 0.9, "pick_position": 0.4, "noise": 0.05},
    "subtractive": {"osc1_shape": 0.2, "cutoff_hz": 700.0, "attack_s": 0.1, "decay_s": 0.5, "sustain": 0.2},
}


def hidden(name, seconds=0.7, pitch=57.0):
    audio = play(engine(name)(HIDDEN[name], voices=1), [Event(0, "on", 1, pitch, 0.8)], round(seconds * RATE))
    return Waveform(np.atleast_2d(audio).mean(axis=0, keepdims=True).astype(np.float32), RATE)


@pytest.mark.parametrize("name", HIDDEN)
def test_a_sound_of_the_engine_is_come_close_to(name):
    found = match(hidden(name), name, tries=500, seed=1)
    assert found.pitch == pytest.approx(57, abs=0.2)
    assert found.after < 0.5 * found.before
    assert found.tries <= 508


def test_what_is_found_is_never_worse_than_the_start():
    t = np.arange(RATE) / RATE
    target = Waveform((0.3 * np.exp(-3 * t) * np.sin(2 * np.pi * 447.7 * t))[None].astype(np.float32), RATE)
    for seed in range(3):
        found = match(target, "subtractive", tries=10, seed=seed)
        assert found.after <= found.before


def test_the_same_seed_finds_the_same():
    first, second, other = (match(hidden("pluck"), "pluck", tries=120, seed=seed) for seed in (3, 3, 4))
    assert first.settings == second.settings
    assert first.settings != other.settings


def test_the_level_is_the_targets():
    """Whatever the level of the file: targets are brought to a peak of a half, and what is found to their power."""
    target = hidden("pluck")
    found = match(Waveform(target.samples * np.float32(0.05), RATE), "pluck", tries=40)
    power = np.mean(target.samples**2) * (0.5 / np.abs(target.samples).max()) ** 2
    assert np.mean(found.sound.samples**2) == pytest.approx(power, rel=0.02)


def test_noise_has_its_pitch_looked_for():
    noise = np.random.default_rng(0).standard_normal((1, RATE // 3)) * np.exp(-np.arange(RATE // 3) / 2000)
    found = match(Waveform(noise.astype(np.float32), RATE), "drums", tries=60)
    assert 24 <= found.pitch <= 96
    assert np.isfinite(found.after)


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(ConfigError, match="plays what it is given"):
        match(hidden("pluck"), "sampler")
    with pytest.raises(ConfigError, match="did you mean pluck"):
        match(hidden("pluck"), "pluk")
    with pytest.raises(AudioError, match="silent"):
        match(Waveform(np.zeros((1, 1000), np.float32), RATE), "pluck")
    with pytest.raises(ConfigError, match="minutes"):
        match(hidden("pluck"), "pluck", minutes=0)
    with pytest.raises(ConfigError, match="1 or more"):
        match(hidden("pluck"), "pluck", tries=0)


def test_on_the_command_line(tmp_path, capsys):
    write(tmp_path / "target.wav", hidden("pluck"))
    out, wav = tmp_path / "found.toml", tmp_path / "found.wav"
    command = ["match", str(tmp_path / "target.wav"), "--engine", "pluck", "--tries", "80", "-o", str(out)]
    assert cli.run([*command, "--wav", str(wav), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["after"] < document["before"]
    assert load(out).parameters == pytest.approx(document["parameters"])
    assert wav.exists()


def test_an_interruption_keeps_the_best_so_far(tmp_path, monkeypatch):
    write(tmp_path / "target.wav", hidden("pluck"))
    trial = sys.modules["soundloom.match"]._Trial
    cost = trial.cost

    def stopped(self, point):
        if self.tries == 30:
            raise KeyboardInterrupt
        return cost(self, point)

    monkeypatch.setattr(trial, "cost", stopped)
    out = tmp_path / "found.toml"
    command = ["match", str(tmp_path / "target.wav"), "--engine", "pluck", "--tries", "80", "-o", str(out)]
    assert cli.run(command) == 130
    assert load(out).engine == "pluck"
