"""Writes tidewater.mid, the three-minute piece of the README: `python docs/piece/compose.py`.

D minor, 88 beats a minute, 66 bars: a slow start over a granular sea, a tune handed from a blown tube to bells that a
model has learnt, a bridge, the tune once more with all, and out with the tide. Channels count from 0.
"""

from pathlib import Path

from soundloom.midi import write
from soundloom.score import Control, Note, Score, parse

BPM = 88.0
BEAT_S = 60 / BPM
BAR = 4.0
PAD, BASS, BELLS, ARP, STRINGS, FLUTE, MALLETS, SEA, LEAD, DRUMS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
PROGRAMS = {PAD: 89, BASS: 33, BELLS: 14, ARP: 46, STRINGS: 48, FLUTE: 73, MALLETS: 12, SEA: 97, LEAD: 81, DRUMS: 0}

# Chords: bass note, then the others from low to high.
CHORDS = {
    "Dm9": (38, 57, 60, 64, 65), "Bb": (34, 57, 58, 62, 65), "F": (41, 57, 60, 65, 67), "C": (36, 55, 60, 62, 64),
    "Gm9": (43, 57, 58, 62, 65), "Dm/F": (41, 57, 60, 62, 65), "Eb": (39, 55, 58, 62, 67), "A7": (33, 55, 57, 61, 64),
    "Asus": (33, 57, 59, 62, 64), "D": (38, 57, 62, 64, 66),
}  # fmt: skip
VERSE = ["Dm9", "Bb", "F", "C", "Dm9", "Bb", "Gm9", "Asus"]
BRIDGE = ["Gm9", "Dm/F", "Eb", "Bb", "Gm9", "Dm/F", "Eb", "A7"]

# Of the bass in a bar: beat, length, semitones above the root, loudness.
WALK = ((0, 1.4, 0, 1.0), (1.5, 0.45, 0, 0.8), (2.5, 0.9, 7, 0.85), (3.5, 0.4, 12, 0.7))

TUNE = """
 A4:1.5@0.7 D5:0.5@0.75 E5:1@0.8 F5:1@0.85   D5:2@0.75 C5:0.5@0.6 Bb4:0.5@0.6 A4:1@0.65
 C5:1.5@0.7 A4:0.5@0.65 F5:1.5@0.85 E5:0.5@0.75   G4:3@0.7 -:1
 A4:1.5@0.7 D5:0.5@0.75 E5:1@0.8 A5:1@0.9   F5:1.5@0.8 E5:0.5@0.75 D5:2@0.7
 Bb4:1@0.7 C5:0.5@0.7 D5:0.5@0.75 F5:1@0.8 D5:1@0.75   E5:3.5@0.75 -:0.5
"""
ANSWER = """
 -:1 F5:0.5@0.6 E5:0.5@0.6 D5:2@0.65   -:1 D5:0.5@0.6 C5:0.5@0.6 Bb4:2@0.6
 -:1 C5:0.5@0.6 F5:0.5@0.65 A5:2@0.7   -:0.5 G5:0.5@0.65 E5:1@0.6 C5:2@0.6
 -:1 F5:0.5@0.6 A5:0.5@0.65 D6:2@0.7   -:1 Bb5:0.5@0.65 A5:0.5@0.6 F5:2@0.6
 -:0.5 G5:0.5@0.6 F5:0.5@0.6 D5:0.5@0.6 Bb4:2@0.6   A4:1.5@0.55 B4:0.5@0.55 E5:2@0.6
"""
CLIMB = """
 D5:1@0.75 Bb4:0.5@0.7 D5:0.5@0.75 G5:2@0.85   F5:1.5@0.8 E5:0.5@0.75 D5:2@0.75
 G5:1@0.8 Eb5:0.5@0.75 G5:0.5@0.8 Bb5:2@0.9   A5:1@0.85 F5:1@0.8 D5:2@0.75
 D5:1@0.75 G5:0.5@0.8 A5:0.5@0.85 Bb5:2@0.9   A5:1.5@0.85 G5:0.5@0.8 F5:2@0.8
 Eb5:1@0.75 G5:1@0.8 Bb5:1@0.9 G5:1@0.85   A5:2@0.9 C#6:2@0.95
"""


