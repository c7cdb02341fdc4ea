"""A score and instruments → audio, block by block: what a live player does, with the blocks one after the other."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from soundloom.audio import Waveform
from soundloom.errors import ConfigError, ScoreError
from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.score import Score

LOWEST_RATE, HIGHEST_RATE = 1000, 384_000
LONGEST_S = 7200.0
LONGEST_TAIL_S = 30.0
SILENT = 1e-5  # -100 dB: a tail below this for QUIET_S is over
QUIET_S = 0.25


def render(
    score: Score,
    instruments: Mapping[int, AbstractInstrument],
    *,
    sample_rate: int = 44100,
    block: int = 512,
    seed: int = 0,
) -> Waveform:
    """The score played: channel c by `instruments[c]`, summed to mono, with what rings on after the last note.

    Levels are left as they are: a dense score may exceed ±1, and nothing here is clipped or turned down; `fit_peak`
    does that, and says by how much. Refused with `ScoreError`: no notes, a channel without an instrument, two hours.

    >>> from soundloom.instruments.pluck import Pluck
    >>> from soundloom.score import parse
    >>> sound = render(parse("C4 E4 G4"), {0: Pluck()})
    >>> sound.channels, 1.5 < sound.seconds < 3
    (1, True)
    """
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ConfigError(f"the sample rate is {sample_rate} Hz: it goes from {LOWEST_RATE} to {HIGHEST_RATE}")
    if block < 1:
        raise ConfigError(f"a block of {block} samples was asked for: it takes 1 or more, 512 is usual")
    if not score.notes:
        raise ScoreError("the score has no notes: there is nothing to render")
    if score.seconds > LONGEST_S:
        raise ScoreError(f"the score lasts {score.seconds:.0f} s: {LONGEST_S:.0f} s at most; render it in parts")
    timeline = _timeline(score, sample_rate)
    for channel in timeline:
        if channel not in instruments:
            known = ", ".join(str(number) for number in sorted(instruments)) or "none"
            raise ScoreError(f"no instrument for channel {channel}: there are instruments for {known}")
    states = {channel: instruments[channel].init_state(sample_rate, seed=seed + channel) for channel in timeline}
    end = math.ceil(score.seconds * sample_rate)
    last = end + round(LONGEST_TAIL_S * sample_rate)
    blocks: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
    quiet = 0
    done = dict.fromkeys(timeline, 0)
    for start in itertools.count(0, block):
        total = np.zeros(block, dtype=np.float32)
        for channel, events in timeline.items():
            first = done[channel]
            while done[channel] < len(events) and events[done[channel]].frame < start + block:
                done[channel] += 1
            due = [_shifted(event, start) for event in events[first : done[channel]]]
            sound, states[channel] = instruments[channel].process(states[channel], due, block)
            total += sound.mean(axis=0)
        blocks.append(total)
        quiet = quiet + block if np.abs(total).max() < SILENT else 0
        if start + block >= end and (quiet >= QUIET_S * sample_rate or start + block >= last):
            break
    samples = np.concatenate(blocks)
    loud = np.flatnonzero(np.abs(samples) >= SILENT)
    stop = max(end, int(loud[-1]) + 1 if len(loud) else 0)
    return Waveform(samples[None, :stop], sample_rate)


def fit_peak(waveform: Waveform, *, peak_db: float = -1.0) -> tuple[Waveform, float]:
    """The whole turned down by one gain so that its peak is `peak_db` at most, and that gain in dB (0: as it was).

    Inside, every level keeps its relation to every other: a gain, not a limiter.
    """
    peak = float(np.abs(waveform.samples).max(initial=0.0))
    allowed = 10 ** (peak_db / 20)
    if peak <= allowed:
        return waveform, 0.0
    gain = allowed / peak
    return Waveform(waveform.samples * np.float32(gain), waveform.sample_rate), 20 * math.log10(gain)


def _timeline(score: Score, sample_rate: int) -> dict[int, list[Event]]:
    """The events of each channel with absolute frames; at one frame, "off" before "on"."""
    events: dict[int, list[Event]] = defaultdict(list)
    for number, note in enumerate(score.notes):
        on = round(note.start_s * sample_rate)
        off = max(round((note.start_s + note.seconds) * sample_rate), on + 1)
        events[note.channel].append(Event(on, "on", number, note.pitch, note.velocity))
        events[note.channel].append(Event(off, "off", number))
    return {channel: sorted(events[channel], key=lambda e: (e.frame, e.kind == "on")) for channel in sorted(events)}


def _shifted(event: Event, start: int) -> Event:
    return Event(event.frame - start, event.kind, event.note, event.pitch, event.velocity)
