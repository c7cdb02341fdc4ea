"""How good new sounds are: spoken digits, drums, piano notes

What `soundloom train BANK` picks by itself, its codec included, within the CPU-minutes that the table names, one seed,
one thread, default manner of sampling. Digits (five recordings of each speaker and digit held out): a classifier
trained on real digits only names the new ones. Drums (drum machines and one-shots, kinds as labels): a classifier
trained to tell new sounds from held-out ones by the bundled ear's embedding, and a judge of kinds trained on real ones.
Piano: every fifth pitch is held out and asked for; the tracker is librosa's YIN. `SOUNDLOOM_KEEP` names a folder in
which banks and runs stay, `SOUNDLOOM_ONLY` one of digits, drums, piano.
"""

import csv
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import librosa
import numpy as np

from benchmarks import common
from benchmarks.codec_quality import kept_folder, notes, piano_bank
from benchmarks.digits import kept_back, recordings
from soundloom.audio import Waveform
from soundloom.bank import SoundBank, spread_evenly
from soundloom.ears import Ear
from soundloom.evaluate import Evaluation, Judges, evaluate
from soundloom.metrics import cents_between, log_mel_distance, partials_found
from soundloom.recipe import Choice, decide, stages
from soundloom.run import Run
from soundloom.train import TrainConfig, fit

MINUTES = {"digits": 60.0, "drums": 45.0, "piano": 45.0}
JUDGE_MINUTES = 6.0
SOUNDS = {"digits": 500, "drums": 200}
IN_TUNE_CENTS = 50
INVERTED = 12
KINDS = (  # of the one-shots, by how their names begin
    ("bd_", "kick"), ("drum_bass", "kick"), ("drum_heavy_kick", "kick"), ("elec_hollow_kick", "kick"),
    ("elec_soft_kick", "kick"), ("sn_", "snare"), ("drum_snare", "snare"), ("elec_filt_snare", "snare"),
    ("elec_hi_snare", "snare"), ("elec_lo_snare", "snare"), ("elec_mid_snare", "snare"), ("elec_snare", "snare"),
    ("drum_tom", "tom"), ("elec_fuzz_tom", "tom"), ("drum_cymbal", "cymbal"), ("drum_splash", "cymbal"),
    ("ride_", "cymbal"), ("elec_cymbal", "cymbal"), ("hat_", "closed hat"), ("tabla_", "hand drum"),
    ("drum_cowbell", "cowbell"), ("elec_", "blip"), ("glitch_", "glitch"), ("mehackit_", "glitch"),
    ("perc_", "percussion"),
)  # fmt: skip
TRUTH = Path(__file__).parent / "truth" / "drum_machines.csv"


def main() -> list[dict]:
    common.one_thread()
    only = os.environ.get("SOUNDLOOM_ONLY")
    rows = []
    with kept_folder() as folder:
        for name, measure in (("digits", digits), ("drums", drums), ("piano", piano)):
            if only in (None, name):
                rows += measure(folder)
    return rows


def trained(bank: SoundBank, folder: Path, *, minutes: float) -> Run:
    """What `soundloom train BANK --cpu-minutes` trains where nothing else is said."""
    config = TrainConfig(cpu_minutes=minutes, threads=1)
    for stage in stages(decide(bank, Choice()), bank, config, folder):
        stage.fit(bank)
    return Run.load(folder)


def judge_of(bank: SoundBank, folder: Path) -> Ear:
    """A classifier of the bank's labels, trained on its real training sounds only."""
    fit("classifier", bank, TrainConfig(cpu_minutes=JUDGE_MINUTES, threads=1), folder)
    return Ear.load(folder)


