"""The demo's phrase suits the bank: tunes on what has a pitch, beats on what has none."""

from types import SimpleNamespace

import numpy as np
import pytest

from soundloom.phrase import EIGHTH_S, compose, merged


def bank(**labels: tuple[float, float, float]) -> SimpleNamespace:
    """Ten sounds a label, given as (lowest pitch, seconds, brightness); the pitches are a semitone apart."""
    rows = [
        (label, low + i, seconds, bright)
        for label, (low, seconds, bright) in labels.items()
        for i in range(10)
    ]  # fmt: skip
    columns = dict(
        zip(("label", "pitch", "seconds", "brightness_hz"), map(np.array, zip(*rows, strict=True)), strict=True)
    )
    return SimpleNamespace(labels=tuple(sorted(labels)), column=columns.__getitem__, __len__=lambda: len(rows))


NAN = float("nan")
FACTORY = {
    "bass": (30, 1.0, 260), "hat": (NAN, 0.3, 12000), "kick": (NAN, 0.7, 500),
    "pluck": (58, 1.8, 3000), "snare": (NAN, 0.3, 9000),
}  # fmt: skip


def test_every_label_gets_what_it_can_play():
    parts = compose(bank(**FACTORY))
    assert [part.label for part in parts] == ["pluck", "bass", "kick", "snare", "hat"]
    for channel, part in enumerate(parts):
        assert {note.channel for note in part.notes} == {channel}
    pluck, bass = ([note.pitch for note in part.notes] for part in parts[:2])
    assert max(bass) < min(pluck)
    assert min(pluck) % 12 == 9.0, "home is an A"
    assert merged(parts).seconds == pytest.approx(32 * EIGHTH_S, abs=2 * EIGHTH_S)
    starts = [note.start_s for note in merged(parts).notes]
    assert starts == sorted(starts)


def test_drums_alone_make_a_beat_and_a_tune_alone_a_tune():
    drums = compose(bank(kick=FACTORY["kick"], hat=FACTORY["hat"]))
    assert [part.label for part in drums] == ["kick", "hat"]
    assert [part.label for part in compose(bank(pluck=FACTORY["pluck"]))] == ["pluck"]
