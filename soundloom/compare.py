"""Which family suits a bank: each trained under the same budget, judged by the same evaluation, in one table."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundloom import checkpoint
from soundloom.api import shown_on
from soundloom.audio import Waveform
from soundloom.bank import SoundBank, spread_evenly
from soundloom.condition import DESCRIPTORS
from soundloom.config import did_you_mean, override
from soundloom.ears import Ear
from soundloom.errors import BankError, ConfigError, DivergedError, ModelError, SoundloomError
from soundloom.evaluate import MOST_SAMPLES, Evaluation, Judges, evaluate
from soundloom.figures import Figure, Section, number
from soundloom.likeness import HELD_OUT
from soundloom.material import held_out_clips
from soundloom.models.base import Samples
from soundloom.models.coded import codec_config
from soundloom.presets import PITCHED, Look
from soundloom.recipe import Choice, Recipe, decide, stages
from soundloom.run import Run, families_that
from soundloom.runtime import pick_device
from soundloom.score import pitch_name
from soundloom.terminal import Terminal, counted
from soundloom.train import RunResult, TrainConfig

ONE_SOUND = ("gan", "vae", "flow")  # families that make whole sounds, and suit any bank of them
PLAYS_PITCH = 0.8  # of the sounds, from which on a family that needs a pitch is tried unasked
ASKED = 6  # players a family on the page
AGAIN = 24  # sounds that are taken apart and put together again
CALLS, CALLS_CPU_S = 8, 4.0  # of one sound each, over which speed is measured
CANNOT = (BankError, ConfigError, ModelError, DivergedError)  # of one family: it gets a row that says why

# What the table shows, in this order: figures of the evaluation, and what it costs.
LINES = {
    "quality": ("kernel_distance", "frechet_distance", "two_sample_auc", "precision", "density"),
    "diversity": ("coverage", "recall", "spread"),
    "obedience": ("label_accuracy", "asked_in_tune", *(f"follows_{name}" for name in DESCRIPTORS)),
    "memorisation": ("near_share", "copying_z"),
    "cost": ("cpu_ms", "megabytes", "trained_s"),
}
SECTIONS = {  # of an evaluation, and the figures of the table that come from each
    "distances": LINES["quality"][:3],
    "variety": (*LINES["quality"][3:], *LINES["diversity"]),
    "honesty": LINES["memorisation"],
    "obedience": LINES["obedience"][:2],
    "steering": LINES["obedience"][2:],
}


@dataclass(frozen=True)
class Contest:
    """What is compared. `config` holds the budget of each family, in total: that of a codec that it needs is in it,
    unless `codec` names one for all. `settings` by family are `key=value` texts, under "codec" for those codecs."""

    families: tuple[str, ...]
    config: TrainConfig
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    codec: Path | None = None
    samples: int | None = None

    @property
    def budget(self) -> str:
        """In words."""
        config = self.config
        if config.steps is not None:
            return f"{config.steps} steps"
        if config.minutes is not None:
            return f"{config.minutes:g} minutes"
        return f"{config.cpu_minutes:g} minutes of processor time"


@dataclass(frozen=True)
class Asked:
    """What all families are asked for, after a real sound of the bank."""

    label: str | None
    pitch: float | None
    path: str
    real: Waveform
    held_out: bool

    @property
    def words(self) -> str:
        pitch = "" if self.pitch is None else f", {pitch_name(self.pitch)}"
        return f"{self.label or 'any sound'}{pitch}"


@dataclass(frozen=True, eq=False)
class Entry:
    """A family in the comparison. `cannot` says why it is without figures; `trained` are its runs, its own the last;
    `sounds` are what it makes of what is asked."""

    recipe: Recipe
    folder: Path
    cannot: str = ""
    trained: tuple[RunResult, ...] = ()
    evaluation: Evaluation | None = None
    cost: tuple[Figure, ...] = ()
    sounds: tuple[Waveform, ...] = ()

    @property
    def family(self) -> str:
        return self.recipe.family

    def figures(self) -> dict[str, Figure]:
        sections = self.evaluation.sections if self.evaluation else ()
        every = [figure for section in sections for figure in section.figures]
        return {figure.name: figure for figure in (*every, *self.cost)}

    def said(self, section: str) -> Section:
        assert self.evaluation is not None, "what was judged has one"
        return self.evaluation[section]

    def lacks(self, section: str) -> str:
        """Why a figure of the table that comes from a section is not there; empty where all are."""
        return self.said(section).why_not if set(SECTIONS[section]) - self.figures().keys() else ""

    def document(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "preset": self.recipe.preset.name if self.recipe.preset else None,
            "folder": self.folder,
            "cannot": self.cannot or None,
            "trained": [asdict(result) for result in self.trained],
            "figures": {name: figure.document() for name, figure in self.figures().items()},
            "evaluation": self.evaluation.document() if self.evaluation else None,
        }


@dataclass(frozen=True)
class Line:
    """A line of the table: a figure of each family, empty where it has none, and beside them what real sounds score."""

    group: str
    name: str
    title: str
    cells: tuple[Figure | None, ...]
    real: str
    help: str

    def texts(self, *, short: bool = False) -> list[str]:
        """A cell for each family; `short`: without intervals."""
        return ["" if cell is None else _short(cell) if short else cell.text for cell in self.cells]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came out, a family an entry."""

    bank: SoundBank
    contest: Contest
    entries: tuple[Entry, ...]
    asked: tuple[Asked, ...]

    @property
    def judged(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if not entry.cannot)

    def lines(self) -> list[Line]:
        """The table, for those that could."""
        lines = []
        for group, names in LINES.items():
            for name in names:
                cells = tuple(entry.figures().get(name) for entry in self.judged)
                known = next((cell for cell in cells if cell), None)
                if known:
                    lines.append(Line(group, name, known.title, cells, _real(known), known.help))
        return lines

    def missing(self) -> list[tuple[str, str]]:
        """Why cells are empty: who, and the reason in words."""
        cannot = [(entry.family, entry.cannot) for entry in self.entries if entry.cannot]
        lacking = ((entry, entry.lacks(section)) for section in SECTIONS for entry in self.judged)
        return cannot + _together(lacking)

    def verdicts(self) -> list[tuple[str, str]]:
        """What the evaluation says of the figures: who, and the words."""
        return _together((entry, entry.said(section).words) for section in SECTIONS for entry in self.judged)

    def budget_words(self) -> str:
        """Under what conditions, in a few sentences."""
        needing = [entry.family for entry in self.entries if checkpoint.family(entry.family).needs_codec]
        words = f"Each family was given {self.contest.budget}."
        if needing and self.contest.codec:
            words += (
                f" The codec in {self.contest.codec}, used by {_and(needing)}, was there before: its time is not in it."
            )
        elif needing:
            words += f" The codec that comes before {_and(needing)} is trained within it."
        return words

    def document(self) -> dict[str, Any]:
        config = self.contest.config
        return {
            "bank": self.bank.folder,
            "kind": self.bank.kind,
            "sounds": {split: len(self.bank.clips(split)) for split in ("train", "validation", "test")},
            "budget": {"steps": config.steps, "minutes": config.minutes, "cpu_minutes": config.cpu_minutes},
            "seed": config.seed,
            "codec": self.contest.codec,
            "families": [entry.document() for entry in self.entries],
            "asked": [{"label": a.label, "pitch": a.pitch, "after": a.path} for a in self.asked],
        }

    def table(self) -> str:
        """For people, in a terminal."""
        head = ["", *(entry.family for entry in self.judged), "real sounds"]
        rows = [head, *([line.title, *line.texts(short=True), line.real] for line in self.lines())]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*texts, *(f"{who}: {words}" for who, words in self.missing())])


