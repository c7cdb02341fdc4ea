"""The shape of the code holds: imports point one way, and importing costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "soundloom"

# The rows of the design: a file may import from the rows above it and from names to its left in its own row.
ROWS = [
    ["errors", "config", "paths", "audio", "terminal"],
    ["spectral", "octaves", "phasing", "score", "riff", "midi", "draw"],
    [
        "condition",
        "peaks",
        "pitch",
        "follow",
        "steady",
        "partials",
        "chords",
        "features",
        "caption",
        "tempo",
        "key",
        "form",
        "similar",
        "losses",
        "metrics",
        "distances",
        "diversity",
        "copies",
        "twosample",
        "figures",
        "loudness",
    ],
    [
        "table",
        "journal",
        "finding",
        "licence",
        "naming",
        "duplicates",
        "preparing",
        "measuring",
        "describing",
        "concluding",
        "tagging",
        "bankpage",
        "scanning",
        "bank",
        "models.base",
        "models.excitation",
        "models.layers",
        "models.analysis",
        "models.logspectrum",
        "models.discriminator",
        "models.conditioning",
        "models.solver",
        "models.courses",
        "models.reverb",
        "models.moments",
        "models.wholejudge",
        "models.logistics",
        "models.predictor",
        "models.gate",
        "models.tiles",
        "models.wavekernel",
        "models.filterbank",
        "models.bandspectrum",
        "models.subkernel",
        "models.subtensors",
        "models.nextframe",
        "models.framekernel",
        "models.walk",
        "models.seam",
    ],
    ["runtime", "checkpoint", "models.codec", "models.coded"],
    [
        "models.vae",
        "models.gan",
        "models.flow",
        "models.rnn",
        "models.ddsp",
        "models.subband",
        "models.wavenet",
        "models.classifier",
    ],
    ["models.live"],
    [
        "run",
        "ears",
        "hearing",
        "atlas",
        "atlaspage",
        "closeness",
        "material",
        "likeness",
        "recognition",
        "obedience",
        "steering",
        "evaluate",
        "evalpage",
    ],
    ["optimise", "runlog", "resume", "pace", "vitals", "doctor", "preview", "presets", "train", "recipe"],
    [
        "instruments.base",
        "instruments.voices",
        "instruments.engines",
        "instruments.drumkernels",
        "instruments.drumkit",
        "instruments.plates",
        "instruments.drums",
        "instruments.gliding",
        "instruments.equaliser",
        "instruments.compressor",
        "instruments.drive",
        "instruments.chorus",
        "instruments.delay",
        "instruments.reverb",
        "instruments.chain",
        "instruments.oscillators",
        "instruments.modulation",
        "instruments.filters",
        "instruments.sync",
        "instruments.tones",
        "instruments.lanes",
        "instruments.subtracting",
        "instruments.subtractive",
        "instruments.pluck",
        "instruments.ticks",
        "instruments.sidebands",
        "instruments.fm",
        "instruments.grainsource",
        "instruments.granular",
        "instruments.objects",
        "instruments.modal",
        "instruments.waveguide",
        "instruments.tube",
        "instruments.bowed",
        "instruments.reading",
        "instruments.zones",
        "instruments.samplestore",
        "instruments.samplekernel",
        "instruments.sampler",
        "instruments.drumnames",
        "instruments.folders",
        "instruments.sfztext",
        "instruments.sfz",
        "instruments.sf2file",
        "instruments.sf2",
        "instruments.tables",
        "instruments.wavetable",
        "instruments.additive",
        "instruments.controls",
        "instruments.mixer",
        "instruments.patch",
        "instruments.generalmidi",
        "instruments.playhead",
        "instruments.asks",
        "instruments.soundcache",
        "instruments.workshop",
        "instruments.soundmaking",
        "instruments.endless",
        "instruments.stream",
        "instruments.texture",
        "instruments.melody",
        "instruments.neural",
    ],
    ["instruments.opening", "instruments.listing"],
    ["render"],
    ["factory"],
    ["performing", "api", "match", "picture", "phrase", "demo", "compare", "comparepage"],
    [
        "ring",
        "tape",
        "guard",
        "timing",
        "rates",
        "devices",
        "midiin",
        "backends",
        "hands",
        "player",
        "keyboard",
        "live",
        "transforming",
    ],
    [
        "commands.flags",
        "commands.banks",
        "commands.hearing",
        "commands.training",
        "commands.making",
        "commands.shaping",
        "commands.rendering",
        "commands.playing",
        "commands.judging",
        "commands.comparing",
        "commands.matching",
        "cli",
    ],
]
FAMILIES = {
    "models.gan",
    "models.flow",
    "models.rnn",
    "models.ddsp",
    "models.vae",
    "models.subband",
    "models.wavenet",
    "models.classifier",
}  # the codec is a part of those that model its codes
PLACE = {name: (row, column) for row, names in enumerate(ROWS) for column, name in enumerate(names)}


def modules() -> list[str]:
    names = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")]
    return sorted(name for name in names if not name.endswith("__init__") and not name.endswith("__main__"))


def imported(name: str) -> set[str]:
    tree = ast.parse((PACKAGE / (name.replace(".", "/") + ".py")).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "soundloom":
            base = node.module.removeprefix("soundloom").removeprefix(".")
            found |= {base} if base in PLACE else {f"{base}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("soundloom.") for a in node.names if a.name.startswith("soundloom.")}
    return found


@pytest.mark.parametrize("name", modules())
def test_imports_point_one_way(name):
    assert name in PLACE, f"{name} has no place in ROWS yet"
    row, column = PLACE[name]
    for other in imported(name):
        if other not in PLACE:
            continue  # a name of soundloom itself, such as __version__
        assert PLACE[other] < (row, column), f"{name} imports {other}, which stands below or right of it"
        assert not (name in FAMILIES and other in FAMILIES), f"{name} imports its sibling {other}"


def test_import_costs_nothing():
    code = "import sys, soundloom; print(sorted({'torch', 'numpy', 'scipy', 'numba'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
