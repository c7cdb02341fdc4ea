"""DDSP: how fast it trains and plays, and how well, in the configuration that was timed

Monophonic phrases for a violin (some 8 minutes, 16 kHz) are rendered by FluidSynth from a General MIDI soundfont, its
room included; a fifth of them is held out. Speech is the spoken digits at 8 kHz. A sound is measured (pitch, loudness)
and played again from these tracks. Beside the log-mel distance stands that of noise with the real sound's envelope.
The step is timed in batches of 16, as the peer's was; the same model learns faster in the batches of 4 of the defaults.
`SOUNDLOOM_CPU_MINUTES` sets another budget of training, `SOUNDLOOM_KEEP` a folder in which sounds and runs stay,
`SOUNDLOOM_SOUNDFONT` another soundfont.
"""

import contextlib
import csv
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import mido
import numpy as np
import torch

from benchmarks import common
from soundloom import checkpoint, features
from soundloom.audio import Waveform, read, write
from soundloom.bank import SoundBank
from soundloom.metrics import log_mel_distance, noise_with_envelope, partials_found
from soundloom.models.ddsp import DDSP
from soundloom.optimise import Optimiser
from soundloom.runtime import keep_memory
from soundloom.train import TrainConfig, fit

CPU_MINUTES = float(os.environ.get("SOUNDLOOM_CPU_MINUTES", "10"))
SOUNDFONT = Path(os.environ.get("SOUNDLOOM_SOUNDFONT", "/usr/share/sounds/sf2/FluidR3_GM.sf2"))
RATE = 16000
PHRASES, GAP_S = 72, 2.0
VIOLIN, FLUTE = (40, 55, 88), (73, 60, 91)  # program of General MIDI, lowest and highest note
SCALE = (0, 2, 4, 5, 7, 9, 11)
JUDGED = 60  # held-out digits
SPEECH = ("cepstrum=20",)  # the vowels of speech are in neither its pitch nor its loudness
PEER_STEP_S, PEER_SPEED = 5.6, 28.6


