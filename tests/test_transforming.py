"""A codec between microphone and loudspeakers: what it makes of a stream goes out, as late as it says, without gaps."""

import json
from dataclasses import replace

import jackserver
import numpy as np
import pytest
import torch
from test_models import CODEC, VAE, VAEConfig
from test_models import RATE as MODEL_RATE

from soundloom import checkpoint
from soundloom.checkpoint import Card
from soundloom.errors import ConfigError, ModelError
from soundloom.live import Way
from soundloom.models.codec import Codec
from soundloom.models.live import LiveCodec
from soundloom.rates import Resampler
from soundloom.run import Run
from soundloom.terminal import Terminal
from soundloom.transforming import Transformer, transform

BLOCK = 128


@pytest.fixture(scope="module")
def live():
    torch.manual_seed(0)
    return LiveCodec(Codec.build(replace(CODEC, causal=True), seed=1).eval())


def melody(seconds, rate):
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sign(np.sin(2 * np.pi * 3 * t))).astype(np.float32)


def through(transformer, sound, *, asleep=()):
    """What goes out where `sound` comes in, block by block; the codec does not work in the blocks `asleep`."""
    out, parts = np.zeros((2, BLOCK), np.float32), []
    for k in range(len(sound) // BLOCK):
        block = sound[k * BLOCK : (k + 1) * BLOCK]
        transformer.render(np.stack([block, block]), out, [])
        parts.append(out[0].copy())
        if k not in asleep:
            transformer.pump()
    return np.concatenate(parts)


@pytest.mark.parametrize("rate", [MODEL_RATE, 48000])
def test_what_goes_out_is_what_the_codec_makes_as_late_as_told(live, rate):
    sound = melody(1.5, rate)
    transformer = Transformer(live, sample_rate=rate, block=BLOCK, transpose=5.0, seed=3)
    out = through(transformer, sound)
    down, up = Resampler(rate, MODEL_RATE), Resampler(MODEL_RATE, rate)
    heard = torch.from_numpy(down.process(sound))
    made, _ = live.process(heard, live.init_state(seed=3), transpose=5.0)
    wanted = up.process(made.numpy())
    assert transformer.gaps == 0
    late = round((transformer.latency_s - live.latency / MODEL_RATE - down.latency_s - up.latency_s) * rate)
    assert 0 < late <= 2 * BLOCK + 0.025 * rate
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(out[late:], wanted[: len(out) - late], atol=1e-4 * np.abs(wanted).max())


def test_a_codec_that_falls_behind_leaves_a_gap_and_goes_on_later(live):
    sound = melody(1.5, MODEL_RATE)
    smooth = Transformer(live, sample_rate=MODEL_RATE, block=BLOCK)
    held_up = Transformer(live, sample_rate=MODEL_RATE, block=BLOCK)
    whole = through(smooth, sound)
    out = through(held_up, sound, asleep=range(100, 130))
    assert held_up.gaps == 1
    assert "1 gaps" in held_up.news()[0]
    later = round((held_up.latency_s - smooth.latency_s) * MODEL_RATE)
    assert 0 < later < 30 * BLOCK
    np.testing.assert_allclose(out[-4000:], whole[-4000 - later : -later], atol=1e-5)


def test_nothing_that_is_no_number_gets_into_the_codec(live):
    sound = melody(0.6, MODEL_RATE)
    sound[2000:2100] = np.nan
    assert np.isfinite(through(Transformer(live, sample_rate=MODEL_RATE, block=BLOCK), sound)).all()


def test_an_error_in_its_thread_is_kept_for_whoever_watches(live, monkeypatch):
    with Transformer(live, sample_rate=MODEL_RATE, block=BLOCK) as transformer:
        monkeypatch.setattr(transformer.codec, "process", lambda *arguments, **more: 1 / 0, raising=False)
        transformer.render(np.zeros((2, BLOCK), np.float32), np.zeros((2, BLOCK), np.float32), [])
        assert jackserver.until(lambda: transformer.error is not None)
    assert isinstance(transformer.error, ZeroDivisionError)


def test_the_command_plays_a_microphone_through_a_run(live, tmp_path, capsys):
    card = Card("tones", "0", 1, "none", 0)
    checkpoint.save(live.codec, tmp_path / "run", card=card)
    record = tmp_path / "a.wav"

    def drive(client):
        return jackserver.until(lambda: record.exists() and record.stat().st_size > 6 * 24_000)

    arguments = ["transform", str(tmp_path / "run"), "--driver", "jack", "--transpose", "-7", "--json"]
    with jackserver.server():
        code, recorded = jackserver.run_beside([*arguments, "--record", str(record)], drive)
    assert recorded
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["transpose"] == -7
    assert told["codec_latency_ms"] == pytest.approx(1000 * live.latency / MODEL_RATE)
    assert told["way_through_ms"] > told["codec_latency_ms"]


def test_what_cannot_be_transformed_is_refused(tmp_path):
    looks_ahead = Run(tmp_path, Codec.build(CODEC, seed=1))
    with pytest.raises(ModelError, match="--set causal=true"):
        transform(looks_ahead, Way(), terminal=Terminal())
    with pytest.raises(ModelError, match="a vae does not play what it hears"):
        transform(Run(tmp_path, VAE.build(VAEConfig(sample_rate=MODEL_RATE), seed=1)), Way(), terminal=Terminal())
    with pytest.raises(ConfigError, match="-48 to 48"):
        transform(looks_ahead, Way(), transpose=60.0, terminal=Terminal())
