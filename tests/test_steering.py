"""Whether new sounds follow what is asked: one that listens is told from one that does not."""

from types import SimpleNamespace

import numpy as np

from soundloom.audio import Waveform
from soundloom.condition import DESCRIPTORS
from soundloom.models.base import EVERYTHING
from soundloom.steering import steering

RATE = 22050


class Bank:
    """Brightness from 500 to 5000 Hz; what else is measured stands where it stands."""

    def quantile(self, name, values):
        return np.clip((values - 500) / 4500, 0, 1) if name == "brightness" else values


class Listener:
    """Noise around a frequency that follows the brightness asked, or does not."""

    family, model = "listener", SimpleNamespace(conditions=EVERYTHING)

    def __init__(self, listens):
        self.listens = listens

    def sample_as(self, condition, *, seed):
        random, made = np.random.default_rng(seed), []
        for row in condition.descriptors.numpy():
            asked = row[DESCRIPTORS.index("brightness")]
            hertz = 800 + 4000 * (asked if self.listens and np.isfinite(asked) else random.random())
            tone = np.sin(2 * np.pi * hertz * np.arange(RATE // 3) / RATE) * np.exp(-np.arange(RATE // 3) / 2000)
            made.append(Waveform((0.5 * tone + 0.001 * random.normal(size=len(tone)))[None].astype(np.float32), RATE))
        return made


def test_one_that_listens_follows_and_one_that_does_not_does_not():
    follows, deaf = (
        {figure.name: figure.value for figure in steering(Listener(listens), Bank(), seed=1).figures}
        for listens in (True, False)
    )
    assert follows["follows_brightness"] > 0.98
    assert abs(deaf["follows_brightness"]) < 0.5
    assert abs(follows.get("follows_attack", 0.0)) < 0.5


def test_a_family_that_is_told_nothing_says_which_are():
    listener = Listener(True)
    listener.model = SimpleNamespace(conditions=frozenset({"label"}))
    section = steering(listener, Bank(), seed=0)
    assert section.figures == ()
    assert "flow" in section.why_not