def digits(folder: Path) -> list[dict]:
    index = {name: int(number) for name, (_, _, number) in recordings().items()}
    held_out, deciding = kept_back(list(index.values()))

    def split(name: str) -> str:
        return "test" if index[name] in held_out else "validation" if index[name] in deciding else "train"

    table = written(folder / "digits-split.csv", "split", recordings(), split)
    bank = SoundBank.scan(common.sounds("spoken-digits"), folder / "digits", label_from=r"^(\d)_", split=table)
    run = trained(bank, folder / "run-digits", minutes=MINUTES["digits"])
    judge = judge_of(bank, folder / "judge-digits")
    found = evaluate(run, bank, samples=SOUNDS["digits"], judges=Judges(classifier=judge))
    inception = figure(found, "judged", "inception_score")
    return [
        row("digits", run, "right digit", figure(found, "obedience", "label_accuracy"), ">= 0.92"),
        {**row("digits", run, "Inception score", inception, ""),
         "beside it": f"held-out digits {inception.beside['held-out sounds']:.2f}"},
        row("digits", run, "Inception score, share of the held-out digits'",
            inception.value / inception.beside["held-out sounds"], ">= 0.80"),
        *common_rows("digits", run, found, coverage=">= 0.6"),
        inverted("digits", run, bank),
    ]  # fmt: skip


def drums(folder: Path) -> list[dict]:
    source, kinds = folder / "drums-source", dict(csv.reader(TRUTH.open()))
    source.mkdir(parents=True, exist_ok=True)
    labels = {}
    for path in sorted(common.sounds("drum-machines").rglob("*.ogg")):
        inside = path.relative_to(common.sounds("drum-machines")).as_posix()
        labels["machine_" + inside.replace("/", "_")] = kinds[inside]
        shutil.copyfile(path, source / ("machine_" + inside.replace("/", "_")))
    for path in sorted(common.sounds("one-shots").glob("*.flac")):
        labels[path.name] = next((kind for begins, kind in KINDS if path.name.startswith(begins)), "other")
        shutil.copyfile(path, source / path.name)
    table = written(folder / "drums-labels.csv", "label", labels, labels.__getitem__)
    bank = SoundBank.scan(source, folder / "drums", labels=table)
    run = trained(bank, folder / "run-drums", minutes=MINUTES["drums"])
    judge = judge_of(bank, folder / "judge-drums")
    found = evaluate(run, bank, samples=SOUNDS["drums"], judges=Judges(classifier=judge))
    right = figure(found, "obedience", "label_accuracy")
    return [
        row("drums", run, "told from held-out sounds, AUC", figure(found, "distances", "two_sample_auc_held_out"),
            "<= 0.75"),
        row("drums", run, "right kind", right, ""),
        row("drums", run, "right kind, share of the held-out sounds'",
            right.value / right.beside["held-out sounds"], ">= 0.90"),
        *common_rows("drums", run, found),
        inverted("drums", run, bank),
    ]  # fmt: skip


def piano(folder: Path) -> list[dict]:
    bank, held_out = piano_bank(folder, 0)
    run = trained(bank, folder / "run-piano-new", minutes=MINUTES["piano"])
    where = notes(bank)
    asked = sorted((pitch, layer) for layer, pitch in where if pitch in held_out)
    clips = [where[layer, pitch] for pitch, layer in asked]
    pitches = np.asarray(bank.column("pitch"), float)[clips]
    made = [run.sample(1, seed=i, pitch=float(pitch))[0] for i, pitch in enumerate(pitches)]
    off = [abs(cents_between(yin_hz(sound, pitch), hz(pitch))) for sound, pitch in zip(made, pitches, strict=True)]
    real = [abs(cents_between(yin_hz(bank.audio(clip), pitch), hz(pitch))) for clip, pitch in
            zip(clips, pitches, strict=True)]  # fmt: skip
    found = [both(bank.audio(clip), sound) for clip, sound in zip(clips, made, strict=True)]
    other = [both(bank.audio(where["FF", p]), bank.audio(where["PP", p])) for p in sorted(held_out)
             if ("FF", p) in where and ("PP", p) in where]  # fmt: skip
    in_tune, real_in_tune = (float(np.mean(np.array(cents) <= IN_TUNE_CENTS)) for cents in (off, real))
    return [
        {**row("piano", run, "held-out pitches in tune", in_tune, ">= 0.95"),
         "beside it": f"the real notes {real_in_tune:.2f}"},
        {**row("piano", run, "partials found against the real held-out note", float(np.mean(found)), ">= 0.45"),
         "beside it": f"the other layer of the same note {np.mean(other):.2f}"},
    ]  # fmt: skip


