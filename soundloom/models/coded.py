"""What families that model a codec's codes share: the codec inside, the bank's sounds as sequences, and the way back.

A sound is a sequence of frames; each frame has

    z        D values      the codec's latent, normalised over the bank
    centre   1             the sound's own middle pitch, in octaves from C4: the same in all of its frames
    glide    1             where the pitch is from there, in units of the bank's usual spread
    voiced   1             -1 or 1
    present  1             1 up to the sound's end, -1 after it

The pitch is split in two so that a model's small error stays small: an error of 3 % of the keyboard is a semitone, one
of 3 % of a piano string's glide is nothing. An asked pitch takes the place of the centre, so it is met by construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import checkpoint, spectral
from soundloom.bank import SoundBank, spread_evenly
from soundloom.config import from_dict
from soundloom.errors import ConfigError, ModelError
from soundloom.models.base import Code
from soundloom.models.codec import Codec, CodecConfig
from soundloom.models.courses import quantiles
from soundloom.models.layers import hertz, midi

BESIDE = 4  # values of a frame beside the latent
MEASURED = 256  # clips from which the usual values are taken
SMALLEST_SCALE = 0.2  # of a latent: what the codec left unused stays near zero
SMALLEST_GLIDE = 0.05  # semitones
AT_ONCE_S = 3600.0  # of sound are encoded before the first step: about half a minute
PIECE_S = 20.0  # of a long clip are encoded at a time
OVER = 4  # frames
ENDS = 0.02  # seconds over which a sound is faded where it ends


def codec_config(settings: Sequence[str], *, family: str) -> tuple[CodecConfig, str, list[str]]:
    """The config and the folder of the codec that the setting `codec=FOLDER` names, and the other settings.

    Raises:
        ConfigError: there is no such setting; the message says which command trains a codec.
        ModelError: the folder holds no codec.
    """
    chosen = [setting.partition("=")[2] for setting in settings if setting.startswith("codec=")]
    if not chosen:
        raise ConfigError(
            f"a {family} models the codes of a codec, and none is named: soundloom train BANK --family codec -o CODEC "
            f"makes one, then --set codec=CODEC; or --codec-first trains one before the {family}"
        )
    family_name, values = checkpoint.read_config(Path(chosen[-1]))
    if family_name != "codec":
        raise ModelError(f"{chosen[-1]} holds a {family_name}: a {family} needs a codec, as soundloom train makes one")
    config = from_dict(CodecConfig, values, where=chosen[-1])
    return config, chosen[-1], [setting for setting in settings if not setting.startswith("codec=")]


def codec_for(bank: SoundBank, settings: Sequence[str], *, family: str) -> tuple[CodecConfig, str, list[str]]:
    """As `codec_config`; a codec for another rate than the bank's is refused with `ConfigError`."""
    config, folder, others = codec_config(settings, family=family)
    if config.sample_rate != bank.sample_rate:
        raise ConfigError(
            f"the codec in {folder} is for {config.sample_rate} Hz, the bank has {bank.sample_rate}: train one on it"
        )
    return config, folder, others


@dataclass(frozen=True)
class Known:
    """A clip's code, as the bank's audio gives it. Shapes: `z` [N, D]; `midi` [N], NaN where unvoiced; `centre`."""

    z: Tensor
    midi: Tensor
    centre: float


# The codes of a bank's clips by codec and device, gone with the bank: the copy of a model that measures the pace of a
# run, and the run after it, take them once.
_CODES: WeakKeyDictionary[SoundBank, dict[str, dict[int, Known]]] = WeakKeyDictionary()


