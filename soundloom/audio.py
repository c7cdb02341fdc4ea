"""Sounds in memory and on disk: read any common format, write what a DAW opens, change the sample rate."""

import importlib
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from soundloom.errors import AudioError
from soundloom.paths import replacing

# What a folder is searched for. The content decides how a file is read; the suffix only says that it may be a sound.
SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".ogg", ".oga", ".opus", ".mp3"}
    | {".m4a", ".aac", ".mp4", ".caf", ".au", ".snd", ".w64", ".rf64"}
)
_AAC = frozenset({".m4a", ".aac", ".mp4"})
# 24 bits: the tail of a piano note at -90 dB keeps some resolution, and every DAW opens it.
_SUBTYPES = {
    ".wav": ("WAV", "PCM_24"),
    ".flac": ("FLAC", "PCM_24"),
    ".aif": ("AIFF", "PCM_24"),
    ".aiff": ("AIFF", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


_OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True, eq=False)
class Waveform:
    """A sound. `samples` is [C, T] float32, full scale at ±1."""

    samples: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            shape, kind = self.samples.shape, self.samples.dtype
            raise AudioError(f"samples are {kind} of shape {shape}: a Waveform takes float32 of shape [channels, T]")
        if self.sample_rate < 1:
            raise AudioError(f"the sample rate is {self.sample_rate} Hz: it must be 1 or more")

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def seconds(self) -> float:
        return int(self.samples.shape[1]) / self.sample_rate

    def mono(self) -> "Waveform":
        """The mean of the channels."""
        if self.channels == 1:
            return self
        return Waveform(self.samples.mean(axis=0, keepdims=True, dtype=np.float32), self.sample_rate)


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself. `frames` is what its header promises; a truncated file holds fewer."""

    sample_rate: int
    channels: int
    frames: int
    format: str

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def info(path: Path | str) -> AudioInfo:
    """Rate, channels and length of a file, without decoding it. `AudioError` where it is no sound."""
    path = _checked(path)
    if path.suffix.lower() in _AAC:
        with _open_aac(path) as container:
            stream = container.streams.audio[0]
            seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
            return AudioInfo(stream.rate, stream.channels, round(seconds * stream.rate), stream.codec_context.name)
    with _open(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, f"{file.format} {file.subtype}")


def blocks(path: Path | str, *, seconds: float = 10.0, start_s: float = 0.0) -> Iterator[Waveform]:
    """A file from `start_s` on in pieces of at most `seconds`, so that an hour of audio needs the memory of one piece.

    `AudioError` where it is no sound, and, after the last whole piece, where the file breaks off.
    """
    path = _checked(path)
    yield from (_aac_blocks if path.suffix.lower() in _AAC else _sndfile_blocks)(path, seconds, start_s)


def read(path: Path | str, *, start_s: float = 0.0, seconds: float | None = None) -> Waveform:
    """A file as a `Waveform`, whole or `seconds` of it from `start_s` on.

    WAV, FLAC, AIFF, OGG, Opus and MP3; M4A, AAC and MP4 with the extra `soundloom[aac]`. `AudioError` where the file
    is no sound or breaks off within what was asked for.
    """
    pieces: list[NDArray[np.float32]] = []
    sample_rate, wanted = 0, math.inf
    for piece in blocks(path, seconds=10.0 if seconds is None else max(seconds, 1e-3), start_s=start_s):
        sample_rate = piece.sample_rate
        if seconds is not None:
            wanted = round(seconds * sample_rate) - sum(p.shape[1] for p in pieces)
        pieces.append(piece.samples if wanted == math.inf else piece.samples[:, : int(wanted)])
        if pieces[-1].shape[1] >= wanted:
            break
    if not pieces:
        shown = info(path)
        return Waveform(np.zeros((shown.channels, 0), np.float32), shown.sample_rate)
    return Waveform(pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1), sample_rate)


def written_as(path: Path, *, sample_rate: int | None = None) -> tuple[str, str]:
    """The format and the subtype that a suffix stands for. `AudioError` where it stands for none, or for one that has
    not this sample rate."""
    if path.suffix.lower() not in _SUBTYPES:
        known = ", ".join(_SUBTYPES)
        raise AudioError(f"cannot write '{path.name}': the suffix '{path.suffix}' is none of {known}")
    if path.suffix.lower() == ".opus" and sample_rate not in (None, *_OPUS_RATES):
        raise AudioError(
            f"cannot write '{path.name}' at {sample_rate} Hz: 48000 is usual, 8000, 12000, 16000 and 24000 Hz go too"
        )
    return _SUBTYPES[path.suffix.lower()]


def write(path: Path | str, waveform: Waveform, *, subtype: str | None = None) -> None:
    """Writes a sound in the format of the suffix (.wav, .flac, .aiff, .ogg, .opus, .mp3), in one step or not at all.

    24 bits unless `subtype` says otherwise ("PCM_16", "FLOAT", …). Whole-number formats clip what is beyond ±1;
    NaN and infinity are refused with `AudioError`, a full disk or a read-only folder with `StorageError`.
    """
    path = Path(path)
    file_format, default = written_as(path, sample_rate=waveform.sample_rate)
    if not np.isfinite(waveform.samples).all():
        raise AudioError(f"cannot write '{path.name}': the sound has NaN or infinite samples")
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(
                _name(temporary), "w", waveform.sample_rate, waveform.channels, subtype or default, format=file_format
            ) as file:
                # A second at most at a time: libsndfile 1.2.2 overflows its stack on long single Vorbis writes.
                for start in range(0, waveform.samples.shape[1], waveform.sample_rate):
                    file.write(waveform.samples[:, start : start + waveform.sample_rate].T)
        except (soundfile.LibsndfileError, ValueError, AssertionError) as error:
            # libsndfile does not say which it was; the system does, when the file itself can be written to.
            with open(temporary, "ab") as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
            rate, channels = waveform.sample_rate, waveform.channels
            raise AudioError(
                f"cannot write '{path.name}' with {channels} channels at {rate} Hz as {subtype or default}: {error}"
            ) from None


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """The same sound at another rate (soxr, high quality: flat to 0.91 of the lower Nyquist frequency)."""
    if sample_rate == waveform.sample_rate:
        return waveform
    changed = soxr.resample(waveform.samples.T, waveform.sample_rate, sample_rate, quality="HQ")
    return Waveform(np.ascontiguousarray(changed.T, dtype=np.float32), sample_rate)


def _checked(path: Path | str) -> Path:
    """The path, if it is a regular file (a pipe named `kick.wav` would block for ever)."""
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise AudioError(f"cannot read '{path.name}': {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise AudioError(f"cannot read '{path.name}': it is not a regular file")
    if not os.access(path, os.R_OK):
        raise AudioError(f"cannot read '{path.name}': Permission denied")
    if os.path.getsize(path) == 0:
        raise AudioError(f"cannot read '{path.name}': the file is empty (0 bytes)")
    return path


def _name(path: Path) -> str | bytes:
    return str(path) if os.name == "nt" else os.fsencode(path)  # names that are not UTF-8 exist on Linux


def _open(path: Path) -> Any:
    try:
        return soundfile.SoundFile(_name(path))
    except (soundfile.LibsndfileError, TypeError) as error:
        reason = getattr(error, "error_string", "no header says its rate and channels").rstrip(".")
        raise AudioError(f"cannot read '{path.name}': {reason}") from None


def _sndfile_blocks(path: Path, seconds: float, start_s: float) -> Iterator[Waveform]:
    with _open(path) as file:
        rate, promised = file.samplerate, file.frames
        start = min(round(start_s * rate), promised)
        size = max(1, round(seconds * rate))
        got = start
        try:
            if start:
                file.seek(start)
            while len(piece := file.read(size, dtype="float32", always_2d=True)):
                got += len(piece)
                yield Waveform(np.ascontiguousarray(piece.T), rate)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".")
            raise AudioError(f"'{path.name}' breaks off after {got / rate:.2f} s: {reason}") from None
        # libsndfile corrects the length of a WAV or AIFF that was cut short, and says so only in its log. A length of
        # 0 or 0xFFFFFFFF is what programs write that stream to a pipe: it promises nothing.
        cut = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
        if cut and 0 < int(cut[2]) < int(cut[1]) < 0x7FFFFFF0:
            part = int(cut[2]) / int(cut[1])
            raise AudioError(f"'{path.name}' is truncated: {part:.0%} of its audio is there ({got / rate:.2f} s)")
        if 0 < got < promised < 2**40:  # an MP3 or Ogg of unknown length promises 2^63 - 1
            raise AudioError(f"'{path.name}' is truncated: {got / rate:.2f} of {promised / rate:.2f} s are there")


def _open_aac(path: Path) -> Any:
    try:
        av = importlib.import_module("av")
    except ImportError:
        raise AudioError(f"cannot read '{path.name}': AAC needs an extra, pip install 'soundloom[aac]'") from None
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, UnicodeError) as error:
        raise AudioError(f"cannot read '{path.name}': {getattr(error, 'strerror', None) or error}") from None
    if not container.streams.audio:
        container.close()
        raise AudioError(f"cannot read '{path.name}': there is no audio in it")
    return container


def _aac_blocks(path: Path, seconds: float, start_s: float) -> Iterator[Waveform]:
    with _open_aac(path) as container:
        av = importlib.import_module("av")
        rate = container.streams.audio[0].rate
        size, skip = max(1, round(seconds * rate)), round(start_s * rate)
        planar = av.AudioResampler(format="fltp")
        held: list[NDArray[np.float32]] = []
        try:
            for frame in container.decode(audio=0):
                for piece in planar.resample(frame):
                    held.append(piece.to_ndarray()[:, skip:])
                    skip = max(0, skip - piece.samples)
                if sum(piece.shape[1] for piece in held) >= size:
                    whole = np.concatenate(held, axis=1)
                    for start in range(0, whole.shape[1] - size + 1, size):
                        yield Waveform(np.ascontiguousarray(whole[:, start : start + size], np.float32), rate)
                    held = [whole[:, whole.shape[1] - whole.shape[1] % size :]]
        except av.error.FFmpegError as error:
            raise AudioError(f"'{path.name}' breaks off: {error.strerror or error}") from None
        if sum(piece.shape[1] for piece in held):
            yield Waveform(np.ascontiguousarray(np.concatenate(held, axis=1), np.float32), rate)
