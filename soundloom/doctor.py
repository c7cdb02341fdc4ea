"""The training doctor: what a run's log says about its health, in words, with the evidence and what to do about it.

Each sickness is one small function from the history of a run to a `Finding` or nothing; `diagnose` asks them all, the
gravest first. Figures swing from one validation to the next, so a bound counts when it is crossed twice running.
The bounds lie between what healthy runs and runs made sick on purpose showed, far from both.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from soundloom import resume
from soundloom.errors import TrainingError
from soundloom.runlog import curves, read_log

Name = Literal[
    "diverging",
    "silence",
    "clipping",
    "diverging adversary",
    "collapsed latents",
    "mode collapse",
    "ignored noise",
    "memorising",
    "noise floor",
    "plateau",
    "improving",
    "too early to say",
]
NAMES: tuple[Name, ...] = get_args(Name)
WELL = ("plateau", "improving", "too early to say")

UNTRAINED_TIMES = 3.0  # a score so many times that of random weights: nothing is being learnt
RISEN_TIMES = 2.0  # over the best score
SPOILT_TIMES = 1.1  # over the best score; an ordinary adversary costs 1.02, one at 100 times its rate 1.24
SILENT_DB = -50.0  # against the real sounds; healthy beginners reach -32
SILENT_BANK_DB = -50.0  # the peak of the median file
LOUD_DB = 12.0  # above the real sounds
CLIPPED = 0.05  # of all samples; the healthy overshoot in 0.02, a learning rate 100 times too high in 0.1 to 0.6
LATENT_EFFECT = 0.03  # healthy 0.13 to 1.4, a decoder that ignores its latent 0
RUNAWAY_NATS = 3e4  # in all dimensions together; healthy up to 600, steps 100 times too long 1e6 and more
LATENT_NATS = 2.0  # in all dimensions together; healthy 40 to 200, killed by the KL weight 0.04 to 0.8
SPREAD = 0.2  # of new sounds against real ones; healthy 0.5 to 1.4, one sound again and again 0
NOISE_EFFECT = 0.01  # of sounds of one wish, against how far real ones are apart; beginners 0.02 and more, the deaf 0
FLOOR_DB = -35.0  # against the loudest cell; healthy -47 and less
JUDGE_WON = 0.5  # hinge loss: 2 knows nothing, 0 is never wrong
JUDGES_WON = 0.02  # a GAN's judges, whatever their loss: 0 is never wrong
JUDGE_AHEAD = 1.75  # healthy 1.8 to 2, at 100 times its rate 1.2 to 1.6
FEATURES_APART = 0.45  # of their size; healthy 0.07 to 0.34, at 100 times its rate 0.57 to 0.81
FOOLED = 3.0  # size of the adversarial loss, whose judge is content beyond 1
WORSE_TIMES = 1.03  # over the best score, on held-out sounds alone
GAP_TIMES = 1.25  # between held-out sounds and those trained on; healthy 0.9 to 1.05, four sounds by heart 1.4
NO_BETTER = 0.01  # a score is better when it is by this part
PATIENT = 4  # validations


@dataclass(frozen=True)
class Finding:
    """One thing that can be said of a run: its name out of `NAMES`, a sentence, the figures behind it, what to do."""

    name: Name
    words: str
    evidence: Mapping[str, float]
    advice: str

    @property
    def sick(self) -> bool:
        """Whether it will not pass by itself."""
        return self.name not in WELL


@dataclass(frozen=True)
class History:
    """A run so far: (step, value) of its `losses` in training, of its `validations` and its `vitals`, each by name.

    `settings` are the family's config. `broke` says how a run ended whose loss became NaN, else it is empty.
    """

    settings: Mapping[str, Any]
    losses: Mapping[str, Sequence[tuple[float, float]]]
    validations: Mapping[str, Sequence[tuple[float, float]]]
    vitals: Mapping[str, Sequence[tuple[float, float]]]
    broke: str = ""

    @classmethod
    def of(cls, lines: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> "History":
        """The history that the lines of a `log.jsonl` tell."""
        broke = str(lines[-1]["words"]) if lines and lines[-1]["kind"] == "broke" else ""
        losses, validations, vitals = (curves(lines, kind) for kind in ("train", "validation", "doctor"))
        return cls(settings, losses, validations, vitals, broke)

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> "History":
        """The history of the run in a folder."""
        return cls.of(read_log(folder / "log.jsonl"), settings)

    @property
    def scores(self) -> list[float]:
        return [value for _, value in self.validations.get("score", ())]

    @property
    def seen(self) -> list[float]:
        """The score on sounds trained on."""
        return [value for _, value in self.vitals.get("seen_score", ())]

    @property
    def untrained(self) -> float:
        """The score of random weights; infinite where it was not taken."""
        return next((value for _, value in self.vitals.get("untrained_score", ())), math.inf)

    def last(self, name: str) -> list[float]:
        """The last two values of a vital, or of what validation measured; fewer where there were fewer."""
        points = self.vitals.get(name) or self.validations.get(name, ())
        return [value for _, value in points[-2:]]

    def below(self, name: str, bound: float) -> bool:
        return len(self.last(name)) == 2 and max(self.last(name)) < bound

    def above(self, name: str, bound: float) -> bool:
        return len(self.last(name)) == 2 and min(self.last(name)) > bound

    def recently(self, loss: str) -> float:
        """The mean of a training loss over the last tenth of its lines; NaN where there are fewer than three."""
        values = [value for _, value in self.losses.get(loss, ())]
        part = values[-max(3, len(values) // 10) :]
        return sum(part) / len(part) if len(part) >= 3 else math.nan

    def risen(self, times: float) -> bool:
        """Whether the score was so many times its best at the last two validations, and on sounds trained on too."""
        scores, seen = self.scores, self.seen or self.scores
        return all(
            len(values) >= PATIENT and min(values[-2:]) > _worse(min(values), times) for values in (scores, seen)
        )

    def slower(self) -> str:
        """What to do where steps are too long."""
        rates = [f"--set {name}={self.settings[name] / 10:g}" for name in self.settings if "learning_rate" in name]
        return f"start again in another folder with {' '.join(rates) or 'a lower learning rate'}"


def diagnose(history: History) -> tuple[Finding, ...]:
    """What a run suffers from, the gravest first, and at the end how its score moves; the first is the verdict.

    >>> scores = [(step, 1 / step) for step in range(1, 9)]
    >>> [finding.name for finding in diagnose(History({}, {}, {"score": scores}, {}))]
    ['improving']
    """
    found = [finding for look in SICKNESSES if (finding := look(history))]
    if any(finding.name == "diverging" for finding in found):
        return tuple(found)
    return (*found, _trend(history))


def _broken(history: History) -> Finding | None:
    if not history.broke:
        return None
    return Finding("diverging", f"the run broke: {history.broke}", {}, history.slower())


def _diverging_adversary(history: History) -> Finding | None:
    scores, best = history.validations.get("score", ()), min(history.scores, default=math.inf)
    joined = next((step for step, _ in history.losses.get("adversarial", ())), math.inf)
    before = [value for step, value in scores if step < joined]
    if best >= history.untrained or (before and before[-1] > _worse(min(before), SPOILT_TIMES)):
        return None  # it was going wrong without an adversary
    evidence = {
        name: value for name in ("judge", "adversarial", "matching") if math.isfinite(value := history.recently(name))
    }
    judge, fooled, apart = (evidence.get(name, math.nan) for name in ("judge", "adversarial", "matching"))
    if judge < JUDGE_WON:
        words = f"the adversary is hardly ever wrong any more: its loss is {judge:.2g}, and 2 where it knows nothing"
    elif abs(fooled) > FOOLED:
        words = f"the adversary's verdicts run away: {fooled:.3g} on average, where 1 is enough"
    elif judge < JUDGE_AHEAD and apart > FEATURES_APART:
        words = (
            f"the adversary learns faster than the model can follow: its loss is down to {judge:.3g} of 2, and what it "
            f"sees in made and in real sounds is {100 * apart:.0f} % apart"
        )
    elif len(scores) - len(before) >= 2 and history.risen(SPOILT_TIMES):
        words = f"since the adversary plays the score has risen from {best:.4g} to {history.scores[-1]:.4g}"
        evidence |= {"score": history.scores[-1], "best_score": best}
    else:
        return None
    weight = history.settings.get("adversary_weight")
    less = "a slower adversary" if weight is None else f"--set adversary_weight={weight / 5:g}"
    advice = f"the best model is kept; for a better one start again with {less}"
    return Finding("diverging adversary", words, evidence, advice)


def _diverging(history: History) -> Finding | None:
    scores, untrained = history.scores, history.untrained
    if len(scores) < 2:
        return None
    if min(scores[-2:]) > _worse(untrained, UNTRAINED_TIMES):
        words = f"the score is {scores[-1]:.4g}, worse than the {untrained:.4g} of random weights: it learns nothing"
        return Finding("diverging", words, {"score": scores[-1], "untrained_score": untrained}, history.slower())
    if history.above("kl", RUNAWAY_NATS):
        nats = history.last("kl")[-1]
        words = f"the latents run away: {nats:.2g} nats, where some hundreds hold a sound"
        return Finding("diverging", words, {"kl": nats, "score": scores[-1]}, history.slower())
    if history.risen(RISEN_TIMES):
        words = f"the score rose from {min(scores):.4g} to {scores[-1]:.4g}, on the sounds trained on too"
        return Finding("diverging", words, {"score": scores[-1], "best_score": min(scores)}, history.slower())
    return None


def _silence(history: History) -> Finding | None:
    files = history.last("bank_level_db")
    if files and files[-1] < SILENT_BANK_DB:
        return Finding(
            "silence",
            f"the sounds trained on peak at {files[-1]:.0f} dB: what is learnt is the hiss of nearly silent files",
            {"bank_level_db": files[-1]},
            "scan a folder of recordings that can be heard",
        )
    for name, words in (("level_db", "below the real sounds"), ("new_peak_db", "below full scale")):
        if history.below(name, SILENT_DB):
            level = history.last(name)[-1]
            return Finding(
                "silence",
                f"what it makes is {-level:.0f} dB {words}: nothing can be heard",
                {name: level},
                "train for longer; where that does not help, start again with another --seed",
            )
    return None


def _clipping(history: History) -> Finding | None:
    if not history.above("beyond_full_scale", CLIPPED) and not history.above("level_db", LOUD_DB):
        return None
    evidence = {name: history.last(name)[-1] for name in ("beyond_full_scale", "level_db")}
    beyond, level = evidence.values()
    return Finding(
        "clipping",
        f"{100 * beyond:.0f} % of what it makes is beyond full scale, {level:+.0f} dB against the real sounds",
        evidence,
        "train for longer; where that does not help, lower the learning rate",
    )


def _collapsed_latents(history: History) -> Finding | None:
    ignored, empty = history.below("latent_effect", LATENT_EFFECT), history.below("kl", LATENT_NATS)
    if not ignored and not empty:
        return None
    names = ("latent_effect", "kl", "active_latents")
    evidence = {name: history.last(name)[-1] for name in names if history.last(name)}
    words = (
        f"the latents hold {evidence['kl']:.2g} nats: they say next to nothing of a sound"
        if empty
        else "exchanging the latents of two sounds changes nothing: the decoder does not listen to them"
    )
    weight = history.settings.get("kl_weight")
    less = "a lower KL weight" if weight is None else f"--set kl_weight={weight / 10:g}"
    return Finding("collapsed latents", words, evidence, f"start again with {less}, or more free_bits")


def _mode_collapse(history: History) -> Finding | None:
    if not history.below("spread", SPREAD):
        return None
    spread = history.last("spread")[-1]
    return Finding(
        "mode collapse",
        f"new sounds are {100 * spread:.0f} % as far apart as real ones: it makes the same sound again and again",
        {"spread": spread},
        "take an earlier checkpoint, or start again with a larger batch or more labels",
    )


def _ignored_noise(history: History) -> Finding | None:
    if not history.below("noise_effect", NOISE_EFFECT):
        return None
    effect = history.last("noise_effect")[-1]
    return Finding(
        "ignored noise",
        f"sounds of one wish are {100 * effect:.1f} % as far apart as real ones: the generator does not listen to its "
        "noise, and makes one sound of each wish",
        {"noise_effect": effect},
        "start again with more --set tries= and a lower --set guided=, or with more sounds of each label",
    )


def _judges_won(history: History) -> Finding | None:
    judges = history.recently("judges")
    if not judges < JUDGES_WON:
        return None
    return Finding(
        "diverging adversary",
        f"the judges are never wrong any more: their loss is {judges:.2g}, so that the generator learns nothing",
        {"judges": judges},
        "the best model is kept; for a better one start again with more smoothness or a lower judge_rate (--set)",
    )


def _memorising(history: History) -> Finding | None:
    scores, seen = history.scores, history.seen
    if len(seen) != len(scores) or len(scores) < PATIENT:
        return None
    best = scores.index(min(scores))
    since = len(scores) - 1 - best
    worse = min(scores[-2:]) > _worse(scores[best], WORSE_TIMES)
    if since < PATIENT - 1 or not worse or seen[-1] >= seen[best] or scores[-1] < _worse(seen[-1], GAP_TIMES):
        return None
    return Finding(
        "memorising",
        f"on the sounds trained on the score goes on falling (to {seen[-1]:.4g}), on held-out ones it has risen from "
        f"{scores[best]:.4g} to {scores[-1]:.4g} over {since} validations",
        {
            "score": scores[-1],
            "seen_score": seen[-1],
            "best_score": scores[best],
            "validations_since_best": float(since),
        },
        f"the best model is kept: stop here (--patience {PATIENT} does it by itself), or add sounds",
    )


def _noise_floor(history: History) -> Finding | None:
    if not history.above("floor_db", FLOOR_DB):
        return None
    floor = history.last("floor_db")[-1]
    return Finding(
        "noise floor",
        f"where the real sounds have nothing there is noise at {floor:.0f} dB against their loudest",
        {"floor_db": floor},
        "train for longer; scan cleaner recordings where they hiss themselves",
    )


SICKNESSES: tuple[Callable[[History], Finding | None], ...] = (
    _broken,
    _judges_won,
    _diverging_adversary,  # before the other ways to diverge: where it plays, it is the cause
    _diverging,
    _silence,
    _clipping,
    _collapsed_latents,
    _mode_collapse,
    _ignored_noise,
    _memorising,
    _noise_floor,
)


def _trend(history: History) -> Finding:
    scores = history.scores
    if len(scores) < PATIENT:
        words = f"{len(scores)} of {PATIENT} validations that a trend takes"
        return Finding("too early to say", words, {"validations": float(len(scores))}, "train for longer")
    before, now = min(scores[: -PATIENT + 1]), min(scores[-PATIENT + 1 :])
    evidence = {"score": scores[-1], "best_score": min(scores), "earlier_best_score": before}
    if now < before - NO_BETTER * abs(before):
        words = f"the score fell from {before:.4g} to {now:.4g} over the last {PATIENT - 1} validations"
        return Finding("improving", words, evidence, "more training makes it better")
    words = f"the score has not got better than {min(scores):.4g} by more than 1 % for {PATIENT - 1} validations"
    return Finding("plateau", words, evidence, "the best model is kept; more sounds help more than more training")


def _worse(score: float, times: float) -> float:
    """A score `times` as bad; scores below zero get worse upwards too."""
    return score + (times - 1) * abs(score)


@dataclass(frozen=True)
class Examination:
    """A run looked at after the fact: what was found, the gravest first, and the verdict at each validation."""

    folder: Path
    step: int
    steps: int
    finished: str
    findings: tuple[Finding, ...]
    course: tuple[tuple[int, str], ...]

    def words(self) -> str:
        """For people."""
        lines = [f"{self.finished or 'not finished'}, step {self.step} of {self.steps}"]
        for finding in self.findings:
            lines.append(f"{finding.name}: {finding.words}\n  {finding.advice}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "folder": str(self.folder),
            "step": self.step,
            "steps": self.steps,
            "finished": self.finished,
            "verdict": self.findings[0].name,
            "sick": any(finding.sick for finding in self.findings),
            "findings": [
                {"name": f.name, "words": f.words, "evidence": dict(f.evidence), "advice": f.advice}
                for f in self.findings
            ],
            "course": [{"step": step, "verdict": verdict} for step, verdict in self.course],
        }


def examine(folder: Path) -> Examination:
    """What the log of the run in a folder says, without its bank.

    Raises:
        TrainingError: the folder holds no run, or one that has not validated yet.
    """
    state, lines = resume.read(folder), read_log(folder / "log.jsonl")
    if state is None or not any(line["kind"] in ("validation", "broke") for line in lines):
        raise TrainingError(
            f"{folder} holds no log of a run that has been validated: the doctor goes by the log.jsonl and the "
            "resume.safetensors that `soundloom train` writes into its folder; train there for longer"
        )
    return Examination(
        folder=folder,
        step=max(int(line["step"]) for line in lines),
        steps=int(state.config["steps"]),
        finished=state.finished,
        findings=diagnose(History.of(lines, state.config)),
        course=tuple((int(line["step"]), str(line["verdict"])) for line in lines if "verdict" in line),
    )
