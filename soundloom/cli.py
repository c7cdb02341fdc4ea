"""The command line: thin wrappers around what `import soundloom` offers, and one contract for scripts.

Exit 0: done. 1: refused, one line `error: …` on standard error. 2: the command was not understood. 130: interrupted,
after saving.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

import soundloom
from soundloom.errors import SoundloomError
from soundloom.paths import make_folder
from soundloom.terminal import Terminal, counted

app = App(
    name="soundloom",
    help="Turns a folder of sounds into instruments that can be played.",
    version=soundloom.__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # Ctrl-C has words and an exit code of our own
    help_epilogue="Start with `soundloom demo`, or with `soundloom scan MY-SOUNDS -o my-bank`.",
)

Out = Annotated[Path, Parameter(name=["-o", "--out"])]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document on standard output, nothing else.")]
Quiet = Annotated[bool, Parameter(name=["-q", "--quiet"], help="Print nothing but errors.")]
Seed = Annotated[int, Parameter(help="Where the randomness starts: the same seed gives the same sounds.")]
Device = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1 or mps; left out, the best there is.")]
Settings = Annotated[
    list[str] | None, Parameter(name="--set", help="key=value: any setting of the family; may be given several times.")
]


@app.command(sort_key=1)
def scan(
    folder: Path,
    /,
    *,
    out: Out,
    label_from: str | None = None,
    labels: Path | None = None,
    split: Path | None = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Listen to a folder of sounds once and make a bank of it: audio, pitch, labels, and a page that shows them.

    Any audio file in any folder below is taken; what cannot be used is listed with the reason. Scanning again reads
    only what changed.

    Parameters
    ----------
    folder
        Your sounds.
    out
        Where the bank goes.
    label_from
        Where labels come from: `folder`, `name`, or a regular expression with one group. Left out: whichever fits.
    labels
        A CSV file with columns path and label, which decides instead.
    split
        A CSV file with columns path and split (train, validation or test), which decides instead.
    """
    from soundloom import api

    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document(), terminal.bar("scanning") as bar:
        bank = api.scan(folder, out, label_from=label_from, labels=labels, split=split, progress=counted(bar))
    terminal.say(
        f"{api.bank_words(bank)}\npage: {bank.report()}\nnext: soundloom train {_quoted(out)} --family vae -o my-run"
    )
    terminal.document(api.bank_facts(bank))


