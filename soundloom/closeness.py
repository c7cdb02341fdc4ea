"""How close re-syntheses come to the sounds they were made from, beside what a trivial answer scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from soundloom import metrics
from soundloom.audio import Waveform, resample
from soundloom.bank import SoundBank, spread_evenly
from soundloom.distances import NORMAL_95
from soundloom.errors import BankError
from soundloom.features import Descriptors, describe
from soundloom.figures import Figure, Section, sentences, share_interval
from soundloom.models.base import Codes, Embeds, Resynthesises, Samples
from soundloom.run import Run, families_that

IN_TUNE_CENTS = 50.0
HOLDS_OUT = ("validation", "test")


@dataclass(frozen=True)
class SoundFigures:
    """One sound against its re-synthesis. `noise` is the log-mel distance of noise with the sound's own envelope, the
    trivial answer. `pitched`: whether the bank knows a pitch. NaN: `cents_off` where it does not or one of the two
    has none, all others where there is only silence."""

    path: str
    pitched: bool
    log_mel_distance: float
    noise: float
    partials_found: float
    cents_off: float
    onset_off_ms: float
    multi_resolution_stft: float
    log_mel_l1: float
    mfcc_distortion_db: float
    waveform_correlation: float
    envelope_correlation: float
    si_sdr_db: float
    loudness_error_db: float


# name, title, which way is good
_MEANS = (
    ("log_mel_distance", "log-mel distance", "0 is the same, over what can be heard"),
    ("partials_found", "partials found", "1 is all of them and none added"),
    ("multi_resolution_stft", "multi-resolution STFT", "0 is the same; mostly about what is faint"),
    ("log_mel_l1", "log-mel L1", "0 is the same; every cell counts, heard or not"),
    ("mfcc_distortion_db", "MFCC distortion, dB", "0 is the same colour; whatever the level"),
    ("waveform_correlation", "waveform correlation", "1 is the same up to gain, phase included; 0 sounds no worse"),
    ("envelope_correlation", "envelope correlation", "1 is the same course of loudness"),
    ("si_sdr_db", "SI-SDR, dB", "higher is closer, phase included: models that make their own phase score below 0"),
    ("loudness_error_db", "loudness error, dB", "0 is as loud"),
)


def resynthesised(
    run: Run, bank: SoundBank, *, split: str, most: int, progress: Callable[[int, int], None] | None
) -> tuple[tuple[SoundFigures, ...], tuple[tuple[Waveform, Waveform], ...]]:
    """Up to `most` sounds of a split, from their audio alone: the figures, and each sound with its re-synthesis.

    Nothing where the family takes no sounds apart. Where the split is empty: nothing for a family that makes new sounds
    to be judged by, `BankError` for any other.
    """
    clips = bank.clips(split)
    if not isinstance(run.model, Codes | Embeds | Resynthesises):
        return (), ()
    if len(clips) == 0 or most < 1:
        if isinstance(run.model, Samples):
            return (), ()
        raise BankError(too_few(bank, split=split, most=most))
    chosen = spread_evenly(clips, most)
    rows, pairs = [], []
    for i, clip in enumerate(chosen):
        original = resample(bank.audio(clip).mono(), run.sample_rate)
        made = run.reconstruct(original)
        has_pitch = bool(np.isfinite(bank.column("pitch")[clip]))
        rows.append(compare(str(bank.column("path")[clip]), original, made, pitched=has_pitch))
        pairs.append((original, made))
        if progress:
            progress(i + 1, len(chosen))
    return tuple(rows), tuple(pairs)


def too_few(bank: SoundBank, *, split: str, most: int) -> str:
    """Why no sound of a split can be judged, and what to do."""
    sizes = ", ".join(f"{name} {len(bank.clips(name))}" for name in ("train", *HOLDS_OUT))
    judged = f"{min(len(bank.clips(split)), most)} sounds of the split '{split}' to judge"
    return f"{judged}: the bank has {sizes}; --split takes another"


def compare(path: str, original: Waveform, made: Waveform, *, pitched: bool) -> SoundFigures:
    """Every figure of a sound and its re-synthesis, one channel each and at one rate."""
    a, b, rate = original.samples[0], made.samples[0], original.sample_rate
    noise = metrics.noise_with_envelope(a, sample_rate=rate, generator=np.random.default_rng(0))
    facts = [described(sound) for sound in (original, made)]
    hz = [pitch_hz(fact) for fact in facts]
    loudness = [float(fact.loudness_lufs[0]) for fact in facts]
    return SoundFigures(
        path=path,
        pitched=pitched,
        log_mel_distance=metrics.log_mel_distance(a, b, sample_rate=rate),
        noise=metrics.log_mel_distance(a, noise, sample_rate=rate),
        partials_found=metrics.partials_found(a, b, sample_rate=rate),
        cents_off=metrics.cents_between(hz[1], hz[0]) if pitched and min(hz) > 0 else float("nan"),
        onset_off_ms=1000 * abs(metrics.onset_s(b, sample_rate=rate) - metrics.onset_s(a, sample_rate=rate)),
        multi_resolution_stft=metrics.multi_resolution_stft(a, b, sample_rate=rate),
        log_mel_l1=metrics.log_mel_l1(a, b, sample_rate=rate),
        mfcc_distortion_db=metrics.mfcc_distortion(a, b, sample_rate=rate),
        waveform_correlation=metrics.waveform_correlation(a, b),
        envelope_correlation=metrics.envelope_correlation(a, b, sample_rate=rate),
        si_sdr_db=metrics.si_sdr(a, b),
        loudness_error_db=abs(loudness[1] - loudness[0]),
    )


def described(sound: Waveform) -> Descriptors:
    """What a sound is like, its channels mixed."""
    audio = torch.from_numpy(sound.mono().samples)
    return describe(audio, torch.tensor([audio.shape[1]]), sample_rate=sound.sample_rate)


def pitch_hz(facts: Descriptors) -> float:
    """The median pitch of one sound in Hz, 0 where it has none."""
    f0_hz = facts.track.f0_hz[0]
    voiced = f0_hz[f0_hz > 0]
    return float(voiced.median()) if len(voiced) else 0.0


def closeness(run: Run, bank: SoundBank, sounds: Sequence[SoundFigures], *, split: str) -> Section:
    """The section: means over the sounds, the median for the onset."""
    title = "Closeness"
    if not isinstance(run.model, Codes | Embeds | Resynthesises):
        which = families_that("encode", "embed", "resynthesise")
        return Section("closeness", title, why_not=f"a {run.family} takes no sounds apart; a {which} does.")
    if not sounds:
        return Section("closeness", title, why_not=f"{too_few(bank, split=split, most=1)}.")
    pitched = sum(sound.pitched for sound in sounds)
    figures = []
    for name, words, help in _MEANS:
        values = np.array([getattr(sound, name) for sound in sounds], float)
        values = values[np.isfinite(values)]
        beside = {}
        if name == "log_mel_distance":
            beside = {"noise with the same envelope": float(np.mean([sound.noise for sound in sounds]))}
        if len(values):
            figures.append(Figure(name, words, float(values.mean()), help, *_interval(values), beside))
    if pitched:
        cents = np.array([sound.cents_off for sound in sounds])
        hits = int((np.abs(cents) <= IN_TUNE_CENTS).sum())
        help = f"share of the {pitched} pitched sounds within {IN_TUNE_CENTS:.0f} cents"
        figures.insert(2, Figure("in_tune", "in tune", hits / pitched, help, *share_interval(hits, pitched)))
    onset = float(np.median([sound.onset_off_ms for sound in sounds]))
    figures.insert(3 if pitched else 2, Figure("onset_off_ms", "onset off, ms", onset, "0 is in time; the median"))
    return Section(
        "closeness",
        title,
        tuple(figures),
        words=f"{len(sounds)} sounds ({split}), {heard_before(split)}, each against what the {run.family} makes of it.",
        why_not=sentences(["" if pitched else "Pitch: none of these sounds has one."]),
    )


def heard_before(split: str) -> str:
    """What a reader must know of the sounds of a split."""
    return "which it was trained on: this flatters" if split == "train" else "which it was not trained on"


def _interval(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Of the mean, by the spread over sounds; for a single sound there is none."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = NORMAL_95 * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