class Piece:
    """Notes and controls, in bars."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.controls: list[Control] = []

    def note(self, channel: int, beat: float, beats: float, pitch: float, velocity: float) -> None:
        program = PROGRAMS[channel]
        self.notes.append(Note(beat * BEAT_S, beats * BEAT_S, pitch, min(velocity, 1.0), channel, program))

    def phrase(self, channel: int, bar: float, text: str, *, up: int = 0, level: float = 1.0) -> None:
        for one in parse(text, bpm=BPM).notes:
            self.note(
                channel, bar * BAR + one.start_s / BEAT_S, 0.96 * one.seconds / BEAT_S, one.pitch + up,
                level * one.velocity,
            )  # fmt: skip

    def move(self, channel: int, number: int, bar: float, value: float, *, to: float | None = None, bars: float = 1):
        """A controller set, or moved evenly over some bars in sixteenths."""
        steps = 1 if to is None else int(16 * bars) + 1
        for step in range(steps):
            part = step / max(steps - 1, 1)
            now = value if to is None else value + (to - value) * part
            self.controls.append(Control((bar + part * bars) * BAR * BEAT_S, "cc", now, number, channel))

    def score(self) -> Score:
        notes = sorted(self.notes, key=lambda note: note.start_s)
        return Score(tuple(notes), tuple(sorted(self.controls, key=lambda control: control.at_s)))


def pads(piece: Piece, bar: int, chords: list[str], channel: int, level: float) -> None:
    for i, chord in enumerate(chords):
        for pitch in CHORDS[chord][1:]:
            piece.note(channel, (bar + i) * BAR, BAR * 0.98, pitch, level)


def bass(piece: Piece, bar: int, chords: list[str], level: float) -> None:
    for i, chord in enumerate(chords):
        root, start = CHORDS[chord][0], (bar + i) * BAR
        for beat, beats, step, loud in (
            (0, 1.4, 0, 1.0),
            (1.5, 0.45, 0, 0.8),
            (2.5, 0.9, 7, 0.85),
            (3.5, 0.4, 12, 0.7),
        ):
            piece.note(BASS, start + beat, beats, root + step, level * loud)


def arpeggio(piece: Piece, bar: int, chords: list[str], level: float) -> None:
    order = (0, 2, 1, 3, 2, 1, 3, 2)
    for i, chord in enumerate(chords):
        upper = [pitch + 12 for pitch in CHORDS[chord][1:]]
        for eighth in range(8):
            accent = 1.0 if eighth in (0, 3, 6) else 0.75
            piece.note(ARP, (bar + i) * BAR + eighth / 2, 0.9, upper[order[eighth]], level * accent)


def mallets(piece: Piece, bar: int, chords: list[str], level: float) -> None:
    for i, chord in enumerate(chords):
        tones = CHORDS[chord][1:]
        for beat, which in ((0.75, 1), (1.25, 3), (2.75, 2), (3.25, 3), (3.75, 1)):
            piece.note(MALLETS, (bar + i) * BAR + beat, 0.4, tones[which] + 12, level)


def beat(piece: Piece, bar: int, bars: int, level: float, *, light: bool = False) -> None:
    kick, snare, rim, closed, opened, crash = 36, 38, 37, 42, 46, 49
    for i in range(bars):
        start = (bar + i) * BAR
        hits = [(0, kick, 1.0), (2.5, kick, 0.8)] + ([] if light else [(1.75, kick, 0.55)])
        hits += [(1, rim if light else snare, 0.8), (3, rim if light else snare, 0.85)]
        for eighth in range(8):
            swing, soft = (0.03, 0.2) if eighth % 2 else (0.0, 0.0)
            hat = opened if eighth == 7 and i % 4 == 3 else closed
            hits.append((eighth / 2 + swing, hat, 0.55 - soft))
        if i == 0 and not light:
            hits.append((0, crash, 0.8))
        if i == bars - 1 and not light:
            hits += [(3.25, snare, 0.5), (3.5, snare, 0.65), (3.75, snare, 0.8)]
        for at, key, loud in hits:
            piece.note(DRUMS, start + at, 0.2, key, level * loud)


def compose() -> Score:
    piece = Piece()
    for channel, volume in {PAD: 0.68, BASS: 0.86, BELLS: 0.8, ARP: 0.72, STRINGS: 0.58, FLUTE: 0.78, MALLETS: 0.7,
                            SEA: 0.6, LEAD: 0.6, DRUMS: 0.76}.items():  # fmt: skip
        piece.move(channel, 7, 0, volume)
    for channel, place in {ARP: 0.3, MALLETS: 0.72, BELLS: 0.6, STRINGS: 0.42, FLUTE: 0.45, LEAD: 0.56}.items():
        piece.move(channel, 10, 0, place)
    for channel, room in {FLUTE: 0.4, BELLS: 0.45, STRINGS: 0.4, PAD: 0.3, ARP: 0.35, BASS: 0.05, DRUMS: 0.12}.items():
        piece.move(channel, 91, 0, room)

    # The sea, then the pad out of it.
    for bar, pitch in ((0, 50), (4, 46), (60, 50)):
        piece.note(SEA, bar * BAR, 4.2 * BAR, pitch, 0.6)
    piece.move(SEA, 11, 0, 0.0, to=1.0, bars=3)
    pads(piece, 2, VERSE[2:4] + VERSE[4:8], PAD, 0.5)
    piece.move(PAD, 74, 2, 0.25, to=0.5, bars=6)
    arpeggio(piece, 4, VERSE[4:8], 0.45)

    # Tune 1: a tube, over plucked strings.
    pads(piece, 8, VERSE + VERSE, PAD, 0.5)
    arpeggio(piece, 8, VERSE + VERSE, 0.5)
    bass(piece, 16, VERSE, 0.75)
    beat(piece, 16, 8, 0.7, light=True)
    piece.phrase(FLUTE, 8, TUNE)
    piece.phrase(FLUTE, 16, TUNE)
    piece.phrase(BELLS, 16, ANSWER, level=0.9)
    for bar in (11, 15, 19, 23):  # vibrato comes into the long notes
        piece.move(FLUTE, 1, bar, 0.0, to=0.8, bars=0.7)
        piece.move(FLUTE, 1, bar + 0.9, 0.0)

    # The bridge: strings, mallets, the whole kit.
    pads(piece, 24, BRIDGE + BRIDGE, STRINGS, 0.6)
    bass(piece, 24, BRIDGE + BRIDGE, 0.85)
    mallets(piece, 24, BRIDGE + BRIDGE, 0.6)
    beat(piece, 24, 16, 0.85)
    piece.phrase(BELLS, 24, CLIMB)
    piece.phrase(LEAD, 32, CLIMB, level=0.85)
    piece.phrase(FLUTE, 32, CLIMB, up=-12, level=0.7)
    piece.move(STRINGS, 11, 24, 0.7, to=1.0, bars=8)

    # A breath.
    pads(piece, 40, ["Dm9", "Bb", "Gm9", "Asus"], PAD, 0.5)
    piece.note(SEA, 40 * BAR, 4 * BAR, 57, 0.6)
    piece.phrase(BELLS, 40, "\n".join(TUNE.split("\n")[1:3]), level=0.75)
    bass(piece, 42, ["Gm9", "A7"], 0.6)

    # All of it.
    pads(piece, 44, VERSE + VERSE, PAD, 0.5)
    pads(piece, 44, VERSE + VERSE, STRINGS, 0.5)
    arpeggio(piece, 44, VERSE + VERSE, 0.55)
    bass(piece, 44, VERSE + VERSE, 0.9)
    mallets(piece, 52, VERSE, 0.5)
    beat(piece, 44, 16, 0.9)
    piece.phrase(LEAD, 44, TUNE, level=0.85)
    piece.phrase(FLUTE, 52, TUNE, up=12, level=0.75)
    piece.phrase(BELLS, 44, ANSWER)
    piece.phrase(BELLS, 52, ANSWER)

    # Out with the tide.
    pads(piece, 60, ["Dm9", "Bb", "Gm9", "Asus"], PAD, 0.45)
    arpeggio(piece, 60, ["Dm9", "Bb", "Gm9", "Asus"], 0.4)
    piece.phrase(FLUTE, 60, TUNE.split("\n")[1], level=0.8)
    piece.move(ARP, 11, 60, 1.0, to=0.5, bars=4)
    for pitch in CHORDS["D"]:
        piece.note(PAD, 64 * BAR, 6, pitch, 0.5)
        piece.note(STRINGS, 64 * BAR, 6, pitch, 0.4)
    for i, pitch in enumerate((62, 66, 69, 74, 78, 81)):
        piece.note(BELLS, 64 * BAR + 0.25 * i, 5, pitch, 0.6)
    piece.note(BASS, 64 * BAR, 6, 38, 0.7)
    piece.move(SEA, 11, 63, 1.0, to=0.0, bars=2)
    return piece.score()


if __name__ == "__main__":
    score = compose()
    write(Path(__file__).parent / "tidewater.mid", score)
    print(f"{len(score.notes)} notes, {score.seconds:.1f} s")
