"""A room: sound scattered by allpasses into sixteen delays that feed each other, and that lose what a decay asks for.

A feedback delay network (Jot and Chaigne, 1991): a lossless mix of all lines, and on each line just the loss that its
length stands for, low and high, so that every way through the network decays at the same pace.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Param
from soundloom.instruments.gliding import TICK, TINY, AbstractGliding, Treatment, glide, one_pole, read

LINES = 16
SHORTEST_S, LONGEST_S = 0.019, 0.077  # the delays at size 1, in even steps of ratio but for a little unevenness
LARGEST = 2.0
WOBBLE_S = 0.0004  # how far a delay swings either way at full modulation
DIFFUSERS_S = ((0.00481, 0.00363, 0.01271, 0.00927), (0.00513, 0.00389, 0.01197, 0.00871))
DIFFUSION = 0.62
LONGEST_PRE_S = 0.25
# How the lines are heard on the left and on the right: at right angles, also what comes from one side alone, so that
# the sides differ as a room's do.
LEFT = np.array([1, -1, 1, 1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1], np.float64)
RIGHT = LEFT * np.tile([1.0, 1.0, -1.0, -1.0], 4)
EARLY = 0.4  # how strong the first, scattered reflections are


class Reverb(AbstractGliding):
    """A room, from a cupboard to a cathedral.

    >>> room = Reverb({"decay_s": 3, "size": 1.5})
    >>> state = room.init_state(44100)
    >>> block, state = room.process(state, [], np.zeros((2, 512), np.float32))
    >>> block.shape
    (2, 512)

    A steady sound is as loud in a long reverb as in a short one.
    """

    params = (
        Param("size", "", 0.3, LARGEST, 1, "log", "how far its walls are apart"),
        Param("decay_s", "s", 0.1, 30, 1.8, "log", "how long it takes to fall by 60 dB"),
        Param("pre_delay_s", "s", 0, LONGEST_PRE_S, 0.012, help="how much later than the sound it begins"),
        Param("damping", "", 0, 1, 0.4, help="how much faster highs die: ten times at 1"),
        Param("damping_hz", "Hz", 500, 16000, 4500, "log", "what counts as highs"),
        Param("low_cut_hz", "Hz", 10, 1000, 90, "log", "below this little gets into the room"),
        Param("modulation", "", 0, 1, 0.3, help="how much the air moves: no tone is left standing"),
        Param("width", "", 0, 1, 1, help="0 is a room in the middle, 1 a room all around"),
        Param("mix", "", 0, 1, 0.25, help="0 is the sound alone, 1 the room alone"),
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> dict[str, Any]:
        delay = _delays(values["size"], sample_rate)
        loss = 0.001 ** (delay / (values["decay_s"] * sample_rate))
        high = loss ** (10 ** values["damping"])
        k = math.tan(math.pi * min(values["damping_hz"] / sample_rate, 0.45))
        return {
            # A shelf: `loss` at 0 Hz, `high` at half the rate, by the bilinear transform.
            "direct": (high + loss * k) / (1 + k),
            "before": (loss * k - high) / (1 + k),
            "again": np.full(LINES, (1 - k) / (1 + k)),
            "delay": delay,
            "pre": float(round(values["pre_delay_s"] * sample_rate) + 3),
            "low_cut": one_pole(values["low_cut_hz"], sample_rate),
            "wobble": values["modulation"] * WOBBLE_S * sample_rate,
            "width": values["width"],
            "level": min(math.sqrt(0.5 * (1 / float(np.mean(loss**2)) - 1)), 2.0),  # as much comes out as goes in
            "mix": values["mix"],
        }

    def _pace(self, name: str) -> tuple[float, float]:
        if name in ("direct", "before", "again", "level"):
            return 0.05, math.inf  # what rings already is not cut off
        return (0.1, 0.3) if name in ("delay", "pre") else super()._pace(name)

    def _memory(self, sample_rate: int) -> tuple[NDArray[Any], ...]:
        longest = float(_delays(LARGEST, sample_rate).max()) + WOBBLE_S * sample_rate + 2 * TICK
        scattered = max(max(times) for times in DIFFUSERS_S) * sample_rate + TICK
        lengths = np.maximum(np.round(np.array(DIFFUSERS_S) * sample_rate).astype(np.int64), 1)
        index = np.arange(LINES)
        # Every other line moves, each at its own pace, in turns a sample. The others are read on their samples: what
        # little each reading between samples takes off the highs is soon much, after so many rounds.
        rates = np.where(index & 2, 0.31 + 0.83 * (index * 0.618034 % 1), 0) / sample_rate
        return (
            np.zeros((LINES, _power_of_two(longest)), np.float32),
            np.zeros((2, _power_of_two(LONGEST_PRE_S * sample_rate + TICK)), np.float32),
            np.zeros((2, 4, _power_of_two(scattered)), np.float32),
            lengths,
            rates,
            np.zeros((4, LINES)),  # each delay at the tick's start and its slope; each shelf's last input and output
            np.zeros(2),
        )

    def _treat(self, state: Treatment, block: NDArray[np.float32], start: int, stop: int) -> None:
        _reverberate(block, start, stop, state.clock, state.glides, state.now, state.slope, *state.memory)


def _delays(size: float, sample_rate: int) -> NDArray[np.float64]:
    """The lengths of the lines in samples: spread evenly in ratio, shifted by fractions that never meet again."""
    index = np.arange(LINES)
    place = (index + 0.8 * (index * 0.618034 % 1 - 0.5)) / (LINES - 1)
    seconds = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** np.clip(place, 0, 1)
    shortest = 2 * TICK + WOBBLE_S * sample_rate  # a tick is read before any of it is written
    return np.maximum(np.round(seconds * size * sample_rate), shortest)


def _power_of_two(samples: float) -> int:
    return 1 << math.ceil(math.log2(samples))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _reverberate(block, start, stop, clock, glides, now, slope, lines, pre, scatter, lengths, rates, loop, cut):  # type: ignore[no-untyped-def]
    """Tick by tick: scatter what comes in, read all lines, lose, mix, add what came in, write all lines.

    No line is shorter than a tick, so a tick of each line is read at once.
    """
    p, s = now[0], slope[0]
    mask = lines.shape[1] - 1
    fresh = np.empty((2, TICK))
    tick = np.empty((LINES, TICK))
    heard = np.empty((2, TICK))
    at = start
    while at < stop:
        frame = clock + at - start
        step = frame % TICK
        if step == 0:
            glide(glides)
            for i in range(LINES):
                loop[0, i], loop[1, i] = p.delay[i], s.delay[i]
                if rates[i] > 0:
                    turn = 2.0 * math.pi * rates[i] * frame
                    swing = math.sin(turn) * p.wobble
                    next_swing = math.sin(turn + 2.0 * math.pi * rates[i] * TICK) * (p.wobble + TICK * s.wobble)
                    loop[0, i] += swing
                    loop[1, i] += (next_swing - swing) / TICK
        m = min(TICK - step, stop - at)
        _scatter(block, at, m, frame, step, p, s, pre, scatter, lengths, cut, fresh)
        for i in range(LINES):
            line, row = lines[i], tick[i]
            delay, swing = loop[0, i] + step * loop[1, i], loop[1, i]
            if swing == 0.0 and delay == math.floor(delay):
                first = frame - int(delay)
                for j in range(m):
                    row[j] = line[(first + j) & mask]
            else:
                for j in range(m):
                    row[j] = read(line, frame + j - (delay + j * swing), mask)
            direct, before, again = p.direct[i], p.before[i], p.again[i]
            x0, y = loop[2, i], loop[3, i]
            for j in range(m):
                x1 = row[j]
                y = direct * x1 + before * x0 + again * y
                x0 = x1
                row[j] = y
            loop[2, i], loop[3, i] = x0, y
        heard[:] = 0.0
        for i in range(LINES):
            for j in range(m):
                heard[0, j] += LEFT[i] * tick[i, j]
                heard[1, j] += RIGHT[i] * tick[i, j]
        _mix(tick, m)
        for i in range(LINES):
            line = lines[i]
            for j in range(m):
                line[(frame + j) & mask] = tick[i, j] + LEFT[i] * 0.35 * fresh[i & 1, j] + TINY
        for j in range(m):
            k = step + j
            level, width, mix = p.level + k * s.level, p.width + k * s.width, p.mix + k * s.mix
            wet0, wet1 = level * heard[0, j] + EARLY * fresh[0, j], level * heard[1, j] + EARLY * fresh[1, j]
            middle, side = 0.5 * (wet0 + wet1), 0.5 * width * (wet0 - wet1)
            dry0, dry1 = block[0, at + j], block[1, at + j]
            block[0, at + j] = dry0 + mix * (middle + side - dry0)
            block[1, at + j] = dry1 + mix * (middle - side - dry1)
        at += m


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _scatter(block, at, m, frame, step, p, s, pre, scatter, lengths, cut, fresh):  # type: ignore[no-untyped-def]
    """What comes in, later, without its lows, and smeared by four allpasses on each side (Schroeder, 1962)."""
    mask, pre_mask = scatter.shape[2] - 1, pre.shape[1] - 1
    for c in range(2):
        low = cut[c]
        for j in range(m):
            pre[c, (frame + j) & pre_mask] = block[c, at + j]
            x = read(pre[c], frame + j - (p.pre + (step + j) * s.pre), pre_mask)
            v = (p.low_cut + (step + j) * s.low_cut) * (x - low)
            x -= v + low
            low += 2.0 * v
            for k in range(4):
                late = scatter[c, k, (frame + j - lengths[c, k]) & mask]
                x -= DIFFUSION * late
                scatter[c, k, (frame + j) & mask] = x + TINY
                x = late + DIFFUSION * x
            fresh[c, j] = x
        cut[c] = low


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _mix(tick, m):  # type: ignore[no-untyped-def]
    """Every line into every line, as strong, and nothing lost: a Hadamard matrix, by its butterflies."""
    half = 1
    while half < LINES:
        scale = 1.0 if half * 2 < LINES else 0.25
        for i in range(LINES):
            if i & half == 0:
                for j in range(m):
                    a, b = tick[i, j], tick[i + half, j]
                    tick[i, j] = scale * (a + b)
                    tick[i + half, j] = scale * (a - b)
        half *= 2
