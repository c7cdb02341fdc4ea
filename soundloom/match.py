"""Which knobs of an engine come closest to a recording: a race of climbers on what the ear would compare.

Every candidate is rendered and held against the target by two log-mel spectra and the course of its level, at the
target's level. Some hundred settings are tried; the eight best climb by turning few knobs at a time, by small and large
steps, and half of them drop out after each round (successive halving). On made targets a climb by few knobs came closer
than CMA-ES did with as many tries, and the race did so on FM; on the subtractive engine the race was no better than
differential evolution (docs/diary.md). Knobs that go by steps are written down between them, and rounded by the engine.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundloom.audio import Waveform, resample
from soundloom.errors import AudioError, ConfigError
from soundloom.features import describe
from soundloom.instruments.base import Event
from soundloom.instruments.engines import SOURCED, engine
from soundloom.metrics import log_mel_distance
from soundloom.spectral import mel

RATE = 44100
LONGEST_S = 4.0  # of the target are looked at
RESOLUTIONS = ((2048, 512, 128, 1.0), (512, 128, 48, 0.5))  # n_fft, hop, bands, weight
ENVELOPE, ENVELOPE_WEIGHT = 256, 0.5  # samples
FLOOR = 1e-3  # -60 dB
SURE = 0.3  # confidence from which the target's pitch is taken as it was measured
PITCHES = (24.0, 96.0)  # else it is looked for here
STARTS, CLIMBERS, RACING = 200, 8, 0.5  # settings tried first, those that go on, the part of the tries they race for
USUAL = 0.35  # of the knobs of a random start stand where they usually do
FINEST, COARSEST = 1e-3, 0.4  # steps of a knob, in parts of its way
SILENCE = 20.0  # the distance of a candidate that makes no sound

Floats = NDArray[np.float32]
Point = NDArray[np.float64]  # knob positions 0 .. 1, how long the key is held, and the pitch where it is looked for


@dataclass(frozen=True)
class Match:
    """The knobs that were found, the note that was played, log-mel distances from the target (`metrics`) with the
    engine's usual knobs and with these, and the sound."""

    engine: str
    settings: dict[str, float]
    pitch: float
    before: float
    after: float
    tries: int
    seconds: float
    sound: Waveform
    interrupted: bool = False