def written(path: Path, column: str, names: Sequence[str], value: Callable[[str], str]) -> Path:
    """A table for the scan: the value of a column for each file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", column), *((name, value(name)) for name in names)])
    return path


def figure(found: Evaluation, section: str, name: str):  # type: ignore[no-untyped-def]
    return next(figure for figure in found[section].figures if figure.name == name)


def row(sounds: str, run: Run, what: str, value, target: str) -> dict:  # type: ignore[no-untyped-def]
    """A line of the table; of a `Figure`, its interval and yardsticks too."""
    line = {"sounds": f"{sounds} ({run.family}, {MINUTES[sounds]:g} CPU-minutes)", "what": what}
    if isinstance(value, float):
        return {**line, "figure": value, "target": target, "beside it": ""}
    return {**line, "figure": value.text, "target": target, "beside it": value.yardsticks}


def common_rows(sounds: str, run: Run, found: Evaluation, *, coverage: str = "") -> list[dict]:
    rows = [row(sounds, run, each.title, each, coverage if each.name == "coverage" else "")
            for each in (*found["variety"].figures, *found["distances"].figures)]  # fmt: skip
    copying = {"sounds": rows[0]["sounds"], "what": "memorisation", "figure": found["honesty"].words,
               "target": "no sign of copying", "beside it": ""}  # fmt: skip
    return [*rows, copying]


def inverted(sounds: str, run: Run, bank: SoundBank) -> dict:
    """Held-out sounds taken to their noise and back, against what the codec alone makes of them."""
    lost = []
    for clip in spread_evenly(bank.clips("test"), INVERTED):
        made = run.vary(bank.audio(clip), 1, strength=0.0)
        n = min(bank.audio(clip).samples.shape[1], made.own.samples.shape[1])
        real, own, again = (x.samples[0, :n] for x in (bank.audio(clip), made.own, made.again))
        distances = [8.6859 * log_mel_distance(real, x, sample_rate=bank.sample_rate) for x in (own, again)]
        lost.append((*distances, made.error_db))
    own_db, again_db, error_db = np.mean(lost, axis=0)
    return {**row(sounds, run, "inversion: dB further from the sound than the codec's own", again_db - own_db, "<= 1"),
            "beside it": f"the codec's own {own_db:.2f} dB, between the two {error_db:.2f} dB"}  # fmt: skip


def hz(pitch: float) -> float:
    return float(440 * 2 ** ((pitch - 69) / 12))


def yin_hz(sound: Waveform, pitch: float) -> float:
    """The pitch that librosa's YIN finds within an octave of the one asked for: the median over the loud frames."""
    audio, rate, asked = sound.mono().samples[0], sound.sample_rate, hz(pitch)
    low, high = asked / 2**1.1, min(asked * 2**1.1, 0.45 * rate)
    n = 1 << int(np.ceil(np.log2(max(2048, 6 * rate / asked))))
    found = librosa.yin(audio, fmin=low, fmax=high, sr=rate, frame_length=n, hop_length=512)
    level = librosa.feature.rms(y=audio, frame_length=n, hop_length=512)[0]
    return float(np.median(found[: len(level)][level[: len(found)] > 0.1 * level.max()]))


def both(real: Waveform, made: Waveform) -> float:
    """Partials found, the made sound at the peak of the real one."""
    gain = np.abs(real.samples).max() / max(float(np.abs(made.samples).max()), 1e-9)
    n = min(real.samples.shape[1], made.samples.shape[1])
    return partials_found(real.samples[0, :n], gain * made.samples[0, :n], sample_rate=real.sample_rate)
