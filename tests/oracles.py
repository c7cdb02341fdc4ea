"""What tests measure in a sound, independently of what made it: frequencies, distances in cents, spectra in dB."""

import numpy as np
import scipy.signal

RATE = 44100


def measured_hz(audio, near_hz, sample_rate=RATE):
    """The frequency of a partial: the phase advance between two windows, which is exact for a lone decaying sine.

    The windows are as far apart as keeps the phase unambiguous at a twelfth of a semitone.
    """
    half = len(audio) // 2
    window = scipy.signal.windows.blackmanharris(half)
    t = np.arange(len(audio)) / sample_rate
    mixed = audio * np.exp(-2j * np.pi * near_hz * t)
    first, second = (np.sum(window * part) for part in (mixed[:half], mixed[half : 2 * half]))
    return near_hz + np.angle(second / first) / (2 * np.pi * half / sample_rate)


def cents(hz, other):
    return 1200 * np.log2(hz / other)


def spectrum_db(audio, *, n=32768):
    """Frequencies and levels of the last n samples, the loudest at 0 dB."""
    window = scipy.signal.windows.blackmanharris(n)
    level = 20 * np.log10(np.abs(np.fft.rfft(audio[-n:] * window)) + 1e-12)
    return np.fft.rfftfreq(n, 1 / RATE), level - level.max()


def at_bin(k, *, n=32768):
    """The pitch that lies on bin k of n samples, and its hertz: n samples hold whole periods of it."""
    hz = k * RATE / n
    return 69 + 12 * np.log2(hz / 440), hz


def amplitudes(audio, hz, numbers, *, n=32768):
    """Of multiples of a pitch that lies on a bin, in the last n samples: exact, without a window."""
    turn = -2j * np.pi * hz / RATE * np.arange(n)
    return np.array([2 * abs(np.mean(audio[-n:] * np.exp(k * turn))) for k in numbers])