def main() -> list[dict]:
    common.one_thread()
    keep_memory()
    with _folder() as folder:
        violin = phrases(folder, "violin", VIOLIN, PHRASES)
        flute = phrases(folder, "flute", FLUTE, 6)
        bank = SoundBank.scan(violin, folder / "bank-violin", split=folder / "violin.csv")
        model = trained(bank, folder / "run-violin")
        rows = speed(bank)
        rows += quality(model, bank, "violin phrases", most=JUDGED)
        rows += transfer(model, flute)
        digits = SoundBank.scan(common.sounds("spoken-digits"), folder / "bank-digits", label_from=r"^(\d)_")
        for what, settings in (("spoken digits", ()), ("spoken digits, told 20 cepstral coefficients too", SPEECH)):
            run = trained(digits, folder / f"run-digits-{len(settings)}", settings)
            rows += quality(run, digits, what, most=JUDGED)
    return rows


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    if kept := os.environ.get("SOUNDLOOM_KEEP"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def phrases(folder: Path, name: str, part: tuple[int, int, int], count: int) -> Path:
    """A folder of `count` phrases for one instrument, each a file, and beside it a table of their splits."""
    out = folder / name
    if out.exists():
        return out
    if shutil.which("fluidsynth") is None or not SOUNDFONT.exists():
        raise common.Missing(
            f"needs FluidSynth and the soundfont {SOUNDFONT.name}: install the packages fluidsynth and "
            "fluid-soundfont-gm, or set SOUNDLOOM_SOUNDFONT to another General MIDI soundfont"
        )
    track, starts = score(part, count, np.random.default_rng(part[0]))
    file = mido.MidiFile(ticks_per_beat=1000)  # at 60 beats a minute a tick is a millisecond
    file.tracks.append(track)
    file.save(folder / f"{name}.mid")
    wav = folder / f"{name}.wav"
    command = ["fluidsynth", "-ni", "-q", "-r", str(RATE), "-C", "no", "-g", "1", "-F", str(wav), str(SOUNDFONT)]
    subprocess.run([*command, str(folder / f"{name}.mid")], check=True, capture_output=True)
    whole = read(wav)
    mono = whole.samples.mean(0, keepdims=True)
    out.mkdir()
    for i, (start, end) in enumerate(itertools.pairwise(starts)):
        write(out / f"{i:03}.wav", Waveform(mono[:, int(start * RATE) : int((end - 0.3) * RATE)], RATE))
    with (folder / f"{name}.csv").open("w", newline="") as table:
        kinds = {0: "test", 3: "validation"}
        names = [(f"{i:03}.wav", kinds.get(i % 6, "train")) for i in range(count)]
        csv.writer(table).writerows([("path", "split"), *names])
    return out


def score(part: tuple[int, int, int], count: int, generator: np.random.Generator) -> tuple[mido.MidiTrack, list[float]]:
    """Phrases of 6 to 12 notes one after the other, in all keys, as MIDI, and when each begins, in seconds."""
    program, low, high = part
    track = mido.MidiTrack(
        [mido.MetaMessage("set_tempo", tempo=1_000_000), mido.Message("program_change", program=program)]
    )
    time, last, starts = 0.1, 0.0, []

    def at(message: mido.Message) -> None:
        nonlocal last
        track.append(message.copy(time=max(0, round(1000 * time) - round(1000 * last))))
        last = time

    for _ in range(count):
        starts.append(time - 0.05)
        key, step = int(generator.integers(12)), int(generator.integers(-7, 8))
        pace, loud, legato = generator.uniform(0.25, 0.9), generator.uniform(50, 100), generator.uniform(0.6, 1.0)
        for _ in range(int(generator.integers(6, 13))):
            step += int(generator.choice([-3, -2, -1, -1, 1, 1, 2, 3]))
            pitch = (low + high) // 2 + key - 6 + 12 * (step // 7) + SCALE[step % 7]
            while not low <= pitch <= high:
                pitch += 12 if pitch < low else -12
            seconds = pace * float(generator.choice([0.5, 1, 1, 2]))
            at(mido.Message("control_change", control=11, value=int(generator.integers(80, 128))))
            at(mido.Message("note_on", note=pitch, velocity=int(np.clip(loud + generator.normal(0, 8), 30, 120))))
            time += seconds * legato
            at(mido.Message("note_off", note=pitch))
            time += seconds * (1 - legato)
        time += GAP_S
    at(mido.Message("control_change", control=11, value=127))
    return track, [*starts, time]


def trained(bank: SoundBank, folder: Path, settings: Sequence[str] = ()) -> DDSP:
    fit("ddsp", bank, TrainConfig(cpu_minutes=CPU_MINUTES, threads=1), folder, settings=settings)
    model = checkpoint.load(folder, device="cpu")
    assert isinstance(model, DDSP)
    return model


def speed(bank: SoundBank) -> list[dict]:
    config = DDSP.configure(bank, ["batch=16"])
    model = DDSP.build(config, seed=0)
    optimiser = Optimiser(model, steps=config.steps)
    spec, at = model.batch_spec, [0]

    def step() -> None:
        generator = torch.Generator().manual_seed(at[0])
        batch = bank.draw(spec, split="train", generator=generator)
        model.train_step(batch, step=at[0], generator=generator, update=optimiser)
        optimiser.end_step()
        at[0] += 1

    seconds = common.cpu_seconds(step, repeats=10, warm_up=3)
    model.eval()
    audio = torch.from_numpy(bank.audio(int(bank.column("seconds").argmax())).samples.copy())[None]
    length = audio.shape[-1] / config.sample_rate
    tracks = model.tracks(audio)
    playing, all_ = (
        length / common.cpu_seconds(work) for work in (lambda: model.play(tracks), lambda: model.resynthesise(audio))
    )
    batch = f"batch {spec.size} of {spec.samples / config.sample_rate:g} s at {config.sample_rate / 1000:g} kHz"
    return [
        {"sounds": "violin phrases", "what": f"a training step, {batch}, CPU-seconds", "figure": seconds,
         "target": "<= 1.1", "beside it": f"peer {PEER_STEP_S}"},
        {"sounds": "violin phrases", "what": "tracks to audio with reverb, x real time", "figure": playing,
         "target": ">= 60", "beside it": f"peer {PEER_SPEED}"},
        {"sounds": "violin phrases", "what": "audio to audio, pitch tracked, x real time", "figure": all_},
        {"sounds": "violin phrases", "what": "parameters, millions",
         "figure": sum(p.numel() for p in model.parameters()) / 1e6},
    ]  # fmt: skip


def quality(model: DDSP, bank: SoundBank, name: str, *, most: int) -> list[dict]:
    """Held-out sounds, played again from what was measured in them."""
    clips = bank.clips("test")
    clips = clips[np.linspace(0, len(clips) - 1, min(most, len(clips))).astype(int)]
    distances, noise, found, cents = [], [], [], []
    generator = np.random.default_rng(0)
    rate = bank.sample_rate
    for clip in clips.tolist():
        real = bank.audio(clip).samples[0]
        made = model.resynthesise(torch.from_numpy(real.copy())[None, None])[0, 0].numpy()
        distances.append(log_mel_distance(real, made, sample_rate=rate))
        noise.append(
            log_mel_distance(real, noise_with_envelope(real, sample_rate=rate, generator=generator), sample_rate=rate)
        )
        found.append(partials_found(real, made, sample_rate=rate))
        cents.append(out_of_tune(real, made, rate))
    off = np.concatenate(cents)
    return [
        {"sounds": f"{name} ({len(clips)} held out)", "what": "log-mel distance", "figure": float(np.mean(distances)),
         "target": f"<= {np.mean(noise) / 2:.3f}", "beside it": f"noise with its envelope {np.mean(noise):.3f}"},
        {"sounds": name, "what": "partials found", "figure": float(np.mean(found))},
        {"sounds": name, "what": "frames in tune within 50 cents", "figure": float(np.mean(off < 50)),
         "beside it": f"median {np.median(off):.1f} cents"},
    ]  # fmt: skip


def out_of_tune(real: np.ndarray, made: np.ndarray, rate: int, *, octaves: bool = False) -> np.ndarray:
    """Cents between the pitches of two sounds, frame by frame, where both have one; `octaves` do not count."""
    hop = 2 ** round(np.log2(0.0116 * rate))
    tracks = [
        features.track_pitch(torch.from_numpy(np.ascontiguousarray(s))[None], sample_rate=rate, hop_length=hop).f0_hz[0]
        for s in (real, made)
    ]
    both = (tracks[0] > 0) & (tracks[1] > 0)
    cents = 1200 * torch.log2(tracks[1][both] / tracks[0][both])
    if octaves:
        cents = cents - 1200 * torch.round(cents / 1200)
    return cents.abs().numpy()


def transfer(model: DDSP, source: Path) -> list[dict]:
    """Another instrument's phrases, played by this one: is the melody in tune?"""
    off = []
    for path in sorted(source.glob("*.wav")):
        real = read(path).samples
        made = model.transfer(torch.from_numpy(real.copy())[None])[0, 0].numpy()
        off.append(out_of_tune(real[0], made, RATE, octaves=True))
    cents = np.concatenate(off)
    return [
        {"sounds": "flute phrases on the violin", "what": "frames in tune within 50 cents, octaves aside",
         "figure": float(np.mean(cents < 50)), "beside it": f"median {np.median(cents):.1f} cents"},
    ]  # fmt: skip
