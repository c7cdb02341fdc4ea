"""One plain loop that trains every family: it owns time, randomness, files and faults; the family owns the maths."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundloom import checkpoint, doctor, licence, pace, preview, resume, vitals
from soundloom.audio import Waveform
from soundloom.bank import SoundBank
from soundloom.config import from_dict, to_dict
from soundloom.errors import ConfigError, DivergedError, TrainingError
from soundloom.models.base import AbstractModel, Calibrates, Prepares
from soundloom.optimise import Optimiser
from soundloom.paths import make_folder
from soundloom.resume import State, keyed_generator
from soundloom.runlog import Log, Means, Progress, read_log
from soundloom.runtime import World, alone_in, interrupts, joined, keep_memory, pick_device, set_threads

ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainConfig:
    """How long and with what to train. Exactly one of `steps`, `minutes` (of the clock, in total over resumes) and
    `cpu_minutes` (of all processor cores together, for benchmarks) is given.

    `device` None takes the best there is; `threads` None keeps torch's choice, 1 makes runs repeatable bit for bit.
    A killed run loses at most `save_every_s` seconds. `patience` stops a run after so many validations without a
    better score; the best model is kept in any case.
    """

    steps: int | None = None
    minutes: float | None = None
    cpu_minutes: float | None = None
    seed: int = 0
    device: str | None = None
    threads: int | None = None
    save_every_s: float = 60.0
    preview_every_s: float = 180.0
    tensorboard: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        budget = {"steps": self.steps, "minutes": self.minutes, "cpu_minutes": self.cpu_minutes}
        given = {name: value for name, value in budget.items() if value is not None}
        if len(given) != 1:
            named = " and ".join(given) or "none"
            raise ConfigError(
                f"a run needs one of steps, minutes and cpu_minutes, not {named}: for example --minutes 10"
            )
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value:g}: it must be more than 0, for example --minutes 10")
        for name in ("save_every_s", "preview_every_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}: it must be 0 or more seconds")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience is {self.patience}: it starts at 1 validation, for example --patience 4")


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `already` says that it was finished before and nothing was done; `score` is the best one, lower
    is better, on the sounds that `judged_on` names. `findings` are the doctor's, the gravest first."""

    folder: Path
    step: int
    steps: int
    elapsed_s: float
    cpu_s: float
    score: float | None
    judged_on: str
    message: str
    already: bool = False
    findings: tuple[doctor.Finding, ...] = ()


