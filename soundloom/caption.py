"""A sound in words, from what was measured: 'short dark kick, A1, sharp attack, 0.3 s'."""

import math

from soundloom.score import pitch_name

# Each word covers values up to its bound.
_LENGTHS = ((0.08, "very short"), (0.4, "short"), (1.5, ""), (5.0, "long"), (math.inf, "very long"))
_BRIGHTNESS = ((500.0, "dark"), (1200.0, "warm"), (3000.0, ""), (6500.0, "bright"), (math.inf, "brilliant"))
_NOISINESS = ((0.5, ""), (0.8, "breathy"), (math.inf, "noisy"))
_ATTACKS = ((0.012, "sharp attack"), (0.08, "soft attack"), (math.inf, "slow attack"))


def caption(
    *,
    label: str | None,
    pitch: float,
    seconds: float,
    brightness_hz: float,
    noisiness: float,
    attack_s: float,
    decay_s: float,
) -> str:
    """The words for one sound. `pitch` is a MIDI number; what is NaN is not spoken of.

    >>> caption(label="kick", pitch=33.1, seconds=0.3, brightness_hz=310, noisiness=0.1, attack_s=0.003, decay_s=0.2)
    'short dark kick, A1, sharp attack, 0.3 s'
    """
    length = decay_s if math.isfinite(decay_s) and decay_s < seconds else seconds
    adjectives = [_word(length, _LENGTHS), _word(brightness_hz, _BRIGHTNESS), _word(noisiness, _NOISINESS)]
    noun = label or ("sound" if math.isnan(pitch) else "note")
    parts = [" ".join(word for word in (*adjectives, noun) if word)]
    if math.isfinite(pitch):
        parts.append(pitch_name(pitch))
    if math.isfinite(attack_s):
        parts.append(_word(attack_s, _ATTACKS))
    parts.append(f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s")
    return ", ".join(parts)


def _word(value: float, words: tuple[tuple[float, str], ...]) -> str:
    return "" if math.isnan(value) else next(word for bound, word in words if value <= bound)