@app.command(sort_key=2)
def train(
    bank: Path,
    /,
    *,
    out: Out,
    family: str = "vae",
    minutes: float | None = None,
    steps: int | None = None,
    cpu_minutes: float | None = None,
    seed: Seed = 0,
    device: Device = None,
    set_: Settings = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on a bank. Ctrl-C saves; the same command goes on where it stopped.

    `--family vae` learns whole sounds: new ones, morphs, a playable instrument. `--family codec` learns to take any
    sound apart and to put it together again: re-synthesis and transposition.

    Parameters
    ----------
    bank
        A folder made by `soundloom scan`.
    out
        Where the model goes: weights, log, previews, a page.
    family
        vae or codec.
    minutes
        How long, by the clock. Ten are enough to hear where it goes.
    steps
        How long, in training steps, instead of minutes.
    cpu_minutes
        How long, in minutes of processor time, instead: for comparisons.
    """
    from soundloom import api
    from soundloom.bank import SoundBank
    from soundloom.train import TrainConfig, fit

    if minutes is None and steps is None and cpu_minutes is None:
        minutes = 10.0
    config = TrainConfig(minutes=minutes, steps=steps, cpu_minutes=cpu_minutes, seed=seed, device=device)
    follows = os.environ.get("RANK", "0") != "0"  # of the processes that torchrun starts, one speaks
    terminal = Terminal(quiet=quiet or follows, json=json and not follows)
    sounds = SoundBank.load(bank)
    if len(sounds.clips("validation")) == 0:
        terminal.say(
            f"{bank} has {len(sounds)} sounds, too few to hold any out: scores are on the sounds trained on, "
            "so they do not tell how the model does on others"
        )
    with terminal.only_document(), terminal.bar(f"training a {family}") as bar:
        result = fit(family, sounds, config, out, settings=set_ or (), progress=api.shown_on(bar))
    score = "" if result.score is None else f", best score {result.score:.3f} (lower is better) on {result.judged_on}"
    said = "was already " if result.already else ""
    terminal.say(f"{said}{result.message}{score}\nmodel: {out}\nnext: {_next_step(family, out)}")
    terminal.document({**asdict(result), "family": family})


@app.command(sort_key=3)
def sample(
    run: Path,
    /,
    *,
    out: Out,
    count: Annotated[int, Parameter(name=["-n", "--count"])] = 16,
    label: str | None = None,
    pitch: str | None = None,
    seconds: float | None = None,
    seed: Seed = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make new sounds with a trained model: 000.wav, 001.wav … and samples.json.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    out
        Where the sounds go.
    count
        How many.
    label
        What kind, one of the bank's labels. Left out: as the bank had them.
    pitch
        A note name such as C#4, or a MIDI number such as 61.
    seconds
        How long each is.
    """
    from soundloom import api

    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document():
        trained = soundloom.load(run, device=device)
        document = api.write_samples(trained, out, count, seed=seed, label=label, pitch=pitch, seconds=seconds)
    terminal.say(f"{count} sounds in {out}")
    terminal.document(document)


@app.command(sort_key=4)
def reconstruct(
    run: Path,
    sound: Path,
    /,
    *,
    out: Out,
    transpose: float = 0.0,
    voices: int = 1,
    seed: Seed = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Play a recording through a trained model: same length and rate, its timbre as the model knows it.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    sound
        Any audio file.
    out
        The file to write; its suffix (.wav, .flac, .aiff, .ogg) decides the format.
    transpose
        Semitones up (or down, below 0), at the same speed.
    voices
        How many notes sound at once: 1 for a melody, more for chords (codec only).
    """
    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document():
        heard = soundloom.read(sound)
        made = soundloom.load(run, device=device).reconstruct(heard, transpose=transpose, voices=voices, seed=seed)
        soundloom.write(make_folder(out.parent) / out.name, made)
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "seconds": made.seconds, "sample_rate": made.sample_rate, "transpose": transpose})


@app.command(sort_key=5)
def morph(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    out: Out,
    steps: int = 8,
    seed: Seed = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Walk from one sound to another: 00.wav is the model's A, the last one its B, the others lie between.

    Parameters
    ----------
    run
        A folder made by `soundloom train --family vae`.
    a
        The sound to start from.
    b
        The sound to arrive at.
    out
        Where the sounds go.
    steps
        How many sounds, both ends included.
    """
    from soundloom import api

    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document():
        files = api.write_sounds(soundloom.load(run, device=device).morph(a, b, steps=steps, seed=seed), out)
    terminal.say(f"{len(files)} sounds in {out}")
    terminal.document({"from": a, "to": b, "seed": seed, "files": files})


@app.command(sort_key=6)
def evaluate(
    run: Path,
    bank: Path,
    /,
    *,
    split: Literal["train", "validation", "test"] = "test",
    most: int = 50,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say how close a model's re-syntheses are to sounds it has never heard, beside what noise would score.

    Parameters
    ----------
    run
        A folder made by `soundloom train`.
    bank
        The bank whose sounds are held against it.
    split
        Which of its sounds: test (never used in training), validation or train.
    most
        At most so many sounds.
    """
    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document(), terminal.bar("evaluating") as bar:
        trained, held_out = soundloom.load(run, device=device), soundloom.SoundBank.load(bank)
        result = soundloom.evaluate(trained, held_out, split=split, most=most, progress=counted(bar))
    terminal.say(result.table())
    terminal.document(result.document())


@app.command(sort_key=7)
def render(
    score: str,
    /,
    *,
    out: Out,
    with_: Annotated[list[str] | None, Parameter(name="--with")] = None,
    bpm: float = 120.0,
    sample_rate: int = 44100,
    seed: Seed = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Play a MIDI file, or a phrase typed in, with trained sounds and engines, into an audio file.

    A phrase: notes one after the other, `:` beats, `@` loudness, `[ ]` chords, `-` rests, as in
    "C4 E4:0.5 [C4 E4 G4]:2@0.5 -".

    Parameters
    ----------
    score
        A .mid file, or the phrase itself in quotes.
    out
        The audio file to write.
    with_
        What plays: a folder made by `soundloom train --family vae`, or `subtractive`, or `pluck`. Knobs follow after
        commas, as in `subtractive,cutoff_hz=800`; labels too, as in `my-run,label=bass`. With a MIDI file, `2=pluck`
        gives channel 2 a voice of its own, and one without a number plays all other channels. May be given several
        times.
    bpm
        The tempo of a typed phrase.
    """
    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document():
        voices = with_ or ["pluck"]
        made = soundloom.play(score, voices, bpm=bpm, sample_rate=sample_rate, seed=seed, device=device)
        soundloom.write(make_folder(out.parent) / out.name, made)
    terminal.say(f"{made.seconds:.2f} s in {out}")
    terminal.document({"file": out, "seconds": made.seconds, "sample_rate": made.sample_rate})


@app.command(sort_key=8)
def demo(
    folder: Path | None = None,
    /,
    *,
    out: Out = Path("out"),
    minutes: float = 8.0,
    seed: Seed = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole way in one go: sounds, bank, training, new sounds, a morph, a phrase, and a page that plays it all.

    Parameters
    ----------
    folder
        Your sounds. Left out: some 300 sounds that Soundloom makes itself.
    out
        Where everything goes; open report.html in it.
    minutes
        How long to train, by the clock; everything else takes about two minutes more.
    """
    from soundloom.demo import run_demo

    terminal = Terminal(quiet=quiet, json=json)
    with terminal.only_document():
        document = run_demo(folder, out, minutes=minutes, seed=seed, device=device, terminal=terminal)
    terminal.document(document)


def _next_step(family: str, out: Path) -> str:
    if family == "codec":
        return f"soundloom reconstruct {_quoted(out)} A-SOUND.wav -o again.wav --transpose 3"
    return f"soundloom sample {_quoted(out)} -n 16 -o new-sounds"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: runs a command and leaves with the exit code of the contract."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"error: {_one_line(error)} (soundloom --help shows what there is)", file=sys.stderr)
        return 2
    except SoundloomError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # a disk that fills up, a cable that is pulled: the system's words, no traceback
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was saved stays; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
