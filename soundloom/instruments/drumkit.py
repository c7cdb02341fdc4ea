"""The drums of a kit, as figures: what each key of the General MIDI percussion map is made of.

Levels are peaks of tones and the effective levels of modes and noise, all before the gain of the drum. Frequencies,
balances and decays were set beside measurements of recorded kits and of drum machines.
"""

from dataclasses import dataclass, replace

SQUARES_HZ = (205.3, 304.4, 369.6, 522.7, 540.0, 800.0)  # of the TR-808
HATS, TRIANGLES, WHISTLES, GUIROS, CUICAS = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Noise:
    """A band of noise, struck once or several times; each stroke rises straight and falls by 60 dB in `seconds`."""

    level: float
    low_hz: float
    high_hz: float
    seconds: float
    attack_s: float = 0.0005
    delay_s: float = 0.0
    strokes: int = 1
    spacing_s: float = 0.0
    stroke_left: float = 1.0  # how strong each stroke is beside the one before


@dataclass(frozen=True)
class Modes:
    """A plate's modes, falling faster the higher they are.

    `db_per_octave` is how their level goes above the lowest one; `seconds` are the decays of the lowest and the
    highest; `strong` ones stand out (hertz, level beside the rest) and are pairs that lie `split` apart, as on a plate
    that is not quite round. Above `squares_hz`, where it is not 0, six square waves can take their place, as in a drum
    machine.
    """

    level: float
    count: int
    low_hz: float
    high_hz: float
    seconds: tuple[float, float]
    db_per_octave: float = 0.0
    seed: int = 1
    squares_hz: float = 0.0
    strong: tuple[tuple[float, float], ...] = ()
    split: float = 0.03


@dataclass(frozen=True)
class Drum:
    """One drum. `family` says which knobs tune it and make it longer; `tones` are hertz, level, seconds to -60 dB."""

    family: str
    gain: float
    pan: float = 0.0  # -1 left to 1 right
    spread: float = 0.3  # how differently both sides sound
    group: int = 0  # drums of one group silence each other
    tones: tuple[tuple[float, float, float], ...] = ()
    sweep: tuple[float, float] = (0.0, 0.01)  # by how many octaves the tones start higher, and how soon that is over
    push: float = 0.0  # how hard the tones are driven
    modes: Modes | None = None
    noises: tuple[Noise, ...] = ()


def _kick(hz: float, seconds: float) -> Drum:
    return Drum(
        "kick", 1.25, spread=0.0, push=0.8, sweep=(1.7, 0.016),
        tones=((hz, 1.0, seconds), (2.1 * hz, 0.12, 0.5 * seconds)),
        noises=(Noise(0.3, 1200, 5000, 0.022), Noise(0.11, 200, 900, 0.09), Noise(0.08, 3500, 9000, 0.035)),
    )  # fmt: skip


def _snare(hz: float, wires: float, seconds: float) -> Drum:
    return Drum(
        "snare", 1.0, spread=0.35, push=0.5, sweep=(0.35, 0.012),
        tones=((hz, 0.8, 0.33), (1.62 * hz, 0.4, 0.2), (2.2 * hz, 0.16, 0.16)),
        noises=(Noise(wires, 1600, 9500, seconds, 0.001), Noise(0.34, 450, 2500, 0.13), Noise(0.4, 900, 12000, 0.016)),
    )  # fmt: skip


def _tom(hz: float, seconds: float, pan: float) -> Drum:
    return Drum(
        "tom", 1.0, pan, push=0.6, sweep=(0.4, 0.035),
        tones=((hz, 1.0, seconds), (1.52 * hz, 0.3, 0.6 * seconds), (1.98 * hz, 0.16, 0.5 * seconds),
               (2.44 * hz, 0.1, 0.45 * seconds), (3.1 * hz, 0.06, 0.4 * seconds)),
        noises=(
            Noise(0.13, 300, 3500, 0.35 * seconds), Noise(0.06, 200, 1800, 0.7 * seconds), Noise(0.3, 1500, 7000, 0.02),
        ),
    )  # fmt: skip


def _hat(seconds: float, low: float) -> Drum:
    """A pair of cymbals: a shimmer, with some of their low modes."""
    return Drum(
        "hat", 0.62, 0.3, spread=0.5, group=HATS,
        modes=Modes(0.3, 48, 1500, 15000, (seconds, 0.8 * seconds), 3.5, 3, 6000,
                    ((430, low), (785, low), (1330, low), (1910, low))),
        noises=(Noise(0.32, 6500, 19000, seconds), Noise(0.18, 400, 7000, 0.022)),
    )  # fmt: skip


