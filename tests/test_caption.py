"""A sound in words: every word stands for a measured number, and what is not known is not said."""

import math

import pytest

from soundloom.caption import caption

KICK = {
    "label": "kick", "pitch": 33.1, "seconds": 0.3, "brightness_hz": 310.0, "noisiness": 0.1, "attack_s": 0.003,
    "decay_s": 0.2,
}  # fmt: skip


def test_a_kick_in_words():
    assert caption(**KICK) == "short dark kick, A1, sharp attack, 0.3 s"


@pytest.mark.parametrize(
    ("change", "there", "gone"),
    [
        ({"pitch": math.nan}, "kick, sharp", "A1"),
        ({"label": None}, "short dark note, A1", "kick"),
        ({"label": None, "pitch": math.nan}, "short dark sound", "note"),
        ({"brightness_hz": math.nan}, "short kick", "dark"),
        ({"attack_s": math.nan}, "A1, 0.3 s", "attack"),
        ({"brightness_hz": 9000.0, "noisiness": 0.9}, "short brilliant noisy kick", "dark"),
        ({"attack_s": 0.5}, "slow attack", "sharp"),
        ({"seconds": 12.0, "decay_s": 11.0}, "very long dark kick", "short"),
        ({"seconds": 4.0, "decay_s": 0.05}, "very short dark kick", "long"),  # what is heard, not the file's length
        ({"seconds": 4.0, "decay_s": math.nan}, "long dark kick", "short"),
    ],
)
def test_each_word_follows_its_number(change, there, gone):
    words = caption(**{**KICK, **change})
    assert there in words
    assert gone not in words


def test_every_value_has_words():
    for value in (0.0, 1e-6, 1.0, 1e9):
        for name in ("seconds", "brightness_hz", "noisiness", "attack_s", "decay_s"):
            assert caption(**{**KICK, name: value})
