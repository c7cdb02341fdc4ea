"""Digits, words and short phrases in many voices, spoken by espeak-ng."""

import io
import subprocess
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

from training.clips import SAMPLE_RATE, Clip, Facts, clip
from training.pieces import between, chance
from training.production import Chain, produced

VARIANTS = (
    *("", "+f1", "+f2", "+f3", "+f4", "+f5", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8"),
    *("+klatt", "+klatt2", "+klatt3", "+croak", "+whisper", "+whisperf", "+grandpa", "+grandma", "+linda", "+michael"),
    *("+adam", "+belinda", "+david", "+john", "+max", "+pablo", "+steph", "+victor", "+Andrea", "+Gene"),
)
LANGUAGES = (
    *("en", "en-us", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us", "en"),
    *("de", "fr", "es", "it", "nl", "pl", "pt", "sv", "tr", "cs", "fi", "hu", "id", "hi", "ru", "vi", "el", "ro"),
)
DIGITS = tuple(str(digit) for digit in range(10))
ENGLISH_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh")
WORDS = (
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "hey", "hello", "check", "mic", "ready"),
    *("music", "dance", "feel", "it", "baby", "love", "tonight", "people", "house", "drum", "bass", "fire", "water"),
    *(
        "come on",
        "let's go",
        "one more time",
        "all right",
        "here we go",
        "thank you",
        "good morning",
        "what time is it",
    ),
    *("cat", "dog", "bird", "tree", "bed", "wow", "happy", "sheila", "marvin", "ah", "uh", "oh yeah", "hmm", "ha"),
    *("forward", "backward", "follow", "learn", "visual", "open the door", "how are you", "I think so", "see you soon"),
)


def said_by(voice: int, *, numbers: range, seed: int) -> Iterator[Clip]:
    """Clips of voice `voice`: a language and a variant that stay together, at any speed and height."""
    drawn = np.random.default_rng([seed, 8, voice])
    language = LANGUAGES[voice % len(LANGUAGES)]
    name = language + str(drawn.choice(VARIANTS))
    for number in numbers:
        rng = np.random.default_rng([seed, 9, voice, number])
        english = language.startswith("en")
        text = str(rng.choice(ENGLISH_DIGITS if english else DIGITS)) if chance(rng, 0.55) else str(rng.choice(WORDS))
        command = ["espeak-ng", "-v", name, "-s", str(int(rng.integers(95, 260))), "-p", str(int(rng.integers(5, 96)))]
        wav = subprocess.run([*command, "--stdout", text], check=True, capture_output=True).stdout
        audio, sample_rate = soundfile.read(io.BytesIO(wav), dtype="float64")
        sound = soxr.resample(audio, sample_rate * between(rng, 0.86, 1.17), SAMPLE_RATE)
        chain = Chain(
            high_cut_hz=between(rng, 3000, 4000) if chance(rng, 0.5) else None,
            low_cut_hz=between(rng, 60, 250) if chance(rng, 0.3) else None,
            room_s=between(rng, 0.1, 0.8) if chance(rng, 0.35) else None,
            room_level=between(rng, 0.02, 0.25),
            tilt=(between(rng, 150, 5000), float(rng.uniform(-12, 12))) if chance(rng, 0.5) else None,
            hiss_db=float(rng.uniform(-60, -26)) if chance(rng, 0.5) else None,
            gate_s=1.5,
        )
        if np.abs(sound).max(initial=0.0) < 1e-4:
            continue
        loud = np.abs(sound) > 0.02 * np.abs(sound).max()  # without what espeak leaves before and after the word
        sound = sound[int(np.argmax(loud)) : len(sound) - int(np.argmax(loud[::-1]))]
        if chance(rng, 0.6) and chain.high_cut_hz:  # over a telephone's rate
            sound = soxr.resample(soxr.resample(sound, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)
        made = clip(produced(sound, chain, rng), Facts("speech", "speech", f"voice {name}", tonal=-1))
        if made is not None:
            yield made