def contestants(bank: SoundBank) -> tuple[str, ...]:
    """The families that suit a bank."""
    look = Look.at(bank)
    more = ("rnn",) if look.kind == "long" else ()
    return ONE_SOUND + more + (("ddsp",) if look.pitched >= PLAYS_PITCH >= PITCHED else ())


def compare(bank: SoundBank, folder: Path, contest: Contest, *, terminal: Terminal) -> Comparison:
    """Trains each family in `folder`/FAMILY and judges them all. Again with the same contest goes on where it stopped.

    Raises:
        ConfigError: an unknown family, device or setting.
        ModelError: a family that makes no new sounds, or a codec that is none.
        TrainingError: a folder holds another run.
    """
    recipes = recipes_for(bank, contest)
    entries = [_trained(recipe, bank, contest, folder / recipe.family, terminal) for recipe in recipes]
    asked = questions(bank)
    judges = Judges(ear=Ear.bundled(device=contest.config.device))
    judged = [entry if entry.cannot else _judged(entry, bank, contest, asked, judges, terminal) for entry in entries]
    return Comparison(bank, contest, tuple(judged), asked)


def recipes_for(bank: SoundBank, contest: Contest) -> list[Recipe]:
    """What each family is trained by; what a person got wrong is refused here, before anything is trained."""
    names = list(dict.fromkeys(contest.families))
    if not names:
        raise ConfigError("no family is named to be compared: for example --families gan,vae,flow")
    if contest.samples is not None and not 1 <= contest.samples <= MOST_SAMPLES:
        raise ConfigError(f"{contest.samples} new sounds were asked for: it goes from 1 to {MOST_SAMPLES}")
    families = {name: checkpoint.family(name) for name in names}
    for name, family in families.items():
        if not issubclass(family, Samples):
            raise ModelError(f"a {name} makes no new sounds to compare: a {families_that('sample')} does")
    pick_device(contest.config.device)
    needing = [name for name, family in families.items() if family.needs_codec]
    if contest.codec is not None:
        if not needing:
            raise ConfigError(f"--codec is for families that model a codec's codes, and {_and(names)} do not")
        codec_config([f"codec={contest.codec}"], family=needing[0])
    first = bool(needing) and contest.codec is None
    for name, settings in contest.settings.items():
        known = [*names, *(["codec"] if first else [])]
        if name not in known:
            raise ConfigError(f"a setting of '{name}', which is not trained here: {did_you_mean(name, known)}")
        override(checkpoint.family(name).Config(), settings)
    return [decide(bank, _choice(name, contest, needs_codec=name in needing)) for name in names]