class CodeSpace(nn.Module):
    """The codec, frozen, and the way between its codes and the sequences that a family models."""

    mean: Tensor  # [D]
    scale: Tensor  # [D]
    glide: Tensor  # scalar, semitones
    lowest: Tensor  # scalar, MIDI, of the bank's pitches; NaN: it has none
    highest: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.codec = Codec(config)
        self.codec.discriminator = nn.Identity()  # type: ignore[assignment]  # judged sounds in its own training only
        self.codec.requires_grad_(False)
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("scale", torch.ones(config.latent))
        self.register_buffer("glide", torch.ones(()))
        self.register_buffer("lowest", torch.tensor(torch.nan))
        self.register_buffer("highest", torch.tensor(torch.nan))
        self.train(False)
        self._bank: SoundBank | None = None
        self._known: dict[int, Known] = {}
        self._silence: Tensor | None = None

    def train(self, mode: bool = True) -> "CodeSpace":
        """It stays as it is, whatever is trained around it."""
        return super().train(False)

    @property
    def size(self) -> int:
        """Values of a frame."""
        return self.codec.config.latent + BESIDE

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        """The bank's lowest and highest pitch, MIDI."""
        return (float(self.lowest), float(self.highest)) if torch.isfinite(self.lowest) else None

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return float(self.codec.config.sample_rate / self.codec.config.hop_length)

    # --- the bank as sequences ------------------------------------------------------------------------------------

    def prepare(self, bank: SoundBank, folder: str, *, fresh: bool) -> None:
        """Looks at the bank; `fresh`: takes the codec's weights from its folder and measures what is usual first."""
        if fresh:
            weights, _ = checkpoint.read_tensors(Path(folder) / "model.safetensors")
            own = {name: weights[name] for name in self.codec.state_dict() if name in weights}
            checkpoint.fill(self.codec, own, where=folder)
        key = f"{checkpoint.fingerprint(self.codec.state_dict())} {self.mean.device}"
        self._bank, self._silence = bank, None
        self._known = _CODES.setdefault(bank, {}).setdefault(key, {})
        if fresh:
            self._measure(bank)
        if bank.column("seconds")[bank.clips("train")].sum() <= AT_ONCE_S:  # or else as they are drawn
            for clip in bank.clips("train"):
                self.known(int(clip))

    def _measure(self, bank: SoundBank) -> None:
        """What is usual in the bank's codes."""
        known = [self.known(int(clip)) for clip in spread_evenly(bank.clips("train"), MEASURED)]
        z = torch.cat([one.z for one in known])
        self.mean.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp_min(SMALLEST_SCALE))
        moved = torch.cat([one.midi - one.centre for one in known])
        moved = moved[torch.isfinite(moved)].abs()
        if len(moved):
            self.glide.copy_((1.5 * quantiles(moved, torch.tensor([0.7]))[0]).clamp_min(SMALLEST_GLIDE))
        pitches = np.asarray(bank.column("pitch")[bank.clips("train")], float)
        if np.isfinite(pitches).any():
            self.lowest.fill_(float(np.nanmin(pitches)))
            self.highest.fill_(float(np.nanmax(pitches)))

    def known(self, clip: int) -> Known:
        """A clip of the bank as its code, remembered: a model sees it many times."""
        if clip not in self._known:
            assert self._bank is not None, "prepare comes first"
            f0_hz, voiced = (torch.from_numpy(track.copy()) for track in self._bank.f0(clip))
            audio = torch.from_numpy(self._bank.audio(clip).samples[:1].copy())
            n = spectral.frames(audio.shape[1], hop_length=self.codec.config.hop_length)
            f0_hz, voiced = (F.pad(track, (0, max(0, n - len(track))))[:n] for track in (f0_hz, voiced))
            self._known[clip] = self._encoded(audio, torch.where(voiced > 0.5, f0_hz, 0.0))
        return self._known[clip]

    @torch.no_grad()
    def heard(self, audio: Tensor) -> Known:
        """A recording [1, T] as its code, the pitch tracked from the audio."""
        code = self.codec.encode(audio[None].to(self.mean.device))
        return _known(code.z[0].T, code.f0_hz[0, 0])

    @torch.no_grad()
    def _encoded(self, audio: Tensor, f0_hz: Tensor) -> Known:
        """audio [1, T] and its pitch [N] -> its code, piece by piece."""
        hop, device = self.codec.config.hop_length, self.mean.device
        size = round(PIECE_S * self.frame_rate)
        pieces = []
        for start in range(0, len(f0_hz), size):
            f0 = f0_hz[start : start + size].to(device)[None, None]
            sound = audio[None, :, start * hop : (start + size) * hop].to(device)
            pieces.append(self.codec.encode(sound, f0_hz=f0).z[0].T)
        return _known(torch.cat(pieces), f0_hz.to(device))

    def sequences(self, clips: Tensor, frames: int) -> Tensor:
        """Clips of the bank from their start -> [B, frames, size], silent after their end."""
        return torch.stack([self.packed(self.known(int(clip)), frames) for clip in clips])

    def packed(self, known: Known, frames: int) -> Tensor:
        """A code -> [frames, size]; where the sound has ended, the latent is that of silence."""
        n = min(len(known.z), frames)
        z = self.silence.expand(frames, -1).clone()
        z[:n] = known.z[:n]
        moved = _held(known.midi[:n] - known.centre)
        beside = torch.zeros(frames, BESIDE, device=z.device)
        beside[:, 0] = (known.centre - 60) / 12
        beside[:n, 1] = moved / self.glide
        beside[n:, 1] = moved[-1] / self.glide if n else 0.0
        beside[:, 2:] = -1.0
        beside[:n, 2] = torch.where(torch.isfinite(known.midi[:n]), 1.0, -1.0)
        beside[:n, 3] = 1.0
        return torch.cat([(z - self.mean) / self.scale, beside], -1)

    @property
    @torch.no_grad()
    def silence(self) -> Tensor:
        """The latent of silence, [D]."""
        if self._silence is None or self._silence.device != self.mean.device:
            hop = self.codec.config.hop_length
            nothing = torch.zeros(1, 1, 4 * hop, device=self.mean.device)
            self._silence = self.codec.encode(nothing, f0_hz=nothing[..., ::hop]).z[0, :, 2]
        return self._silence

    # --- the way back ---------------------------------------------------------------------------------------------

    def unpacked(self, sequence: Tensor, *, pitch: Tensor | None = None) -> tuple[Code, Tensor]:
        """[B, N, size] -> `Code` and the frame at which each sound ends [B]; `pitch` [B], MIDI, where it is not NaN,
        takes the place of the sequence's own centre."""
        z = sequence[..., :-BESIDE] * self.scale + self.mean
        centre, moved, voiced, present = sequence[..., -BESIDE:].unbind(-1)
        ends = _ends(present)
        inside = torch.arange(sequence.shape[1], device=z.device) < ends[:, None]
        on = (voiced > 0) & inside
        weight = torch.where(on, 1.0, 1e-6)
        middle = 60 + 12 * (centre * weight).sum(1) / weight.sum(1)
        if pitch is not None:
            middle = torch.where(torch.isfinite(pitch), pitch, middle)
        pitches = middle[:, None] + moved * self.glide
        f0_hz = hertz(torch.where(on, pitches.clamp(10, 130), torch.nan))[:, None]
        return Code(z.transpose(1, 2), f0_hz, (f0_hz > 0).float()), ends

    @torch.no_grad()
    def decoded(self, sequence: Tensor, *, pitch: Tensor | None = None, seed: int = 0, whole: bool = False) -> Tensor:
        """[B, N, size] -> audio [B, 1, N * hop_length], silent after each sound's end unless it is a `whole` one."""
        code, ends = self.unpacked(sequence, pitch=pitch)
        audio = self.codec.decode(code, seed=seed)
        if whole:
            return audio
        rate, hop = self.codec.config.sample_rate, self.codec.config.hop_length
        at = torch.arange(audio.shape[-1], device=audio.device)
        fade = (ends[:, None] * hop - at) / (ENDS * rate)
        return audio * fade.clamp(0, 1)[:, None]


def _known(z: Tensor, f0_hz: Tensor) -> Known:
    pitches = midi(f0_hz)
    centre = float(torch.nanmedian(pitches)) if torch.isfinite(pitches).any() else 60.0
    return Known(z.float(), pitches, centre)


def _held(values: Tensor) -> Tensor:
    """values [N] with NaN where there is none -> the nearest earlier one there, before the first one the first."""
    known = torch.isfinite(values)
    if not known.any():
        return torch.zeros_like(values)
    at = torch.where(known, torch.arange(len(values), device=values.device), -1).cummax(0).values
    first = int(known.float().argmax())
    return values[torch.where(at < 0, first, at)]


def _ends(present: Tensor) -> Tensor:
    """present [B, N] -> the frame [B] at which a sound is over: from there on `OVER` frames are below zero, or all that
    are left. One frame that wavers ends nothing, and what starts again later is no part of the sound."""
    over = F.pad((present < 0).float(), (0, OVER - 1), value=1.0).unfold(1, OVER, 1).amin(-1)
    at = torch.cat([over, torch.ones_like(over[:, :1])], 1).argmax(1)
    return at.clamp_min(1)