def _cymbal(low_hz: float, seconds: float, pan: float, seed: int) -> Drum:
    return Drum(
        "cymbal", 0.75, pan, spread=0.7,
        modes=Modes(0.26, 64, low_hz, 11500, (1.4 * seconds, 0.7 * seconds), 1.2, seed, 3000),
        noises=(
            Noise(0.2, 2600, 9000, 0.8 * seconds, 0.012), Noise(0.2, 7000, 18000, 0.55 * seconds, 0.004),
            Noise(0.35, 1500, 12000, 0.03),
        ),
    )  # fmt: skip


def _ride(low_hz: float, seconds: float, seed: int) -> Drum:
    strong = tuple((ratio * low_hz, level) for ratio, level in ((0.85, 1.6), (1.7, 1.3), (6.1, 1.5), (9.2, 1.5)))
    return Drum(
        "cymbal", 0.9, 0.5, spread=0.6,
        modes=Modes(0.22, 60, low_hz, 12500, (1.25 * seconds, 0.6 * seconds), 1.0, seed, 3500, strong),
        noises=(Noise(0.08, 3000, 15000, 0.6 * seconds, 0.006), Noise(0.45, 2500, 13000, 0.02)),
    )  # fmt: skip


def _struck(gain: float, pan: float, *tones: tuple[float, float, float], click: Noise, push: float = 0.0) -> Drum:
    """Wood, skin or a small piece of metal: a few tones, and the noise of the stroke."""
    return Drum("percussion", gain, pan, tones=tones, noises=(click,), push=push, sweep=(0.12, 0.01))


def _skin(hz: float, seconds: float, pan: float, slap: float) -> Drum:
    return _struck(
        1.0, pan, (hz, 0.9, seconds), (1.6 * hz, 0.25, 0.5 * seconds), (2.3 * hz, 0.12, 0.3 * seconds),
        click=Noise(slap, 700, 6000, 0.03), push=0.3,
    )  # fmt: skip


def _timbale(hz: float, pan: float) -> Drum:
    return _struck(
        0.9, pan, (hz, 0.8, 0.5), (1.58 * hz, 0.4, 0.45), (2.27 * hz, 0.3, 0.4), (3.6 * hz, 0.15, 0.35),
        (5.2 * hz, 0.08, 0.3), click=Noise(0.35, 1500, 10000, 0.03), push=0.4,
    )  # fmt: skip


def _agogo(hz: float, pan: float) -> Drum:
    return _struck(
        0.8, pan, (hz, 0.7, 0.7), (1.51 * hz, 0.35, 0.5), (2.62 * hz, 0.25, 0.35), (4.1 * hz, 0.1, 0.2),
        click=Noise(0.15, 2500, 12000, 0.015),
    )  # fmt: skip


def _wood(hz: float, seconds: float, pan: float) -> Drum:
    return _struck(1.0, pan, (hz, 0.9, seconds), (2.54 * hz, 0.2, 0.5 * seconds), click=Noise(0.2, hz, 9000, 0.012))


def _noise(gain: float, pan: float, *noises: Noise, group: int = 0) -> Drum:
    """What is shaken or scraped."""
    return Drum("percussion", gain, pan, spread=0.4, group=group, noises=noises)


def _guiro(strokes: int, spacing_s: float) -> Drum:
    teeth = Noise(0.4, 1900, 6500, 0.014, 0.001, strokes=strokes, spacing_s=spacing_s)
    return _noise(1.5, -0.3, teeth, replace(teeth, level=0.2, low_hz=700, high_hz=1600), group=GUIROS)


def _whistle(seconds: float) -> Drum:
    return Drum(
        "percussion", 0.7, 0.2, group=WHISTLES,
        tones=((2310, 0.5, seconds), (2334, 0.5, seconds), (4640, 0.08, seconds)),
        noises=(Noise(0.1, 2000, 7000, seconds, 0.01),),
    )  # fmt: skip


def _cuica(hz: float, octaves: float, seconds: float) -> Drum:
    return Drum(
        "percussion", 0.8, 0.3, group=CUICAS, push=1.5, sweep=(octaves, 0.07),
        tones=((hz, 0.8, seconds), (2 * hz, 0.3, seconds), (3 * hz, 0.15, 0.7 * seconds)),
        noises=(Noise(0.08, 900, 4000, 0.6 * seconds, 0.01),),
    )  # fmt: skip


def _triangle(seconds: float) -> Drum:
    strong = ((1640, 0.6), (2930, 0.8), (5280, 2.0), (6710, 1.5), (8120, 1.6))
    return Drum(
        "percussion", 1.1, 0.4, spread=0.4, group=TRIANGLES,
        modes=Modes(0.25, 19, 4000, 14000, (seconds, 0.5 * seconds), -3.0, 8, strong=strong, split=0.0004),
        noises=(Noise(0.1, 5000, 16000, 0.01),),
    )  # fmt: skip


