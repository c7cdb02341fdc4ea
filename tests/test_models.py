"""What every family keeps to, and what the decoder they share does to a tone, an onset and a stream."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from soundloom import losses, spectral
from soundloom.bank import Batch
from soundloom.condition import Condition
from soundloom.errors import ConditionError, ConfigError, ModelError
from soundloom.instruments.neural import OneShot
from soundloom.metrics import partials_found
from soundloom.models import excitation
from soundloom.models.base import Code, Codes, Embeds, Samples, Streams
from soundloom.models.codec import Codec, CodecConfig
from soundloom.models.layers import SUBFRAMES, Block, SpectralHead, Stack, random_phases
from soundloom.models.vae import VAE, VAEConfig

RATE, HOP = 16000, 256
SMALL = {"sample_rate": RATE, "hop_length": HOP, "width": 48, "latent": 8, "partials": 20, "steps": 60}
SMALL |= {"encoder_blocks": 1, "decoder_blocks": 2}
CODEC = CodecConfig(**SMALL, labels=("tone",), seconds=0.5, batch=4)
FAMILIES = {
    "codec": lambda: Codec.build(CODEC, seed=1),
    "codec-causal": lambda: Codec.build(replace(CODEC, causal=True), seed=1),
    "codec-chords": lambda: Codec.build(replace(CODEC, voices=3, chords=0.5), seed=1),
    "vae": lambda: VAE.build(VAEConfig(**SMALL, labels=("tone",), clips=4, seconds=0.5, crop_s=0.4, batch=4), seed=1),
}


def tones(frames: int = 32) -> Batch:
    """Four decaying tones with four partials each, and what a bank knows of them."""
    t = torch.arange(frames * HOP) / RATE
    f0 = torch.tensor([220.0, 330.0, 440.0, 110.0])
    partials = sum(torch.sin(2 * math.pi * p * f0[:, None] * t) / p for p in range(1, 5))
    audio = 0.3 * partials * torch.exp(-3 * t)
    pitch = 69 + 12 * torch.log2(f0 / 440)
    return Batch(
        audio=audio[:, None],
        lengths=torch.full((4,), frames * HOP),
        f0_hz=f0[:, None, None].expand(4, 1, frames).clone(),
        voiced=torch.ones(4, 1, frames),
        inharmonicity=torch.zeros(4),
        condition=Condition.having(pitch=pitch, label=torch.zeros(4, dtype=torch.int64)),
        clips=torch.arange(4),
    )


def train(model, batch, steps):
    """The plainest of loops: the losses of the first and the last steps."""
    players = model.players()
    optimisers = {n: torch.optim.Adam(p.parameters, lr=3e-3, betas=p.betas) for n, p in players.items()}

    def update(player, loss):
        optimisers[player].zero_grad()
        loss.backward()
        optimisers[player].step()

    reports = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        reports.append(model.train_step(batch, step=step, generator=generator, update=update))
    return reports


@pytest.fixture(params=FAMILIES)
def model(request):
    return FAMILIES[request.param]().eval()


def test_one_batch_is_learnt(model):
    batch = tones()
    before = model.validate(batch, generator=torch.Generator().manual_seed(0))["score"]
    reports = train(model, batch, 40)
    after = model.validate(batch, generator=torch.Generator().manual_seed(0))["score"]
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert after < 0.5 * before


def test_every_parameter_takes_part(model):
    model.train_step(
        tones(),
        step=model.config.steps,
        generator=torch.Generator().manual_seed(0),
        update=lambda _, loss: loss.backward(),
    )
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The phase of the pitch features at rest, and a label no sound of the batch has, may be left out.
    assert [name for name in still if "label" not in name] == []
    owned = [id(p) for player in model.players().values() for p in player.parameters]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_training_is_a_function_of_seed_and_batch(model):
    again = type(model).build(model.config, seed=1)
    assert train(model, tones(), 2) == train(again, tones(), 2)


def test_what_a_family_offers(model):
    assert isinstance(model, Codes | Embeds)
    assert isinstance(model, Streams) == model.family.startswith("codec")
    assert isinstance(model, Samples) == (model.family == "vae")


def test_stereo_is_refused_plainly():
    with pytest.raises(ConfigError, match="mono"):
        CodecConfig(channels=2)
    with pytest.raises(ConfigError, match="power of two"):
        CodecConfig(hop_length=500)


# --- the codec --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codec():
    model = Codec.build(CODEC, seed=1)
    train(model, tones(), 150)
    return model.eval()


def peak_hz(audio, near):
    """The loudest frequency within a semitone of `near`, by the parabola through the log spectrum of a long window."""
    sound = audio.flatten().numpy()
    n = 1 << 15
    spectrum = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), n)) + 1e-9)
    low, high = (int(near * f * n / RATE) for f in (2 ** (-1 / 12), 2 ** (1 / 12)))
    k = low + int(spectrum[low:high].argmax())
    a, b, c = spectrum[k - 1 : k + 2]
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * RATE / n


def test_codec_resynthesises_what_it_learnt(codec):
    batch = tones()
    code = codec.encode(batch.audio, f0_hz=batch.f0_hz)
    made = codec.decode(code)
    assert made.shape == batch.audio.shape
    for real, sound, f0 in zip(batch.audio, made, batch.f0_hz[:, 0, 0], strict=True):
        assert abs(1200 * math.log2(peak_hz(sound, float(f0)) / f0)) < 5
        assert partials_found(real[0].numpy(), sound[0].numpy(), sample_rate=RATE) > 0.8


@pytest.mark.parametrize("semitones", [-5.0, 0.5, 7.0])
def test_codec_transposes_exactly(codec, semitones):
    batch = tones()
    made = codec.decode(codec.encode(batch.audio, f0_hz=batch.f0_hz).transposed(semitones))
    for sound, f0 in zip(made, batch.f0_hz[:, 0, 0], strict=True):
        wanted = float(f0) * 2 ** (semitones / 12)
        assert abs(1200 * math.log2(peak_hz(sound, wanted) / wanted)) < 5


def test_codec_tracks_pitch_by_itself(codec):
    batch = tones(96)
    code = codec.encode(batch.audio)
    for track, f0 in zip(code.f0_hz[:, 0], batch.f0_hz[:, 0, 0], strict=True):
        heard = track[track > 0]
        assert len(heard) > 30
        assert abs(1200 * math.log2(float(heard.median() / f0))) < 10


def test_codec_needs_no_pitch(codec):
    noise = 0.1 * torch.randn(1, 1, 32 * HOP, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(1, 1, 32)
    made = codec.decode(codec.encode(noise, f0_hz=nothing, voiced=nothing))
    assert torch.isfinite(made).all()
    assert made.shape == noise.shape


@pytest.mark.parametrize("splits", [[1] * 40, [40], [3, 1, 17, 2, 9, 8], [4] * 10])
def test_codec_streams_as_it_decodes(codec, splits):
    generator = torch.Generator().manual_seed(3)
    f0 = torch.cat([torch.full((1, 1, 12), 200.0), torch.zeros(1, 1, 9), torch.linspace(300, 150, 19)[None, None]], -1)
    code = Code(torch.randn(1, CODEC.latent, 40, generator=generator), f0, (f0 > 0).float())
    whole = codec.decode(code, seed=5)
    state, pieces, at = codec.init_state(seed=5), [], 0
    for n in splits:
        block = Code(*(t[..., at : at + n] for t in (code.z, code.f0_hz, code.voiced)))
        audio, state = codec.step(block, state)
        assert audio.shape == (1, 1, n * HOP)
        pieces.append(audio)
        at += n
    streamed = torch.cat(pieces, -1)
    late = codec.head.latency
    assert not streamed[..., :late].any()
    assert (streamed[..., late:] - whole[..., :-late]).abs().max() < 1e-4


@pytest.mark.parametrize("size", [10.0, 1000.0])
def test_codes_from_nowhere_stay_bounded(codec, size):
    """What a network says of a code it never saw may be anything; what is played must not be."""
    z = size * torch.randn(2, CODEC.latent, 20, generator=torch.Generator().manual_seed(0))
    f0 = torch.full((2, 1, 20), 300.0)
    made = codec.decode(Code(z, f0, torch.ones_like(f0)))
    assert torch.isfinite(made).all()
    loudest_hum, loudest_hiss = 2 * RATE / 2 / 300, 9 * 2 * HOP
    assert made.abs().max() < math.e**2 * (loudest_hum + loudest_hiss)


def test_a_sound_cut_off_at_full_level_ends_quietly(codec):
    batch = tones()
    cut = batch.audio[..., : 20 * HOP - 37]
    made = codec.decode(codec.encode(cut, f0_hz=batch.f0_hz[..., :20]))
    assert made.abs().max() < 2 * cut.abs().max()


def test_same_seed_same_sound(codec):
    batch = tones()
    code = codec.encode(batch.audio, f0_hz=batch.f0_hz)
    assert torch.equal(codec.decode(code, seed=1), codec.decode(code, seed=1))
    assert not torch.equal(codec.decode(code, seed=1), codec.decode(code, seed=2))


def test_causal_encoder_does_not_look_ahead():
    model = Codec.build(replace(CODEC, causal=True), seed=1).eval()
    batch = tones()
    later = batch.audio.clone()
    later[..., 24 * HOP :] = 0
    codes = [model.encode(audio, f0_hz=batch.f0_hz).z for audio in (batch.audio, later)]
    # Beyond the reach of its longest window, the past does not depend on the future.
    reach = 24 - 16 // 2
    assert torch.allclose(codes[0][..., :reach], codes[1][..., :reach], atol=1e-5)
    assert not torch.allclose(codes[0][..., 24:], codes[1][..., 24:], atol=1e-2)


# --- the VAE ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vae():
    model = FAMILIES["vae"]()
    train(model, tones(), 60)
    return model.eval()


def test_vae_sounds_at_the_pitch_asked(vae):
    generator = torch.Generator().manual_seed(0)
    condition = Condition.of(3, vae.config.labels, pitch=62.5)
    for sound in vae.sample(3, seconds=0.5, condition=condition, generator=generator):
        wanted = 440 * 2 ** ((62.5 - 69) / 12)
        assert abs(1200 * math.log2(peak_hz(sound, wanted) / wanted)) < 30


def test_vae_samples_are_bounded_and_keyed(vae):
    sounds = [
        vae.sample(2, seconds=None, condition=None, generator=torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    ]
    assert sounds[0].abs().max() <= 1
    assert torch.equal(sounds[0], sounds[1])
    assert sounds[0].shape != sounds[2].shape or not torch.equal(sounds[0], sounds[2])


def test_vae_renders_a_part_as_it_renders_the_whole(vae):
    embedding = vae.embed(tones().audio, f0_hz=tones().f0_hz)
    short, long = vae.render(embedding, seconds=0.25), vae.render(embedding, seconds=0.5)
    # All but the end, where the short one fades and its last windows are missing.
    same = int(0.15 * RATE)
    assert torch.allclose(short[..., :same], long[..., :same], atol=1e-4)


def test_vae_plays_a_melody_with_one_sound(vae):
    """One drawn sound at every pitch: in tune, and of the same length and level, which differ from sound to sound."""
    played = OneShot(vae, label="tone", seed=3)
    sounds = {pitch: played.sound(pitch, RATE) for pitch in (55.0, 57.0, 60.25)}
    for pitch, sound in sounds.items():
        wanted = 440 * 2 ** ((pitch - 69) / 12)
        assert abs(1200 * math.log2(peak_hz(torch.from_numpy(sound), wanted) / wanted)) < 30
    assert len({len(sound) for sound in sounds.values()}) == 1


def test_vae_refuses_what_it_cannot_do(vae):
    generator = torch.Generator()
    with pytest.raises(ModelError, match=r"up to 0\.5 s"):
        vae.sample(1, seconds=3.0, condition=None, generator=generator)
    with pytest.raises(ModelError, match="heard no sounds"):
        FAMILIES["vae"]().sample(1, seconds=None, condition=None, generator=generator)
    with pytest.raises(ConditionError, match="did you mean tone"):
        Condition.of(1, vae.config.labels, label="tones")


# --- the parts --------------------------------------------------------------------------------------------------------

SETTING = {"sample_rate": RATE, "n_fft": 4 * HOP, "hop_length": HOP}


def partials(f0, levels, stiffness=0.0, frames=64):
    """One voice of constant pitch with partials of the given amplitudes, through the inverse STFT: [T]."""
    index = torch.zeros(1, 1, frames, 20)
    index[..., : len(levels)] = 30 + torch.tensor(levels).log()
    track = torch.full((1, 1, frames), float(f0))
    written, _ = excitation.write_partials(
        index,
        torch.full((1, 1, frames, 8), -30.0),
        track,
        torch.full_like(track, stiffness),
        excitation.no_phase(1, 1),
        **SETTING,
    )
    spectrum = torch.view_as_complex(written).transpose(1, 2)
    return spectral.istft(spectrum, n_fft=4 * HOP, hop_length=HOP)[0]


@pytest.mark.parametrize("f0", [55.0, 441.7, 2000.0, 3999.0])
def test_a_partial_is_a_sine(f0):
    sound = partials(f0, [0.5])[4 * HOP : -4 * HOP].double().numpy()
    t = np.arange(len(sound)) / RATE
    basis = np.stack([np.cos(2 * np.pi * f0 * t), np.sin(2 * np.pi * f0 * t)], 1)
    fit, *_ = np.linalg.lstsq(basis, sound, rcond=None)
    rest = sound - basis @ fit
    assert np.hypot(*fit) == pytest.approx(0.5, rel=0.01)
    assert 20 * np.log10(rest.std() / sound.std()) < -45


def test_stiff_partials_stand_where_fletcher_says():
    sound = partials(200.0, [0.1] * 10, stiffness=4e-4)
    for p in (1, 5, 10):
        wanted = 200 * p * math.sqrt(1 + 4e-4 * p * p)
        assert abs(1200 * math.log2(peak_hz(sound, wanted) / wanted)) < 2


def test_compiled_and_plain_partials_agree():
    generator = torch.Generator().manual_seed(0)
    f0 = torch.full((2, 2, 20), 261.6)
    f0[0, 1], f0[1, 0] = 31.0, torch.linspace(200, 80, 20)
    f0[1, 1, :10] = 0
    leaves = [torch.randn(2, 2, 20, n, generator=generator).sub(2).requires_grad_() for n in (12, 9)]
    stiffness, weights = torch.full_like(f0, 3e-4), torch.randn(2, 20, 2 * HOP + 1, 2, generator=generator)
    results = []
    for write in (excitation._Partials.apply, excitation._write_in_torch):
        spectrum, phase = write(*leaves, f0, stiffness, excitation.no_phase(2, 2), (float(RATE), 4 * HOP, HOP))
        results.append([spectrum, phase[..., :40], *torch.autograd.grad((spectrum * weights).sum(), leaves)])
    for compiled, plain in zip(*results, strict=True):
        scale = plain.abs().max()
        assert (compiled - plain).abs().max() < 1e-4 * scale


def test_random_phases_do_not_depend_on_the_block():
    whole = random_phases(torch.arange(100), 65, seed=7)
    plain = random_phases(torch.arange(100, device="meta"), 65, seed=7)  # the way of other devices, shapes only
    assert plain.shape == whole.shape
    x = 12 * 65 + 3 + 7 * 0x9E3779B1 & 0xFFFFFFFF  # frame 12, bin 3, by hand
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ x >> shift) * factor & 0xFFFFFFFF
    assert float(whole[12, 3]) == ((x ^ x >> 16) >> 8) / 2**24
    assert torch.equal(whole[40:60], random_phases(torch.arange(40, 60), 65, seed=7))
    assert not torch.equal(whole, random_phases(torch.arange(100), 65, seed=8))
    histogram = torch.histc(whole, 10, 0, 1) / whole.numel()
    assert (histogram - 0.1).abs().max() < 0.01
    assert np.corrcoef(whole[:-1].flatten(), whole[1:].flatten())[0, 1] == pytest.approx(0, abs=0.05)


def test_fine_gain_places_an_onset():
    """A gain that opens within a frame: before it, nothing is heard, though the window is four frames long."""
    head = SpectralHead(8, sample_rate=RATE, hop_length=HOP, n_partials=4)
    gains = torch.full((1, 16 * SUBFRAMES), -5.0)
    gains[:, 8 * SUBFRAMES + 3 :] = 0.0
    level = torch.exp(head._interpolated(gains, 0, 16 * HOP))[0]
    opening = int((level > 0.5).float().argmax())
    assert abs(opening - (8 * HOP + 3 * HOP // SUBFRAMES)) <= HOP // SUBFRAMES
    assert level[: opening - HOP // SUBFRAMES].max() < 0.01


@pytest.mark.parametrize("splits", [[1] * 12, [5, 1, 6]])
def test_a_causal_stack_streams(splits):
    stack = Stack(6, 16, blocks=3, causal=True).eval()
    x = torch.randn(1, 12, 6)
    with torch.no_grad():
        state, pieces = stack.init_state(), []
        for piece in x.split(splits, dim=1):
            out, state = stack.step(piece, state)
            pieces.append(out)
        assert (torch.cat(pieces, 1) - stack(x)).abs().max() < 1e-5


def test_both_ways_of_a_depthwise_convolution_agree():
    block = Block(16, causal=True)
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        short = block(x)
    assert torch.allclose(short, block(x), atol=1e-5)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_equal_sounds_are_at_no_distance():
    sound = tones().audio[:, 0]
    log, convergence = losses.spectral_distance(sound, sound, n_fft=1024, sample_rate=RATE)
    assert float(log) == 0
    assert float(convergence) < 1e-3


def test_half_the_level_is_log_two_apart():
    sound = torch.randn(2, 8192, generator=torch.Generator().manual_seed(0))
    log, convergence = losses.spectral_distance(0.5 * sound, sound, n_fft=1024, sample_rate=RATE)
    assert float(log) == pytest.approx(math.log(2), rel=0.02)
    assert float(convergence) == pytest.approx(0.5, rel=0.02)


def test_kl_has_its_known_value_and_free_bits():
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert float(losses.kl_divergence(mean, log_variance, free_bits=0.0)) == pytest.approx(0.5)
    assert float(losses.kl_divergence(mean, log_variance, free_bits=0.1)) == pytest.approx(0.6)


def test_silence_gives_finite_gradients():
    made = torch.zeros(2, 4096, requires_grad=True)
    total = losses.weighted(
        [
            (1.0, t)
            for t in losses.reconstruction_terms(
                made, torch.zeros(2, 4096), n_fft=512, sample_rate=RATE, step=0
            ).values()
        ]
    )
    total.backward()
    assert torch.isfinite(made.grad).all()