def _choice(name: str, contest: Contest, *, needs_codec: bool) -> Choice:
    first = needs_codec and contest.codec is None
    of_codec = [f"codec.{setting}" for setting in contest.settings.get("codec", ())] if first else []
    return Choice(
        family=name,
        codec=contest.codec if needs_codec else None,
        codec_first=first,
        settings=(*contest.settings.get(name, ()), *of_codec),
    )


def questions(bank: SoundBank) -> tuple[Asked, ...]:
    """What all are asked for: the labels that most sounds have, with the pitch of a note where the bank is of notes,
    each after a sound that is held out where there is one."""
    held_out = held_out_clips(bank)
    clips = held_out if len(held_out) else bank.clips()
    labels = bank.column("label")[clips]
    names = sorted({label for label in labels if label}, key=lambda name: (-list(labels).count(name), name))[:ASKED]
    if names:
        each = max(1, ASKED // len(names))
        chosen = [clip for name in names for clip in spread_evenly(clips[labels == name], each)]
    else:
        chosen = spread_evenly(clips, ASKED)
    pitches = np.asarray(bank.column("pitch"), float)
    return tuple(
        Asked(
            label=bank.column("label")[clip] or None,
            pitch=float(pitches[clip]) if bank.kind == "notes" and np.isfinite(pitches[clip]) else None,
            path=str(bank.column("path")[clip]),
            real=bank.audio(clip),
            held_out=len(held_out) > 0,
        )
        for clip in chosen
    )


def _trained(recipe: Recipe, bank: SoundBank, contest: Contest, folder: Path, terminal: Terminal) -> Entry:
    results: list[RunResult] = []
    try:
        for stage in stages(recipe, bank, contest.config, folder):
            name = stage.family if stage.family == recipe.family else f"{stage.family} of the {recipe.family}"
            with terminal.bar(f"training the {name}") as bar:
                results.append(stage.fit(bank, progress=shown_on(bar)))
            said = "was already " if results[-1].already else ""
            terminal.say(f"{name}: {said}{results[-1].message}")
    except CANNOT as error:
        terminal.say(f"{recipe.family}: {error}")
        return Entry(recipe, folder, cannot=str(error), trained=tuple(results))
    return Entry(recipe, folder, trained=tuple(results))


def _judged(
    entry: Entry, bank: SoundBank, contest: Contest, asked: Sequence[Asked], judges: Judges, terminal: Terminal
) -> Entry:
    seed = contest.config.seed
    try:
        run = Run.load(entry.folder, device=contest.config.device)
        with terminal.bar(f"judging the {entry.family}") as bar:
            progress, samples = counted(bar), contest.samples
            evaluation = evaluate(run, bank, most=AGAIN, samples=samples, seed=seed, judges=judges, progress=progress)
        sounds = [_answer(run, question, seed=seed + i) for i, question in enumerate(asked)]
        cost = costs(entry, Run.load(entry.folder, device="cpu"))
    except SoundloomError as error:
        terminal.say(f"{entry.family}: {error}")
        return replace(entry, cannot=f"it is trained, and then: {error}")
    return replace(entry, evaluation=evaluation, sounds=tuple(sounds), cost=cost)


def _answer(run: Run, question: Asked, *, seed: int) -> Waveform:
    label = question.label if question.label in run.labels else None
    return run.sample(1, seed=seed, label=label, pitch=question.pitch)[0]


def costs(entry: Entry, run: Run) -> tuple[Figure, ...]:
    """Speed, size and pace of training, of a model on the processor."""
    result, spec = entry.trained[-1], run.model.batch_spec
    heard_s = spec.size * spec.samples / run.sample_rate * result.step
    megabytes = (entry.folder / "model.safetensors").stat().st_size / 1e6
    return (
        Figure(
            "cpu_ms",
            "CPU-ms for a second of sound",
            _cpu_ms(run),
            "one sound at a time on the processor, from the second call on; lower is faster",
        ),
        Figure("megabytes", "size, MB", megabytes, "of what the folder keeps, a codec's weights among them"),
        Figure(
            "trained_s",
            "trained on, s of sound a second",
            heard_s / max(result.elapsed_s, 1e-9),
            "by the clock, validations included; a codec that comes first is not in it",
        ),
    )


@torch.no_grad()
def _cpu_ms(run: Run) -> float:
    """Processor time for a second of what the model gives, silence after a sound's end included."""
    assert isinstance(run.model, Samples)
    generator = torch.Generator().manual_seed(0)
    run.model.sample(1, seconds=None, condition=None, generator=generator)
    made_s, calls, began = 0.0, 0, time.process_time()
    while calls == 0 or (calls < CALLS and time.process_time() - began < CALLS_CPU_S):
        made = run.model.sample(1, seconds=None, condition=None, generator=generator)
        made_s, calls = made_s + made.shape[-1] / run.sample_rate, calls + 1
    return 1000 * (time.process_time() - began) / made_s


def _short(figure: Figure) -> str:
    return "about 0" if figure.shown else number(figure.value)


def _real(figure: Figure) -> str:
    """What real sounds score: those held out, and in brackets halves of the training sounds against each other."""
    held_out = figure.beside.get(HELD_OUT)
    halves = next((value for name, value in figure.beside.items() if name.startswith("two halves")), None)
    parts = [number(held_out) if held_out > 0 else "about 0"] if held_out is not None else []
    parts += [f"(halves {number(halves)})"] if halves is not None else []
    return " ".join(parts)


def _together(said: Iterable[tuple[Entry, str]]) -> list[tuple[str, str]]:
    """The same words of several families once: who, and the words."""
    by_words: dict[str, list[str]] = {}
    for entry, words in said:
        if words:
            by_words.setdefault(words, []).append(entry.family)
    return [(", ".join(families), words) for words, families in by_words.items()]


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