_BELL = ((722, 2.5), (1190, 2.0), (1835, 2.5), (2570, 1.5), (3410, 1.5))
_COWBELL = (
    (562, 0.7, 0.3),
    (845, 0.8, 0.26),
    (1686, 0.25, 0.16),
    (2535, 0.2, 0.14),
    (3380, 0.12, 0.1),
    (4215, 0.08, 0.09),
)
KIT: dict[int, Drum] = {
    35: _kick(46, 0.5),
    36: _kick(54, 0.36),
    37: replace(
        _struck(1.1, -0.1, (1670, 0.6, 0.08), (455, 0.3, 0.09), (2780, 0.25, 0.05), click=Noise(0.3, 1200, 9000, 0.03)),
        family="snare",
    ),
    38: _snare(186, 0.26, 0.4),
    39: Drum("snare", 1.25, 0.1, spread=0.4, noises=(
        Noise(0.5, 700, 4200, 0.05, strokes=3, spacing_s=0.0105),
        Noise(0.42, 800, 3800, 0.26, 0.001, delay_s=0.0315), Noise(0.08, 3000, 12000, 0.2, delay_s=0.0315),
    )),
    40: _snare(224, 0.34, 0.28),
    41: _tom(78, 1.5, -0.45),
    42: _hat(0.2, 0.7),
    43: _tom(92, 1.35, -0.3),
    44: replace(_hat(0.14, 3.0), noises=(Noise(0.25, 5500, 18000, 0.12, 0.004), Noise(0.12, 250, 900, 0.06))),
    45: _tom(110, 1.2, -0.15),
    46: _hat(1.3, 0.8),
    47: _tom(132, 1.1, 0.0),
    48: _tom(158, 1.0, 0.15),
    49: _cymbal(370, 2.8, -0.35, 11),
    50: _tom(192, 0.9, 0.3),
    51: _ride(480, 3.4, 5),
    52: replace(_cymbal(290, 1.4, 0.45, 13), noises=(
        Noise(0.35, 900, 7000, 0.7, 0.01), Noise(0.25, 5000, 17000, 0.5, 0.003), Noise(0.4, 1500, 12000, 0.03),
    )),
    53: replace(_ride(480, 3.4, 5), modes=Modes(0.32, 24, 700, 9000, (2.6, 1.0), -3.0, 6, 3500, _BELL, 0.002)),
    54: Drum("percussion", 1.0, 0.25, spread=0.4, modes=Modes(0.16, 32, 4200, 14500, (0.4, 0.25), seed=21), noises=(
        Noise(0.25, 6000, 17000, 0.09, strokes=3, spacing_s=0.019, stroke_left=0.6), Noise(0.12, 4000, 16000, 0.3),
    )),
    55: _cymbal(520, 1.0, -0.15, 17),
    56: _struck(0.85, -0.2, *_COWBELL, click=Noise(0.15, 2000, 9000, 0.015), push=1.2),
    57: _cymbal(320, 3.3, 0.4, 19),
    58: _noise(1.2, -0.4, Noise(0.5, 1800, 5500, 0.03, strokes=26, spacing_s=0.021, stroke_left=0.88)),
    59: _ride(560, 3.0, 7),
    60: _skin(420, 0.22, -0.3, 0.3),
    61: _skin(300, 0.3, -0.2, 0.25),
    62: _skin(345, 0.13, 0.3, 0.4),
    63: _skin(262, 0.5, 0.35, 0.2),
    64: _skin(194, 0.6, 0.25, 0.18),
    65: _timbale(330, -0.3),
    66: _timbale(240, -0.2),
    67: _agogo(920, 0.3),
    68: _agogo(690, 0.35),
    69: _noise(1.6, -0.35, Noise(0.35, 4000, 14000, 0.16, 0.02)),
    70: _noise(1.8, 0.4, Noise(0.35, 5500, 17000, 0.08, 0.008)),
    71: _whistle(0.35),
    72: _whistle(1.2),
    73: _guiro(11, 0.0095),
    74: _guiro(34, 0.0125),
    75: _wood(2480, 0.09, 0.3),
    76: _wood(1080, 0.1, -0.3),
    77: _wood(760, 0.12, -0.2),
    78: _cuica(520, -0.45, 0.18),
    79: _cuica(330, 0.6, 0.45),
    80: _triangle(0.3),
    81: _triangle(4.5),
}  # fmt: skip
# Keys beside the map, by what later standards have there: clicks, slaps and scratches below, shakers and bells above.
BESIDE = {
    27: 75,
    28: 39,
    29: 73,
    30: 74,
    31: 37,
    32: 75,
    33: 76,
    34: 75,
    82: 69,
    83: 54,
    84: 81,
    85: 77,
    86: 43,
    87: 41,
}


def drum_of(pitch: float) -> Drum:
    """The drum that a key plays: of the map, or what comes nearest to what is usual on keys beside it."""
    key = round(pitch)
    return KIT.get(BESIDE.get(key, key)) or KIT[35 if key < 35 else 81]
