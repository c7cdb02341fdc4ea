"""The sampler: voices in real time per core, and how clean it transposes

64 held notes at 44.1 kHz in blocks of 512. Peers, measured once on a Zen 4 core when Soundloom was designed: Csound
3970 sampler voices, FluidSynth 1270 to 1360 notes. A stereo recording is one voice of two channels. `error dB`: what is
beside the sine when a sine of 44.1 kHz is transposed, the worst of -12 to 12 semitones; FluidSynth 2.3 leaves images at
-40 dB of a recording of 22 kHz where this has none.
"""

import json
import math
from typing import Any

from benchmarks import common

RATE = 44100
VOICES = 64
BLOCK = 512
SINES = (100.0, 1000.0, 4000.0, 9900.0)


def main() -> list[dict[str, Any]]:
    import numpy as np

    from soundloom.audio import Waveform
    from soundloom.instruments.zones import Sound, spread

    rng = np.random.default_rng(0)

    def noise(channels: int) -> Waveform:
        return Waveform((0.1 * rng.standard_normal((channels, 20 * RATE))).astype(np.float32), RATE)

    mono, stereo = (spread([Sound(noise(channels), float(pitch)) for pitch in range(36, 72, 3)]) for channels in (1, 2))
    filtered = {"cutoff_hz": 3000.0, "resonance": 0.2}
    rows: list[dict[str, Any]] = [
        {"what": what, "voices in real time": _voices(source, settings)}
        for what, source, settings in (
            ("a looped tone", None, {}),
            ("a looped tone, filtered", None, filtered),
            ("a looped tone, with vibrato", None, {"vibrato_cents": 20.0}),
            ("twelve long recordings, mono", mono, {}),
            ("twelve long recordings, stereo", stereo, {}),
            ("twelve long recordings, stereo, filtered", stereo, filtered),
        )
    ]
    rows += [{"what": f"a sine of {hz:g} Hz, transposed", "error dB": _error_db(hz)} for hz in SINES]
    return rows


def _voices(source: Any, settings: dict[str, float]) -> float:
    from soundloom.instruments.base import Event
    from soundloom.instruments.sampler import Sampler

    instrument = Sampler(settings, voices=VOICES, source=source)
    state = instrument.init_state(RATE)
    notes = [Event(0, "on", number, pitch=36 + number / 2) for number in range(VOICES)]
    instrument.process(state, notes, RATE // 10)
    assert state.rows["active"].all()

    def second() -> None:
        for _ in range(RATE // BLOCK):
            instrument.process(state, [], BLOCK)

    taken = common.cpu_seconds(second, repeats=9)
    assert state.rows["active"].all()
    return VOICES * (RATE // BLOCK) * BLOCK / RATE / taken


def _error_db(hz: float) -> float:
    import numpy as np

    from soundloom.audio import Waveform
    from soundloom.instruments.base import Event
    from soundloom.instruments.sampler import Sampler
    from soundloom.instruments.zones import Keymap, Zone

    tone = np.sin(2 * np.pi * hz * np.arange(2 * RATE) / RATE)[None].astype(np.float32)
    instrument = Sampler({"velocity_db": 0.0}, source=Keymap((Zone(Waveform(tone, RATE)),)))
    worst = -math.inf
    for semitones in np.arange(-12, 12.1, 0.7):
        on = Event(0, "on", 1, 60.0 + semitones, 1.0)
        block, _ = instrument.process(instrument.init_state(RATE), [on], RATE // 2)
        audio = block[0, 2000:].astype(np.float64)
        turn = 2 * np.pi * hz * 2 ** (semitones / 12) * np.arange(len(audio)) / RATE
        basis = np.stack([np.sin(turn), np.cos(turn)], axis=1)
        rest = audio - basis @ np.linalg.lstsq(basis, audio)[0]
        worst = max(worst, 10 * math.log10(np.mean(rest**2) / np.mean(audio**2)))
    return worst


if __name__ == "__main__":
    table = main()
    common.print_table(table, title=__doc__.splitlines()[0])
    print(json.dumps(table))
