"""Pitch on a stream: the same in any split, the same windows as offline, and nearly the same decisions."""

import copy

import numpy as np
import pytest
import torch
from test_pitch import cents, piano, tone

from soundloom.errors import ConfigError
from soundloom.follow import init_pitch_state, track_step
from soundloom.pitch import candidates, track_pitch

SETTING = {"sample_rate": 44100, "hop_length": 512}


def followed(audio, splits, **setting):
    state, told = init_pitch_state(**(SETTING | setting)), []
    for block in audio.split(splits):
        track, state = track_step(block, state)
        told.append(track.f0_hz[0])
    return torch.cat(told).numpy(), state


@pytest.mark.parametrize("f0", [27.5, 41.2, 98.0, 220.0, 1108.7, 4186.0])
@pytest.mark.parametrize("delay", [0, 2])
def test_steady_tones_are_right_within_ten_cents(f0, delay):
    found, _ = followed(tone(f0, noise_db=-60)[0], 512, delay=delay)
    assert np.abs(cents(found[8:-8], f0)).max() < 10


@pytest.mark.parametrize("splits", [1, 100, 512, 2048, [7, 5000, 1, 0, 512, 16530]])
def test_any_split_gives_the_same_pitch_bit_for_bit(splits):
    audio = torch.cat([tone(220.0)[0, :9000], 0.01 * torch.randn(4050, generator=torch.Generator().manual_seed(0))])
    audio = torch.cat([audio, tone(73.0)[0, :9000]])
    whole, _ = followed(audio, len(audio))
    parts, _ = followed(audio, splits)
    assert np.array_equal(parts, whole)
    assert (whole > 0).any()
    assert (whole == 0).any()


@pytest.mark.parametrize(("sample_rate", "hop_length"), [(8000, 128), (16000, 256), (44100, 256), (96000, 1024)])
def test_frames_are_heard_as_offline_and_no_later_than_said(sample_rate, hop_length):
    setting = {"sample_rate": sample_rate, "hop_length": hop_length}
    audio = tone(150.0, sample_rate=sample_rate, seconds=0.5, noise_db=-40)[0]
    offline = candidates(audio[None], **setting)
    state, n = init_pitch_state(**setting, delay=0), 0
    for block in audio.split(hop_length):
        _, state = track_step(block, state)
        if state.frame > n:
            assert np.array_equal(state.f0_hz[-1], offline.f0_hz[0, n])
            assert np.array_equal(state.score[-1], offline.score[0, n])
            n = state.frame
    assert n == (len(audio) - state.follower.latency - hop_length // 2) // hop_length + 1


def test_a_frame_is_told_as_soon_as_its_latency_is_over():
    state = init_pitch_state(**SETTING, delay=3)
    due = SETTING["hop_length"] // 2 + state.follower.latency
    track, state = track_step(torch.zeros(due - 1), state)
    assert track.f0_hz.shape == (1, 0)
    track, state = track_step(torch.zeros(1), state)
    assert track.f0_hz.shape == track.voiced.shape == track.confidence.shape == (1, 1)


def test_states_stand_for_themselves():
    audio = torch.cat([tone(220.0)[0, :9000], tone(330.0)[0, :9000]])
    whole, _ = followed(audio, 512)
    first, state = followed(audio[:9000], 512)
    for stream in (state, copy.deepcopy(state)):
        rest, _ = track_step(audio[9000:], copy.deepcopy(stream))
        assert np.array_equal(np.concatenate([first, rest.f0_hz[0].numpy()]), whole)


def test_piano_notes_are_named_right_on_a_stream(sounds):
    files = sorted((sounds / "piano").glob("*.flac"))[::3]
    right, agree = 0, []
    for path in files:
        f0, audio, rate = piano(path)
        assert rate == SETTING["sample_rate"]
        found, _ = followed(audio[0], 2048)
        right += bool((found > 0).any()) and abs(cents(np.median(found[found > 0]), f0)) < 60
        offline = track_pitch(audio, **SETTING).f0_hz[0, : len(found)].numpy()
        near = np.abs(cents(np.maximum(found, 1), np.maximum(offline, 1))) < 60
        agree.append(near.mean())
    assert right >= 0.97 * len(files)
    assert np.mean(agree) > 0.98


def test_refusals():
    with pytest.raises(ConfigError, match="delay is -1"):
        init_pitch_state(**SETTING, delay=-1)
    with pytest.raises(ConfigError, match="up to 2048"):
        init_pitch_state(sample_rate=44100, hop_length=4096)
    with pytest.raises(ConfigError, match=r"one signal \[T\]"):
        track_step(torch.zeros(1, 5), init_pitch_state(**SETTING))