def match(
    target: Waveform,
    engine_name: str,
    *,
    minutes: float = 1.0,
    tries: int | None = None,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Match:
    """The engine's knobs whose sound is closest to the target, of the first seconds from its onset on.

    Args:
        minutes: By the clock. `tries` counts candidates instead, so that the same seed gives the same knobs.

    An engine that plays recordings is refused with `ConfigError`, silence with `AudioError`.
    """
    if engine_name in SOURCED and engine_name != "wavetable":
        raise ConfigError(f"a {engine_name} plays what it is given: match a synthesising engine, as subtractive or fm")
    if not 0 < minutes <= 600:
        raise ConfigError(f"{minutes:g} minutes were asked for: it goes up to 600")
    if tries is not None and tries < 1:
        raise ConfigError(f"{tries} tries were asked for: it takes 1 or more")
    started, rng = time.monotonic(), np.random.default_rng(seed)
    trial = _Trial(engine_name, _heard(target))
    usual = trial.usual()
    best = _Best(trial.cost(usual), usual)
    interrupted = False
    try:
        for part in _race(trial, best, rng, tries, 60 * minutes):
            if progress is not None:
                progress(part, f"distance {best.cost:.2f}, {trial.tries} tries")
    except KeyboardInterrupt:
        interrupted = True
    before, after = trial.judge(usual), trial.judge(best.point)
    if before < after:  # the search has a measure of its own
        best.point, after = usual, before
    settings, pitch, _ = trial.meant(best.point)
    sound = trial.sound(best.point)
    gain = trial.gain(sound)
    level = next(param for param in trial.engine.params if param.name == "gain_db")
    gain_db = min(max(level.default + 20 * math.log10(max(gain, 1e-6)), level.low), level.high)
    return Match(
        engine=engine_name,
        settings={**settings, "gain_db": round(gain_db, 2)},
        pitch=pitch,
        before=before,
        after=after,
        tries=trial.tries,
        seconds=time.monotonic() - started,
        sound=Waveform((sound * np.float32(gain))[None], RATE),
        interrupted=interrupted,
    )


@dataclass
class _Best:
    cost: float
    point: Point

    def take(self, cost: float, point: Point) -> None:
        if cost < self.cost:
            self.cost, self.point = cost, point


def _race(trial: "_Trial", best: _Best, rng: np.random.Generator, tries: int | None, seconds: float) -> Iterator[float]:
    """Improves `best` until the tries or the seconds are used up; yields which part of them is."""
    begun = time.monotonic()

    def used() -> float:
        return trial.tries / tries if tries is not None else (time.monotonic() - begun) / seconds

    starts = [best]
    while len(starts) <= STARTS and used() < RACING / 2:
        point = trial.random(rng)
        starts.append(_Best(trial.cost(point), point))
        best.take(starts[-1].cost, point)
        yield used()
    climbers = [_Best(one.cost, one.point) for one in sorted(starts, key=lambda one: one.cost)[:CLIMBERS]]
    begin = used()
    for left in range(rounds := int(math.log2(len(climbers))) + 1):
        last = left == rounds - 1
        end = 1.0 if last else begin + (1 - begin) * RACING * (left + 1) / rounds
        while used() < end:
            for one in climbers:
                point = _turned(one.point, rng)
                one.take(trial.cost(point), point)
                best.take(one.cost, one.point)
            yield used()
        climbers = sorted(climbers, key=lambda one: one.cost)[: max(len(climbers) // 2, 1)]


def _turned(point: Point, rng: np.random.Generator) -> Point:
    """One, two, four or eight knobs, each by a step of its own size."""
    some = rng.permutation(len(point))[: rng.choice((1, 2, 4, 8))]
    new = point.copy()
    sizes = FINEST * (COARSEST / FINEST) ** rng.random(len(some))
    new[some] = np.clip(new[some] + sizes * rng.standard_normal(len(some)), 0, 1)
    return new


@dataclass
class _Trial:
    """An engine played against a target."""

    name: str
    target: Floats
    tries: int = 0
    engine: Any = field(init=False)

    def __post_init__(self) -> None:
        self.engine = engine(self.name)
        self.knobs = [param for param in self.engine.params if param.name != "gain_db"]
        facts = describe(torch.from_numpy(self.target[None]), torch.tensor([len(self.target)]), sample_rate=RATE)
        pitch, sure = float(facts.pitch[0]), float(facts.pitch_confidence[0])
        self.pitch = pitch if math.isfinite(pitch) and sure >= SURE else None
        self.rms = float(np.sqrt(np.mean(self.target**2)))
        self.spectra = [self._spectrum(self.target, n_fft, hop, bands) for n_fft, hop, bands, _ in RESOLUTIONS]
        self.floors = [FLOOR * float(spectrum.max()) for spectrum in self.spectra]
        self.envelope = _envelope(self.target)

    def usual(self) -> Point:
        middle = [] if self.pitch is not None else [0.5]
        return np.array([*(param.position(param.default) for param in self.knobs), 1.0, *middle])

    def random(self, rng: np.random.Generator) -> Point:
        usual = self.usual()
        return np.where(rng.random(len(usual)) < USUAL, usual, rng.random(len(usual)))

    def meant(self, point: Point) -> tuple[dict[str, float], float, float]:
        """Knobs, pitch, and how long the key is held, in seconds."""
        settings = {
            param.name: float(f"{min(max(param.at(float(at)), param.low), param.high):.5g}")
            for param, at in zip(self.knobs, point, strict=False)
        }
        free = PITCHES[0] + (PITCHES[1] - PITCHES[0]) * float(point[-1])
        held = (0.05 + 0.95 * float(point[len(self.knobs)])) * len(self.target) / RATE
        return settings, free if self.pitch is None else self.pitch, held

    def sound(self, point: Point) -> Floats:
        settings, pitch, held_s = self.meant(point)
        instrument = self.engine(settings, voices=1)
        off = max(round(held_s * RATE), 1)
        events = [Event(0, "on", 1, pitch, 0.8)] + ([Event(off, "off", 1)] if off < len(self.target) else [])
        block, _ = instrument.process(instrument.init_state(RATE), events, len(self.target))
        return np.ascontiguousarray(block.mean(axis=0))

    def gain(self, sound: Floats) -> float:
        """What brings a sound to the target's level; 0 for silence."""
        rms = float(np.sqrt(np.mean(sound**2)))
        return self.rms / rms if rms > 1e-7 else 0.0

    def cost(self, point: Point) -> float:
        self.tries += 1
        sound = self.sound(point)
        gain = self.gain(sound)
        if gain == 0 or not np.isfinite(sound).all():
            return SILENCE
        sound = sound * np.float32(gain)
        total = 0.0
        for (n_fft, hop, bands, weight), wanted, floor in zip(RESOLUTIONS, self.spectra, self.floors, strict=True):
            made = self._spectrum(sound, n_fft, hop, bands)
            heard = (wanted > floor) | (made > floor)
            total += weight * float(_apart(made, wanted, floor)[heard].mean())
        floor = FLOOR * float(self.envelope.max())
        return total + ENVELOPE_WEIGHT * float(_apart(_envelope(sound), self.envelope, floor).mean())

    def judge(self, point: Point) -> float:
        sound = self.sound(point)
        return float(log_mel_distance(self.target, sound * np.float32(self.gain(sound)), sample_rate=RATE))

    @staticmethod
    def _spectrum(sound: Floats, n_fft: int, hop: int, bands: int) -> Floats:
        audio = torch.from_numpy(sound[None])
        power = mel(audio, sample_rate=RATE, n_fft=n_fft, hop_length=hop, n_mels=bands)
        return np.asarray(np.sqrt(power[0].numpy()))


def _apart(a: Floats, b: Floats, floor: float) -> Floats:
    return np.asarray(np.abs(np.log(np.maximum(a, floor)) - np.log(np.maximum(b, floor))))


def _envelope(sound: Floats) -> Floats:
    pieces = np.pad(sound, (0, -len(sound) % ENVELOPE)).reshape(-1, ENVELOPE)
    return np.asarray(np.sqrt((pieces**2).mean(axis=1)))


def _heard(target: Waveform) -> Floats:
    """One channel at 44.1 kHz from the onset on, its peak at a half."""
    mono = resample(target.mono(), RATE).samples[0]
    peak = float(np.abs(mono).max(initial=0.0))
    if peak < 1e-5 or not np.isfinite(mono).all():
        raise AudioError("there is nothing to match: the sound is silent")
    onset = int(np.argmax(np.abs(mono) > 0.01 * peak))
    part = mono[max(onset - 44, 0) :][: round(LONGEST_S * RATE)]
    return np.ascontiguousarray(np.pad(part, (0, max(2048 - len(part), 0))) * np.float32(0.5 / peak))
