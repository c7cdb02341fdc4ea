"""Plays every engine and every patch, and writes docs/instruments.md with a sound and a picture of each.

`python docs/instruments/make.py`: sounds are Vorbis, pictures spectrograms, both in this folder.
"""

from collections.abc import Sequence
from pathlib import Path

from soundloom.audio import write
from soundloom.draw import spectrogram_png
from soundloom.instruments import patch as patches
from soundloom.instruments.controls import Playable
from soundloom.instruments.engines import EFFECTS, ENGINES, effect, engine
from soundloom.instruments.opening import Opener
from soundloom.instruments.patch import Patch
from soundloom.render import Arrangement, perform
from soundloom.score import Note, Score, parse

HERE = Path(__file__).parent
PHRASE = "C4:0.5 E4:0.5 G4:0.5 B4:0.5 [C4 E4 G4 C5]:2"
PHRASES = {
    "bass": "C2:0.5 C2:0.5 Eb2:0.5 G2:0.5 Bb1 C2",
    "organ": "[C3 G3 C4 E4]:2 [F3 A3 C4 F4]:2",
    "pad": "[C3 G3 E4 B4]:4",
    "texture": "[C4 G4]:4",
    "lead": "C4:0.5 Eb4:0.5 G4:0.5 Bb4:0.5 C5:2",
}
# Of the drums: the eighth and the key.
DRUMS = (
    *((0, 36), (0, 42), (1, 42), (2, 38), (2, 42), (3, 42), (3, 36)),
    *((4, 36), (4, 42), (5, 46), (6, 38), (6, 42), (7, 49)),
)
BPM = 110.0
PATCH = """\
name = "Tape of mine"
engine = "sampler"
source = "my-sounds"            # a file, a folder, an .sfz or .sf2, a trained run, or "patch:choir"
voices = 16
gain_db = -3.0
room = 0.3                      # how much of it goes into the room that all instruments share

[parameters]
attack_s = 0.05
cutoff_hz = 4000.0

[controls.modulation]           # or pressure, or a controller by its number: cc74
param = "cutoff_hz"
to = 12000.0

[[effects]]
effect = "chorus"
mix = 0.4
"""


def phrase(kind: str, engine_name: str) -> Score:
    if engine_name == "drums":
        return Score(tuple(Note(0.27 * at, 0.2, float(key), 0.85) for at, key in DRUMS))
    return parse(PHRASES.get(kind, PHRASE), bpm=BPM)


def show(slug: str, player: Playable, score: Score) -> None:
    """`slug`.ogg and `slug`.png."""
    places = {(note.channel, note.program): 0 for note in score.notes}
    made = perform(score, Arrangement((player,), places), lufs=-20.0).sound
    write(HERE / f"{slug}.ogg", made)
    (HERE / f"{slug}.png").write_bytes(spectrogram_png(made, width=240, height=110))


def row(slug: str, words: Sequence[str]) -> str:
    shown = [f"![spectrogram](instruments/{slug}.png)", f"[listen](instruments/{slug}.ogg)"]
    return "| " + " | ".join([*words, *shown]) + " |"


def about(cls: type) -> str:
    """The first sentence of a docstring."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split()).rstrip(".").partition(". ")[0]


def page() -> str:
    lines = [
        "# Instruments",
        "",
        "Made by `python docs/instruments/make.py`. Pictures are spectrograms, time from left to right, low to high",
        "from bottom to top; sounds are in the room that all instruments share.",
        "",
        "## Engines",
        "",
        "As they stand when nothing is set; `--map ENGINE,knob=value` in `soundloom render` and `soundloom play` turns",
        "a knob. The knobs of each are listed below.",
        "",
        "| engine | what it is | knobs | | |",
        "|---|---|---|---|---|",
    ]
    opener = Opener()
    for name in sorted(ENGINES):
        cls = engine(name)
        show(f"engine-{name}", opener.opened(name), phrase("", name))
        lines.append(row(f"engine-{name}", [f"`{name}`", about(cls), str(len(cls.params))]))
    lines += ["", "## Patches", "", "`patch:NAME` plays one. One of your own is a file, played by its path:", ""]
    lines += ["```toml", *PATCH.splitlines(), "```", ""]
    lines += ["| patch | kind | what it is | engine | | |", "|---|---|---|---|---|---|"]
    every: list[tuple[str, Patch]] = [(slug, patches.named(slug)) for slug in patches.shipped()]
    for slug, patch in sorted(every, key=lambda one: (one[1].kind, one[0])):
        show(slug, opener.opened(f"patch:{slug}"), phrase(patch.kind, patch.engine))
        lines.append(row(slug, [f"`{slug}`", patch.kind, patch.about, patch.engine]))
    lines += ["", "## Knobs", ""]
    for title, known, get in (("engine", ENGINES, engine), ("effect", EFFECTS, effect)):
        for name in sorted(known):
            lines += [
                f"### {name} ({title})",
                "",
                "| knob | from | to | usual | what it does |",
                "|---|---|---|---|---|",
            ]
            for knob in get(name).params:
                ends = [f"{value:g}" for value in (knob.low, knob.high, knob.default)]
                lines.append(f"| `{knob.name}` | " + " | ".join([*ends, knob.help]) + " |")
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (HERE.parent / "instruments.md").write_text(page(), encoding="utf-8")
