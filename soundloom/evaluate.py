"""How good a model is, measured on sounds that it never heard, beside what a trivial answer scores."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from soundloom.audio import Waveform, resample
from soundloom.bank import SoundBank
from soundloom.errors import BankError
from soundloom.features import track_pitch
from soundloom.metrics import cents_between, log_mel_distance, noise_with_envelope, onset_s, partials_found
from soundloom.run import Run
from soundloom.spectral import default_hop

IN_TUNE_CENTS = 50.0


@dataclass(frozen=True)
class SoundFigures:
    """One held-out sound against its re-synthesis. `cents_off` is NaN where one of the two has no pitch; `noise` is
    the log-mel distance of noise with the sound's own envelope, the trivial answer."""

    path: str
    log_mel_distance: float
    noise: float
    partials_found: float
    cents_off: float
    onset_off_ms: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on a split of a bank; means over the sounds."""

    family: str
    split: str
    sounds: tuple[SoundFigures, ...]
    pitched: int

    def figures(self) -> dict[str, float]:
        """Lower is better, but for `partials_found` and `in_tune`, which go from 0 to 1."""
        cents = np.array([sound.cents_off for sound in self.sounds])
        in_tune = float((np.abs(cents) <= IN_TUNE_CENTS).sum() / self.pitched) if self.pitched else float("nan")
        return {
            "sounds": len(self.sounds),
            "log_mel_distance": float(np.mean([sound.log_mel_distance for sound in self.sounds])),
            "log_mel_distance_of_noise": float(np.mean([sound.noise for sound in self.sounds])),
            "partials_found": float(np.mean([sound.partials_found for sound in self.sounds])),
            "in_tune": in_tune,
            "onset_off_ms": float(np.median([sound.onset_off_ms for sound in self.sounds])),
        }

    def document(self) -> dict[str, Any]:
        facts = {"family": self.family, "split": self.split, "pitched": self.pitched}
        return {**facts, "figures": self.figures(), "sounds": [asdict(sound) for sound in self.sounds]}

    def table(self) -> str:
        """The figures in words, for people."""
        f = self.figures()
        tuned = f"{f['in_tune']:.0%} of {self.pitched} pitched sounds" if self.pitched else "no pitched sounds"
        return "\n".join(
            [
                f"{len(self.sounds)} sounds ({self.split}), each against its re-synthesis by the {self.family}",
                f"  log-mel distance    {f['log_mel_distance']:.2f}   0 is the same; noise with the right envelope "
                f"scores {f['log_mel_distance_of_noise']:.2f}",
                f"  partials found      {f['partials_found']:.2f}   1 is all of them, none added",
                f"  in tune             {tuned} within {IN_TUNE_CENTS:.0f} cents",
                f"  onset               {f['onset_off_ms']:.1f} ms off (median)",
            ]
        )


def evaluate(
    run: Run,
    bank: SoundBank,
    *,
    split: str = "test",
    most: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Re-synthesises up to `most` sounds of a split, from their audio alone, and measures how close they come.

    Raises `BankError` where the split is empty.
    """
    clips = bank.clips(split)
    if len(clips) == 0 or most < 1:
        sizes = ", ".join(f"{name} {len(bank.clips(name))}" for name in ("train", "validation", "test"))
        judged = f"{min(len(clips), most)} sounds of the split '{split}' to judge"
        raise BankError(f"{judged}: the bank has {sizes}; --split takes another")
    places = np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)
    rows = []
    for i, clip in enumerate(clips[places]):
        original = resample(bank.audio(int(clip)).mono(), run.sample_rate)
        made = run.reconstruct(original)
        has_pitch = bool(np.isfinite(bank.column("pitch")[clip]))
        rows.append(_compare(str(bank.column("path")[clip]), original, made, pitched=has_pitch))
        if progress:
            progress(i + 1, len(places))
    pitched = int(np.isfinite(np.asarray(bank.column("pitch"), float)[clips[places]]).sum())
    return Evaluation(family=run.family, split=split, sounds=tuple(rows), pitched=pitched)


def _compare(path: str, original: Waveform, made: Waveform, *, pitched: bool) -> SoundFigures:
    a, b, rate = original.samples[0], made.samples[0], original.sample_rate
    noise = noise_with_envelope(a, sample_rate=rate, generator=np.random.default_rng(0))
    cents = float("nan")
    if pitched:
        hz = [pitch_hz(sound) for sound in (original, made)]
        cents = cents_between(hz[1], hz[0]) if min(hz) > 0 else float("nan")
    return SoundFigures(
        path=path,
        log_mel_distance=log_mel_distance(a, b, sample_rate=rate),
        noise=log_mel_distance(a, noise, sample_rate=rate),
        partials_found=partials_found(a, b, sample_rate=rate),
        cents_off=cents,
        onset_off_ms=1000 * abs(onset_s(b, sample_rate=rate) - onset_s(a, sample_rate=rate)),
    )


def pitch_hz(sound: Waveform) -> float:
    """The median pitch of a sound in Hz, 0 where it has none."""
    audio = torch.from_numpy(sound.mono().samples)
    track = track_pitch(audio, sample_rate=sound.sample_rate, hop_length=default_hop(sound.sample_rate))
    voiced = track.f0_hz[0][track.f0_hz[0] > 0]
    return float(voiced.median()) if len(voiced) else 0.0