def fit(
    model: type[AbstractModel] | str,
    bank: SoundBank,
    config: TrainConfig,
    folder: Path | str,
    *,
    settings: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> RunResult:
    """Trains a family on a bank and leaves a model in `folder`. The same call goes on with a run that was cut short.

    Every random number is keyed by (seed, step, process), so that on one thread a resumed run follows an
    uninterrupted one bit for bit. Ctrl-C saves, then raises `KeyboardInterrupt`.

    Args:
        model: A family by name ("codec", "vae") or class.
        settings: `key=value` texts for the family's config.
        progress: Called after every step and before every longer pause.

    Raises:
        ConfigError: An unknown family, device or setting.
        TrainingError: The folder holds another run, or the bank nothing to train on.
        DivergedError: A loss became NaN or infinite; the last good state is kept.
        StorageError: The folder cannot be written, or the disk is full; the last saved state is kept.
    """
    family = checkpoint.family(model) if isinstance(model, str) else model
    device = pick_device(config.device)
    set_threads(config.threads)
    keep_memory()
    folder = make_folder(folder)
    world = joined(device)
    with alone_in(folder, world):
        run = {
            "family": family.family,
            "settings": list(settings),
            "seed": config.seed,
            "steps": config.steps,
            "minutes": config.minutes,
            "cpu_minutes": config.cpu_minutes,
            "patience": config.patience,
            "data": data_hash(bank),
            "processes": world.size,
        }
        world.agree(True)  # none looks before the last one has written
        state = resume.read(folder)
        world.agree(True)  # none writes before the last one has looked
        if state is None:
            state = _begin(family, bank, config, folder, run, world, progress)
        resume.refuse_other_run(state, run, folder)
        if state.finished:
            return _result(folder, state, bank, already=True)
        return _Run(family, bank, config, folder, state, world, progress).go()


def data_hash(bank: SoundBank) -> str:
    """A short hash of what is trained on: the sounds, their splits, labels and pitches, whatever their names."""
    columns = [bank.column(name) for name in ("hash", "split", "label", "pitch")]
    rows = sorted(repr(tuple(map(str, row))) for row in zip(*columns, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def _begin(
    family: type[AbstractModel],
    bank: SoundBank,
    config: TrainConfig,
    folder: Path,
    run: dict[str, Any],
    world: World,
    progress: ProgressCallback | None,
) -> State:
    """The state before the first step: the config with its number of steps, which a resumed run keeps."""
    for name in ("config.json", "model.safetensors"):
        if (folder / name).exists():
            raise TrainingError(f"{folder} holds a {name} but no run to resume: choose another folder with -o")
    if len(bank.clips("train")) == 0:
        raise TrainingError(
            f"the bank {bank.folder} has no sounds to train on: see its report.html for what was left out"
        )
    values = family.configure(bank, run["settings"])
    began, began_cpu = time.monotonic(), time.process_time()
    steps = config.steps
    if steps is None:
        if progress and world.leads:
            progress(Progress("measuring", 0, 0, 0.0, 0.0, 0.0, {}, None))
        clock = time.monotonic if config.minutes is not None else time.process_time
        budget_s = 60 * (config.minutes or config.cpu_minutes or 0.0)
        device = world.device(pick_device(config.device))
        steps = pace.affordable(
            family, values, bank, budget_s=budget_s, clock=clock, device=device, processes=world.size, look=_look
        )
        steps = world.leaders(steps)
    return State(
        family=family.family,
        config=to_dict(dataclasses.replace(values, steps=steps)),
        run=run,
        elapsed_s=time.monotonic() - began,
        cpu_s=time.process_time() - began_cpu,
    )


def _look(model: AbstractModel, bank: SoundBank, *, seed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    """What a validation measures: the losses on held-out sounds, and the vitals."""
    return pace.validate(model, bank, seed=seed), vitals.measure(model, bank, seed=seed)


class _Run:
    """A run in progress: what changes while the loop turns."""

    def __init__(
        self,
        family: type[AbstractModel],
        bank: SoundBank,
        config: TrainConfig,
        folder: Path,
        state: State,
        world: World,
        progress: ProgressCallback | None,
    ) -> None:
        self.bank, self.config, self.folder, self.state, self.world = bank, config, folder, state, world
        self.progress = progress if world.leads else None
        values: Any = from_dict(family.Config, state.config, where=str(folder / "resume.safetensors"))
        device = world.device(pick_device(config.device))
        self.model = family.build(values, seed=config.seed).to(device).train()
        self.steps = int(values.steps)
        self.optimiser = Optimiser(self.model, steps=self.steps, world=world)
        if state.step > 0:
            resume.restore(folder, self.model, self.optimiser, step=state.step)
        if isinstance(self.model, Prepares):
            self.model.prepare(bank, fresh=state.step == 0)
        self.means = Means(state.means)
        together = self.model.batch_spec.size * world.size
        judging = len(pace.held_out(bank, most=self.model.validation_clips))
        self.validate_every = max(1, self.steps // pace.validations(judging, steps=self.steps, together=together))
        self.log_every = max(1, min(50, self.steps // 200))
        self.log = Log(folder / "log.jsonl", step=state.step, tensorboard=config.tensorboard) if world.leads else None
        self.step_s = 0.0  # a running mean
        self.verdict: doctor.Finding | None = None
        self.began, self.began_cpu = time.monotonic(), time.process_time()

    def go(self) -> RunResult:
        saved = previewed = time.monotonic()
        if self.state.step == 0:
            self._look_at_the_untrained()
            self._save()
        with interrupts() as interrupted:
            while self.state.step < self.steps:
                step_began = time.monotonic()
                losses = self._step()
                self.step_s = _mean(self.step_s, time.monotonic() - step_began)
                self._tell("training", losses)
                if self.state.step % self.validate_every == 0 or self.state.step == self.steps:
                    self._validate()
                now = time.monotonic()
                stop, over, impatient, save, listen = self.world.agree(
                    interrupted.is_set(),
                    self._is_over(),
                    self._is_impatient(),
                    now - saved > self.config.save_every_s,
                    now - previewed > self.config.preview_every_s,
                )
                if listen:
                    self._preview()
                    previewed = time.monotonic()
                if stop or save:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    self._close()
                    raise KeyboardInterrupt
                if over or impatient:
                    return self._finish(impatient=impatient)
            return self._finish()

    def _step(self) -> dict[str, float]:
        step = self.state.step
        generator = keyed_generator(self.config.seed, "step", step, self.world.rank)
        batch = self.bank.draw(self.model.batch_spec, split="train", generator=generator)
        device = next(self.model.parameters()).device
        try:
            losses = self.model.train_step(batch.to(device), step=step, generator=generator, update=self.optimiser)
        except DivergedError as error:
            self._tell_of_the_break(str(error))
            raise DivergedError(f"{error}; {self._advice()}") from None
        self.optimiser.end_step()
        self.state = dataclasses.replace(self.state, step=step + 1)
        self.means.add(losses)
        if self.state.step % self.log_every == 0:
            means = self.means.take()
            if self.log:
                self.log.write(self.state.step, "train", means, elapsed_s=self._elapsed_s())
        return losses

    def _advice(self) -> str:
        rates = [field for field in self.state.config if "learning_rate" in field]
        halved = " ".join(f"--set {name}={self.state.config[name] / 2:g}" for name in rates) or "a lower learning rate"
        kept = resume.read(self.folder)
        return (
            f"the state of step {kept.step if kept else 0} is kept in {self.folder}; "
            f"start again in another folder with {halved}"
        )

    def _validate(self) -> None:
        if not self.world.leads:
            return
        self._tell("validating", {})
        with self.optimiser.averaged():
            losses, signs = _look(self.model, self.bank, seed=self.config.seed)
            score = losses.get("score", math.inf)
            assert self.log is not None
            self.log.write(self.state.step, "validation", losses, elapsed_s=self._elapsed_s())
            if self.state.best is None or score < self.state.best:
                self.state = dataclasses.replace(self.state, best=score, best_step=self.state.step)
                if isinstance(self.model, Calibrates) and len(self.bank.clips("validation")):
                    self.model.calibrate(self.bank, pace.held_out(self.bank, most=self.model.validation_clips))
                checkpoint.save(self.model, self.folder, card=self._card(losses))
        self.verdict = self._diagnosed({"step": self.state.step, "kind": "doctor", "losses": signs})[0]
        said = {"verdict": self.verdict.name, "words": self.verdict.words}
        self.log.write(self.state.step, "doctor", signs, elapsed_s=self._elapsed_s(), said=said)
        self._tell("validating", {})

    def _diagnosed(self, *lines: dict[str, Any]) -> tuple[doctor.Finding, ...]:
        """What the doctor says to the log and to `lines` that are not in it yet."""
        every = [*read_log(self.folder / "log.jsonl"), *lines]
        return doctor.diagnose(doctor.History.of(every, self.state.config))

    def _look_at_the_untrained(self) -> None:
        """The score of random weights, which everything later is held against."""
        if self.log:
            losses = pace.validate(self.model, self.bank, seed=self.config.seed)
            untrained = {"untrained_score": losses.get("score", math.nan)}
            self.log.write(0, "doctor", untrained, elapsed_s=self._elapsed_s())

    def _tell_of_the_break(self, words: str) -> None:
        if self.log:
            self.log.write(self.state.step, "broke", {}, elapsed_s=self._elapsed_s(), said={"words": words})
            self._report({})

    def _preview(self) -> None:
        if not self.world.leads:
            return
        self._tell("previewing", {})
        self.model.eval()
        with self.optimiser.averaged():
            sounds = preview.listen(self.model, self.bank, pace.held_out(self.bank), seed=self.config.seed)
        self.model.train()
        preview.keep(sounds, self.folder, step=self.state.step)
        self._report(sounds)

    def _report(self, sounds: dict[str, Waveform]) -> None:
        title = f"{self.state.family} · {Path(self.bank.folder).name}"
        judged_on = pace.judged_on(self.bank)
        preview.report(self.folder, self._now(), sounds, title=title, judged_on=judged_on)

    def _save(self) -> None:
        if self.log is None:
            return
        self._tell("saving", {})
        self.log.flush()  # first: a log longer than the state is cut, a shorter one would have a hole
        resume.save(self.folder, self._now(), self.model, self.optimiser)

    def _finish(self, *, impatient: bool = False) -> RunResult:
        if self.state.step == self.steps:
            why = f"finished: {self.steps} steps"
        elif impatient:
            why = (
                f"finished: stopped before it gets worse, at step {self.state.step} of {self.steps}, after "
                f"{self.config.patience} validations without a better score; the model of step "
                f"{self.state.best_step} is kept"
            )
        else:
            why = f"finished: the time is over at step {self.state.step} of {self.steps}"
            self._validate()
        self.state = dataclasses.replace(self.state, finished=why)
        self._preview()
        self._save()
        self._tell("finished", {})
        self._close()
        return _result(self.folder, self._now(), self.bank)

    def _close(self) -> None:
        if self.log:
            self.log.close()

    def _card(self, figures: dict[str, float]) -> checkpoint.Card:
        return checkpoint.Card(
            data=Path(self.bank.folder).name,
            data_hash=self.state.run["data"],
            sounds=len(self.bank.clips("train")),
            licence=licence.name(Path(self.bank.folder)) or "not stated",
            seed=self.config.seed,
            settings=self.state.config,
            figures={
                "step": float(self.state.step),
                "minutes": self._elapsed_s() / 60,
                "judged on": pace.judged_on(self.bank),
                **figures,
            },
        )

    def _elapsed_s(self) -> float:
        return self.state.elapsed_s + time.monotonic() - self.began

    def _cpu_s(self) -> float:
        return self.state.cpu_s + time.process_time() - self.began_cpu

    def _now(self) -> State:
        return dataclasses.replace(self.state, elapsed_s=self._elapsed_s(), cpu_s=self._cpu_s(), means=self.means.sums)

    def _is_over(self) -> bool:
        """Whether another step would go over the time budget."""
        if self.config.minutes is not None:
            return self._elapsed_s() + self.step_s > 60 * self.config.minutes
        return self.config.cpu_minutes is not None and self._cpu_s() > 60 * self.config.cpu_minutes

    def _is_impatient(self) -> bool:
        """Whether `patience` validations have gone by since the best one. Only the leading process can tell."""
        if self.config.patience is None or not self.world.leads:
            return False
        return self.state.step - self.state.best_step >= self.config.patience * self.validate_every

    def _tell(self, doing: str, losses: dict[str, float]) -> None:
        if self.progress is None:
            return
        spec, elapsed_s = self.model.batch_spec, self._elapsed_s()
        audio_s = spec.size * spec.samples / self.model.config.sample_rate * self.world.size
        eta_s = (self.steps - self.state.step) * self.step_s
        if self.config.minutes is not None:
            eta_s = min(eta_s, max(0.0, 60 * self.config.minutes - elapsed_s))
        rate = audio_s / self.step_s if self.step_s else 0.0
        best, verdict = self.state.best, self.verdict.name if self.verdict else ""
        self.progress(Progress(doing, self.state.step, self.steps, elapsed_s, eta_s, rate, losses, best, verdict))


def _result(folder: Path, state: State, bank: SoundBank, *, already: bool = False) -> RunResult:
    return RunResult(
        folder=folder,
        step=state.step,
        steps=int(state.config["steps"]),
        elapsed_s=state.elapsed_s,
        cpu_s=state.cpu_s,
        score=state.best,
        judged_on=pace.judged_on(bank),
        message=state.finished,
        already=already,
        findings=doctor.diagnose(doctor.History.read(folder, state.config)),
    )


def _mean(mean: float, value: float) -> float:
    return value if mean == 0 else 0.9 * mean + 0.1 * value
