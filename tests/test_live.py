"""The codec on a stream: any split gives what the whole gives, as late as it says, in tune and transposed."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from test_models import CODEC, HOP, RATE, peak_hz, tones, train

from soundloom.errors import AudioError, ModelError
from soundloom.follow import init_pitch_state, track_step
from soundloom.models.codec import Codec
from soundloom.models.live import LiveCodec


@pytest.fixture(scope="module")
def live():
    """A causal codec that knows four tones, and silence."""
    model = Codec.build(replace(CODEC, causal=True), seed=1)
    batch = tones()
    batch.audio[..., 16 * HOP :] = 0.0
    batch.f0_hz[..., 16:] = 0.0
    batch.voiced[..., 16:] = 0.0
    train(model, batch, 80)
    return LiveCodec(model.eval())


def melody(seconds: float = 1.0) -> torch.Tensor:
    """220 Hz, a pause, and 330 Hz with a little hiss: [T]."""
    t = torch.arange(int(seconds * RATE)) / RATE
    third = len(t) // 3
    f0 = torch.where(t < t[third], 220.0, 330.0)
    sound = sum(torch.sin(2 * math.pi * p * f0 * t) / p for p in range(1, 5)) * 0.2
    sound[third : third + 1500] = 0.0
    return sound + 1e-4 * torch.randn(len(t), generator=torch.Generator().manual_seed(0))


def stream(live, audio, splits, *, seed=0, transpose=0.0):
    state, made = live.init_state(seed=seed), []
    for block in audio.split(splits):
        out, state = live.process(block, state, transpose=transpose)
        assert out.shape == block.shape
        made.append(out)
    return torch.cat(made)


def offline(live, audio, *, seed=0):
    """The same pitch as on the stream, the whole sound at once."""
    later = torch.nn.functional.pad(audio, (0, live.latency))
    track, _ = track_step(later, init_pitch_state(sample_rate=RATE, hop_length=HOP, delay=live.delay))
    f0_hz = track.f0_hz[None, :, : -(-len(audio) // HOP)]
    return live.codec.decode(live.codec.encode(audio[None, None], f0_hz=f0_hz), seed=seed)[0, 0]


@pytest.mark.parametrize("splits", [16000, HOP, 64, 1000, 2048, [1, 5000, 3, 255, 257, 10484]])
def test_any_split_gives_what_the_whole_gives_only_later(live, splits):
    audio = melody()
    whole = offline(live, audio, seed=3)
    streamed = stream(live, audio, splits, seed=3)
    late = live.latency
    assert not streamed[:late].any()
    assert whole[:-late].abs().max() > 0.05
    assert (streamed[late:] - whole[: len(audio) - late]).abs().max() < 1e-4


def test_an_onset_comes_as_late_as_it_says(live):
    audio = torch.zeros(RATE)
    audio[4000:] = melody()[:12000]
    heard = stream(live, audio, 333).abs()
    onset = int((heard > 0.05).float().argmax())
    assert abs(onset - 4000 - live.latency) < 2 * HOP


@pytest.mark.parametrize("semitones", [0.0, -5.0, 0.5, 7.0])
def test_the_stream_is_transposed_exactly(live, semitones):
    t = torch.arange(2 * RATE) / RATE
    for f0 in (220.0, 330.0):
        sound = sum(torch.sin(2 * math.pi * p * f0 * t) / p for p in range(1, 5)) * 0.2
        made = stream(live, sound, 700, transpose=semitones)[RATE // 2 :]
        wanted = f0 * 2 ** (semitones / 12)
        assert abs(1200 * math.log2(peak_hz(made, wanted) / wanted)) < 5


def test_silence_stays_silent(live):
    quiet = stream(live, torch.zeros(RATE), 512)
    assert torch.isfinite(quiet).all()
    assert 20 * math.log10(float(quiet.square().mean().sqrt()) + 1e-9) < -50


def test_the_untrained_and_the_extreme_are_finite():
    live = LiveCodec(Codec.build(replace(CODEC, causal=True), seed=2).eval())
    for sound in (torch.zeros(8000), torch.ones(8000), torch.randn(8000).sign(), 1e-6 * torch.randn(8000)):
        assert torch.isfinite(stream(live, sound, 1024, transpose=24.0)).all()


def test_state_is_a_value(live):
    audio = melody()
    whole = stream(live, audio, 400, seed=1)
    one, other = live.init_state(seed=1), live.init_state(seed=2)
    first, one = live.process(audio[:7000], one)
    _, other = live.process(audio.flip(0), other)  # another stream through the same model
    kept = copy.deepcopy(one)
    rest = [live.process(audio[7000:], state)[0] for state in (one, kept)]
    assert torch.equal(rest[0], rest[1])
    assert (torch.cat([first, rest[0]]) - whole).abs().max() < 1e-4


def test_refusals_teach(live):
    with pytest.raises(ModelError, match="--set causal=true"):
        LiveCodec(Codec.build(CODEC, seed=1))
    with pytest.raises(AudioError, match=r"\[1, 5\]"):
        live.process(torch.zeros(1, 5), live.init_state())
    with pytest.raises(AudioError, match="NaN"):
        live.process(torch.full((5,), math.nan), live.init_state())


def test_a_player_may_write_into_its_block(live):
    made, _ = live.process(melody()[:6000], live.init_state())
    before = made.clone()
    made *= 0.5
    assert torch.equal(made, 0.5 * before)
