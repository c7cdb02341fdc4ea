"""A subtractive synthesiser: two band-limited oscillators and noise, a state-variable filter, envelopes, a pitch drop.

Basses, pads and leads; with the pitch envelope and the noise also kicks, toms, snares and hats.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, white

TICK = 32  # samples between two looks at the knobs and slow modulations; what is heard moves linearly between
PHASE_BITS = 40  # phases are integers, so that any split into blocks adds up to the same phase: 4e-8 Hz steps
PHASE_ONE = 1 << PHASE_BITS
PHASE_MASK = PHASE_ONE - 1
ATTACK, DECAY = 0, 1


class Subtractive(AbstractPolyphonic):
    """Two oscillators and noise → filter → drive → level, each with its envelope.

    >>> synth = Subtractive({"cutoff_hz": 800, "osc2_semitones": -12})
    >>> state = synth.init_state(44100)
    >>> block, state = synth.process(state, [Event(0, "on", note=1, pitch=45)], 512)
    >>> block.shape
    (1, 512)
    """

    params = (
        Param("osc1_shape", "", 0, 3, 2, help="0 sine, 1 triangle, 2 saw, 3 pulse, and all between"),
        Param("osc1_level", "", 0, 1, 0.5, help="how much of the first oscillator"),
        Param("osc2_shape", "", 0, 3, 2, help="0 sine, 1 triangle, 2 saw, 3 pulse, and all between"),
        Param("osc2_level", "", 0, 1, 0, help="how much of the second oscillator"),
        Param("osc2_semitones", "semitones", -24, 24, 0.07, help="the second oscillator against the first"),
        Param("pulse_width", "", 0.05, 0.95, 0.5, help="of both oscillators: 0.5 is hollow, the ends are nasal"),
        Param("noise_level", "", 0, 1, 0, help="how much white noise"),
        Param("pitch_env_semitones", "semitones", -48, 48, 0, help="how much higher the pitch starts: kicks and toms"),
        Param("pitch_env_s", "s", 0.001, 2, 0.03, "log", "how long the pitch takes to fall to a third of that"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("cutoff_hz", "Hz", 20, 20000, 20000, "log", "where the filter cuts, with its envelope at rest"),
        Param("resonance", "", 0, 1, 0, help="how much the filter rings at its cutoff"),
        Param("filter_shape", "", 0, 2, 0, help="0 lets lows through, 1 a band, 2 highs, and all between"),
        Param("key_tracking", "", 0, 1, 0, help="how far the cutoff follows the keyboard (from C4)"),
        Param("velocity_octaves", "octaves", 0, 6, 0, help="how much duller the softest touch is than the hardest"),
        Param("filter_env_octaves", "octaves", -8, 8, 0, help="how far the filter envelope moves the cutoff"),
        Param("filter_attack_s", "s", 0.001, 5, 0.001, "log", "the filter envelope's rise"),
        Param("filter_decay_s", "s", 0.005, 10, 0.5, "log", "its fall by 60 dB towards the sustain"),
        Param("filter_sustain", "", 0, 1, 0, help="where it stays"),
        Param("attack_s", "s", 0.0005, 5, 0.003, "log", "the level's rise"),
        Param("decay_s", "s", 0.005, 20, 1, "log", "the level's fall by 60 dB towards the sustain"),
        Param("sustain", "", 0, 1, 0.8, help="the level that stays while the key is held"),
        Param("release_s", "s", 0.005, 10, 0.2, "log", "the level's fall by 60 dB after the key"),
        Param("drive_db", "dB", 0, 36, 0, help="saturation: how hard the filtered sound is pushed"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "f8") for name in ("pitch", "velocity", "env", "filter_env", "ic1", "ic2", "shaped", "dc")],
            ("bent", "f8"),  # semitones: the bend, gliding
            *[
                (name, "f8") for name in ("cutoff", "octave", "g", "g_step", "gain", "gain_step")
            ],  # g, gain: at the tick's start
            *[(name, "i8") for name in ("stage", "filter_stage", "phase1", "phase2")],  # phases: at the tick's start
            *[(name, "i8") for name in ("increment1", "increment2", "bend1", "bend2")],  # per sample, per sample²
        ]
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        ticks = sample_rate / TICK
        derived = dict(values)
        derived |= {
            "attack_step": 1 / (values["attack_s"] * sample_rate),
            "filter_release_factor": 0.001 ** (1 / (values["release_s"] * ticks)),
            "filter_attack_step": 1 / (values["filter_attack_s"] * ticks),
            "filter_decay_factor": 0.001 ** (1 / (values["filter_decay_s"] * ticks)),
            "damping": 2 * 0.01 ** values["resonance"],  # 1 / Q: Q goes from 0.5 to 50
            "cutoff_octave": math.log2(values["cutoff_hz"]),
            "osc2_ratio": 2 ** (values["osc2_semitones"] / 12),
            "drive": 10 ** (values["drive_db"] / 20) if values["drive_db"] else 0.0,
            "gain": 10 ** (values["gain_db"] / 20),
            "dc_tracking": 2 * math.pi * 5 / sample_rate,  # below 5 Hz
            "smoothing": 1 - math.exp(-1 / (0.005 * ticks)),  # knobs glide in 5 ms
        }
        samples = np.arange(1, TICK + 1) / sample_rate
        powers = {f"{name}_powers": 0.001 ** (samples / values[f"{name}_s"]) for name in ("decay", "release")}
        dtype = [(name, "f8") for name in derived] + [(name, "f8", TICK) for name in powers]
        return np.array([(*derived.values(), *powers.values())], dtype=dtype)

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs = state.rows[slot], state.derived[0]
        row["pitch"], row["velocity"] = event.pitch, event.velocity
        row["cutoff"] = knobs["cutoff_octave"]

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        waves, offsets, bits, harmonics = tables()
        _render(rows, state.derived, state.bend, waves, offsets, bits, harmonics, float(state.sample_rate), out[0])


@functools.cache
def tables() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sine, triangle and saw, each at a ladder of numbers of harmonics, so that no partial reaches half the rate.

    Returns waves [3, total] (each table followed by its first value, for the interpolation), and per level its
    offset, the power of two of its length, and its number of harmonics. A table is 8 times longer than its highest
    harmonic needs, 2048 at least: reading it between the points linearly adds less than -80 dB (harmonic k of a table
    of L gets an image of (k / L)² of its own level).
    """
    counts = sorted({round(2 ** (step / 4)) for step in range(4 * 10 + 1)} | {0, 3})
    bits = [max(11, math.ceil(math.log2(8 * max(count, 1)))) for count in counts]
    levels: list[NDArray[np.float64]] = []
    for count, bit in zip(counts, bits, strict=True):
        length = 1 << bit
        k = np.arange(1, count + 1)
        spectra = np.zeros((3, length // 2 + 1), dtype=np.complex128)
        if count:
            spectra[0, 1] = -0.5j * length
            spectra[1, k] = -0.5j * length * np.where(k % 2 == 1, 8 / np.pi**2 * np.sin(np.pi * k / 2) / k**2, 0)
            spectra[2, k] = -0.5j * length * 2 / np.pi / k
        wave = np.fft.irfft(spectra, n=length, axis=-1)
        levels.append(np.concatenate([wave, wave[:, :1]], axis=-1))
    offsets = np.cumsum([0] + [level.shape[1] for level in levels[:-1]])
    return np.concatenate(levels, axis=-1).astype(np.float32), offsets, np.array(bits), np.array(counts)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _oscillate(buffer, m, step, phase, increment, bend, gain, wave, offset, bits, shift):  # type: ignore[no-untyped-def]
    """Add `gain` times a wave, read `shift` ahead, at samples step .. step + m of a tick.

    The pitch moves linearly within a tick, so the phase is quadratic: phase + k increment + k (k - 1) / 2 bend.
    """
    down = PHASE_BITS - bits
    scale = 1.0 / (1 << down)
    low = (1 << down) - 1
    for j in range(m):
        k = step + j
        position = (phase + shift + k * increment + (k * (k - 1) >> 1) * bend) & PHASE_MASK
        index = offset + (position >> down)
        a = wave[index]
        buffer[j] += gain * (a + (wave[index + 1] - a) * (scale * (position & low)))


@njit(cache=True)
def _shape(buffer, m, step, phase, increment, bend, shape, width, level, waves, offset, bits):  # type: ignore[no-untyped-def]
    """Add an oscillator whose shape lies between two neighbours of sine, triangle, saw and pulse.

    A pulse is a saw less the same saw `width` of a period later: band-limited, and without DC at any width.
    """
    for which in range(3):
        amount = max(0.0, 1.0 - abs(shape - which))
        if which == 2 and shape > 2:
            amount = 1.0  # both the saw and the pulse contain it
        if amount > 0:
            _oscillate(buffer, m, step, phase, increment, bend, level * amount, waves[which], offset, bits, 0)
    if shape > 2:
        shift = int(width * PHASE_ONE)
        _oscillate(buffer, m, step, phase, increment, bend, level * (2 - shape), waves[2], offset, bits, shift)


@njit(cache=True)
def _increment(v, p, age, sample_rate):  # type: ignore[no-untyped-def]
    """How far oscillator 1 moves a sample at an age: a closed form, in 1 / PHASE_ONE of a period."""
    pitch = v.pitch + v.bent
    seconds = age / sample_rate
    if p.pitch_env_semitones != 0:
        pitch += p.pitch_env_semitones * math.exp(-seconds / p.pitch_env_s)
    if p.vibrato_cents > 0:
        pitch += 0.01 * p.vibrato_cents * math.sin(2 * math.pi * p.vibrato_hz * seconds)
    return int(440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / sample_rate * PHASE_ONE)


@njit(cache=True)
def _filter_gain(octave, sample_rate):  # type: ignore[no-untyped-def]
    """The filter's g for a cutoff of 2^octave Hz, prewarped: the cutoff is exact."""
    return math.tan(math.pi * min(max(2.0**octave, 10.0), 0.47 * sample_rate) / sample_rate)


@njit(cache=True)
def _tick(v, p, bend, sample_rate):  # type: ignore[no-untyped-def]
    """Work out where pitch, cutoff and gain go until the next tick; what does not move is not worked out again."""
    first = v.age == 0
    v.phase1 = (v.phase1 + TICK * v.increment1 + (TICK * (TICK - 1) >> 1) * v.bend1) & PHASE_MASK
    v.phase2 = (v.phase2 + TICK * v.increment2 + (TICK * (TICK - 1) >> 1) * v.bend2) & PHASE_MASK
    if first:
        v.bent = bend
    moves = p.vibrato_cents > 0 or p.pitch_env_semitones != 0 or v.bent != bend
    if first or moves or v.bend1 != 0:
        start = _increment(v, p, v.age, sample_rate)
        v.bent = bend if abs(bend - v.bent) < 1e-4 else v.bent + (bend - v.bent) * p.smoothing
        end = _increment(v, p, v.age + TICK, sample_rate) if moves else start
        v.increment1, v.bend1 = start, (end - start) // TICK
    v.increment2, v.bend2 = int(v.increment1 * p.osc2_ratio), int(v.bend1 * p.osc2_ratio)

    if v.held == 0:
        v.filter_env *= p.filter_release_factor
    elif v.filter_stage == ATTACK:
        v.filter_env += p.filter_attack_step
        if v.filter_env >= 1:
            v.filter_env, v.filter_stage = 1.0, DECAY
    else:
        v.filter_env = p.filter_sustain + (v.filter_env - p.filter_sustain) * p.filter_decay_factor
    v.cutoff += (p.cutoff_octave - v.cutoff) * p.smoothing
    octave = v.cutoff + p.filter_env_octaves * v.filter_env - p.velocity_octaves * (1 - v.velocity)
    octave += p.key_tracking * (v.pitch - 60) / 12
    gain = p.gain * v.velocity * v.velocity
    if first:
        v.g, v.g_step, v.octave = _filter_gain(octave, sample_rate), 0.0, octave
        v.gain, v.gain_step = gain, 0.0
    else:
        v.g += TICK * v.g_step
        v.g_step = 0.0
        if octave != v.octave:
            v.g_step = (_filter_gain(octave, sample_rate) - v.g) / TICK
            v.octave = octave
        v.gain += TICK * v.gain_step
        v.gain_step = (gain - v.gain) * p.smoothing / TICK


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, params, bend, waves, offsets, bits, harmonics, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n], tick by tick: oscillators, filter, drive, level.

    The filter is the trapezoidal (zero-delay-feedback) state-variable filter of Simper ("Linear Trap Optimised SVF",
    2013): its cutoff is exact at every rate and may move every sample. It is written as a matrix on its two states,
    so that only two multiply-adds wait for each other; band and low are the means of a state before and after.

    The drive is x / sqrt(1 + x²) with first-order antiderivative anti-aliasing (Parker, Zavalishin and Le Bivic,
    2016), which for this curve has the closed form (x1 + x0) / (sqrt(1 + x1²) + sqrt(1 + x0²)).
    """
    p = params[0]
    n = len(out)
    buffer, env = np.empty(TICK), np.empty(TICK)
    a2s, a3s = np.empty(TICK), np.empty(TICK)
    state1, state2 = np.empty(TICK + 1), np.empty(TICK + 1)
    low_mix = max(0.0, 1.0 - p.filter_shape)
    high_mix = max(0.0, p.filter_shape - 1.0)
    band_mix = (1.0 - low_mix - high_mix) * p.damping  # the band's peak is 1 at any resonance
    k = p.damping
    for i in range(len(rows)):
        v = rows[i]
        at = 0
        while at < n and v.active == 1:
            step = v.age % TICK
            if step == 0:
                _tick(v, p, bend, sample_rate)
            m = min(TICK - step, n - at)
            buffer[:] = 0.0
            if p.osc1_level > 0:
                top = max(v.increment1, v.increment1 + TICK * v.bend1, 1)
                level = np.searchsorted(harmonics, (PHASE_ONE >> 1) // top, side="right") - 1
                _shape(buffer, m, step, v.phase1, v.increment1, v.bend1, p.osc1_shape, p.pulse_width, p.osc1_level,
                       waves, offsets[level], bits[level])  # fmt: skip
            if p.osc2_level > 0:
                top = max(v.increment2, v.increment2 + TICK * v.bend2, 1)
                level = np.searchsorted(harmonics, (PHASE_ONE >> 1) // top, side="right") - 1
                _shape(buffer, m, step, v.phase2, v.increment2, v.bend2, p.osc2_shape, p.pulse_width, p.osc2_level,
                       waves, offsets[level], bits[level])  # fmt: skip
            if p.noise_level > 0:
                for j in range(m):
                    buffer[j] += p.noise_level * white(v.key, v.age + j)

            for j in range(m):
                g = v.g + (step + j + 1) * v.g_step
                a2s[j] = 2.0 * g / (1.0 + g * (g + k))
                a3s[j] = g * a2s[j]
            ic1, ic2 = v.ic1, v.ic2
            state1[0], state2[0] = ic1, ic2
            for j in range(m):
                # a1 = 1 / (1 + g (g + k)) = 1 - k a2 - a3, and doubled all three, as the states move by twice
                drop = k * a2s[j] + a3s[j]
                next1 = (1.0 - drop) * ic1 + (a2s[j] * buffer[j] - a2s[j] * ic2)
                ic2 = (1.0 - a3s[j]) * ic2 + (a3s[j] * buffer[j] + a2s[j] * ic1)
                ic1 = next1
                state1[j + 1], state2[j + 1] = ic1, ic2
            v.ic1, v.ic2 = ic1, ic2
            for j in range(m):
                band = 0.5 * (state1[j] + state1[j + 1])
                low = 0.5 * (state2[j] + state2[j + 1])
                buffer[j] = low_mix * low + band_mix * band + high_mix * (buffer[j] - k * band - low)

            if p.drive > 0:
                x0, dc = v.shaped, v.dc
                root0 = math.sqrt(1.0 + x0 * x0)
                for j in range(m):
                    x1 = p.drive * buffer[j]
                    root1 = math.sqrt(1.0 + x1 * x1)
                    y = (x1 + x0) / (root1 + root0)
                    x0, root0 = x1, root1
                    dc += p.dc_tracking * (y - dc)  # what saturation makes of lopsided waves
                    buffer[j] = y - dc
                v.shaped, v.dc = x0, dc

            _envelope(v, p, m, env)
            gain0, gain_step = v.gain + (step + 1) * v.gain_step, v.gain_step
            for j in range(m):
                out[at + j] += (gain0 + j * gain_step) * env[j] * buffer[j]
            v.age += m
            at += m
            if v.env < SILENT and (v.held == 0 or v.stage == DECAY) and v.age % TICK == 0:
                v.active = 0  # only at the end of a tick, wherever blocks end


@njit(cache=True)
def _envelope(v, p, m, env):  # type: ignore[no-untyped-def]
    """The next m samples of a voice's level: a straight rise, exponential falls by the powers of their factors."""
    at = 0
    if v.held == 0:
        for j in range(m):
            env[j] = v.env * p.release_powers[j]
    else:
        if v.stage == ATTACK:
            rise = min(m, math.ceil((1.0 - v.env) / p.attack_step))
            for j in range(rise):
                env[j] = min(v.env + (j + 1) * p.attack_step, 1.0)
            at = rise
            v.env = env[rise - 1]
            if v.env >= 1:
                v.stage = DECAY
        above = v.env - p.sustain
        for j in range(m - at):
            env[at + j] = p.sustain + above * p.decay_powers[j]
    v.env = env[m - 1]
