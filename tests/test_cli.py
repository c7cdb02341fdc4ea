"""The command line: exit codes, one JSON document, sentences that help, and the whole way from sounds to sounds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba import njit

import soundloom as sl
from soundloom import cli, factory
from soundloom.terminal import Terminal

RATE = 44100


def soundloom(*arguments: object, timeout: float = 120, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "soundloom", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **kwargs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bank of 61 sounds and a model of each family after two steps, made by the command line."""
    root = tmp_path_factory.mktemp("cli")
    factory.make(root / "all", seed=0)
    (root / "sounds").mkdir()
    for path in sorted((root / "all").glob("*.wav"))[::5]:
        path.rename(root / "sounds" / path.name)
    assert cli.run(["scan", str(root / "sounds"), "-o", str(root / "bank"), "-q"]) == 0
    for family in ("vae", "codec"):
        arguments = [
            "train",
            root / "bank",
            "--family",
            family,
            "--steps",
            "2",
            "-o",
            root / family,
            "--set",
            "batch=2",
        ]
        assert cli.run([*map(str, arguments), "-q"]) == 0
    return root


def refused(capsys, *arguments: object) -> str:
    """The one line with which a command is refused."""
    assert cli.run([*map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "train"),
        (["scan"], "requires an argument"),
        (["sample", "run", "-o", "x", "-n", "many"], "many"),
        (["scan", "sounds", "-o", "bank", "--lables", "x"], "--labels"),
    ],
)
def test_what_is_not_understood_ends_with_2(arguments, words):
    done = soundloom(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.parametrize("command", ["", *(name for name in cli.app if name.isalpha())])
def test_every_command_explains_itself(command, capsys):
    assert cli.run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: soundloom" in shown
    assert len(shown) > 400


def test_help_needs_no_torch():
    code = "import sys, soundloom.cli as c; c.run(['sample', '--help']); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"


def test_a_refusal_is_one_line_and_leaves_1(tmp_path):
    (tmp_path / "empty").mkdir()
    done = soundloom("scan", tmp_path / "empty", "-o", tmp_path / "bank", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_json_is_one_document_and_nothing_else(folder, tmp_path):
    scanned = soundloom("scan", folder / "sounds", "-o", tmp_path / "bank", "--json")
    assert scanned.returncode == 0, scanned.stderr
    facts = json.loads(scanned.stdout)
    assert facts["clips"] == len(list((folder / "sounds").iterdir()))
    assert sum(facts["splits"].values()) == facts["clips"]
    assert facts["sample_rate"] == RATE
    made = soundloom("sample", folder / "vae", "-o", tmp_path / "new", "-n", 2, "--json")
    assert made.returncode == 0, made.stderr
    assert [sound["file"] for sound in json.loads(made.stdout)["sounds"]] == ["000.wav", "001.wav"]


def test_quiet_says_nothing(folder, tmp_path, capfd):
    assert cli.run(["sample", str(folder / "vae"), "-o", str(tmp_path), "-n", "1", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_it_says_once_why_the_first_time_takes_long(capfd):
    def made():
        return njit(lambda x: x + 1)

    terminal = Terminal()
    with terminal.patience():
        once, again = made(), made()
        once(1), again(1)
    assert capfd.readouterr().out.count("compiled") == 1
    with terminal.patience():
        once(1)  # it is there
    made()(1)  # nobody waits
    assert capfd.readouterr().out == ""


def test_sample_writes_what_it_says(folder, tmp_path):
    base = ["sample", str(folder / "vae"), "-n", "3", "--pitch", "A3", "--label", "bass", "--seconds", "0.5", "-q"]
    for out, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert cli.run([*base, "--seed", seed, "-o", str(tmp_path / out)]) == 0
    facts = json.loads((tmp_path / "a" / "samples.json").read_text())
    assert facts["seed"] == 5
    assert facts["asked"] == {"label": "bass", "pitch": "A3", "seconds": 0.5}
    assert [sound["file"] for sound in facts["sounds"]] == ["000.wav", "001.wav", "002.wav"]
    for name in ("000.wav", "001.wav", "002.wav"):
        a, b, c = (sl.read(tmp_path / out / name).samples for out in "abc")
        assert a.shape == (1, RATE // 2)
        assert np.array_equal(a, b), "the same seed gives the same sound"
        assert not np.array_equal(a, c)
        assert np.abs(a).max() > 1e-4


def test_a_pitch_may_be_a_number(folder, tmp_path):
    for out, pitch in (("name", "A3"), ("number", "57")):
        assert (
            cli.run(["sample", str(folder / "vae"), "-n", "1", "--pitch", pitch, "-o", str(tmp_path / out), "-q"]) == 0
        )
    a, b = (sl.read(tmp_path / out / "000.wav").samples for out in ("name", "number"))
    assert np.array_equal(a, b)


def test_morph_begins_and_ends_with_its_sounds(folder, tmp_path):
    a, b, c = sorted((folder / "sounds").glob("*.wav"))[::25]
    for out, ends in (("ab", (a, b)), ("ac", (a, c)), ("bb", (b, b))):
        command = ["morph", folder / "vae", *ends, "--steps", 4, "-o", tmp_path / out, "-q"]
        assert cli.run([*map(str, command)]) == 0
    assert sorted(path.name for path in (tmp_path / "ab").iterdir()) == ["00.wav", "01.wav", "02.wav", "03.wav"]
    ab = [sl.read(tmp_path / "ab" / f"{i:02d}.wav").samples for i in range(4)]
    assert np.array_equal(ab[0], sl.read(tmp_path / "ac" / "00.wav").samples)
    assert np.array_equal(ab[3], sl.read(tmp_path / "bb" / "00.wav").samples)
    assert not np.array_equal(ab[0], ab[3])


@pytest.mark.parametrize("family", ["vae", "codec"])
def test_reconstruct_keeps_length_rate_and_channels(folder, tmp_path, family):
    t = np.arange(15001) / 22050
    stereo = np.stack([0.3 * np.sin(2 * np.pi * 220 * t), 0.1 * np.sin(2 * np.pi * 330 * t)]).astype(np.float32)
    sl.write(tmp_path / "in.wav", sl.Waveform(stereo, 22050))
    command = [
        "reconstruct",
        folder / family,
        tmp_path / "in.wav",
        "-o",
        tmp_path / "out.flac",
        "--transpose",
        "7",
        "-q",
    ]
    assert cli.run([*map(str, command)]) == 0
    made = sl.read(tmp_path / "out.flac")
    assert (made.sample_rate, made.samples.shape) == (22050, (2, 15001))


def test_evaluate_measures_held_out_sounds(folder, capsys):
    command = ["evaluate", folder / "codec", folder / "bank", "--most", "3", "--split", "validation", "--json"]
    assert cli.run([*map(str, command)]) == 0
    document = json.loads(capsys.readouterr().out)
    held_out = sl.SoundBank.load(folder / "bank")
    paths = {str(path) for path in held_out.column("path")[held_out.clips("validation")]}
    assert {sound["path"] for sound in document["sounds"]} <= paths
    assert len(document["sounds"]) == 3
    # Two steps of training are no better than noise with the right envelope, and the figures say so.
    distance = document["sections"]["closeness"]["figures"]["log_mel_distance"]
    assert distance["value"] > 0.5 * distance["beside"]["noise with the same envelope"]
    assert "makes no new sounds" in document["sections"]["new"]["not_measured"]
    assert (folder / "codec" / "evaluation.html").exists()


SMALL = ("batch=4", "widths=8,16", "depths=1,1", "embedding=16")  # a classifier that learns in seconds


def evaluated(capsys, folder: Path, page: Path, *more: object) -> dict:
    """What `evaluate` says of 24 new sounds of the VAE."""
    command = ["evaluate", folder / "vae", folder / "bank", "--samples", 24, "--most", 1, "-o", page, "--json", *more]
    assert cli.run([*map(str, command)]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_judges_new_sounds_by_the_bundled_ear_and_a_classifier(folder, tmp_path, capsys):
    bank = sl.SoundBank.load(folder / "bank")
    sl.train(bank, tmp_path / "judge", family="classifier", steps=2, settings=SMALL)
    document = evaluated(capsys, folder, tmp_path / "page.html", "--classifier", tmp_path / "judge")
    sections = document["sections"]
    assert "own ear (bundled)" in sections["distances"]["words"]
    # After two steps a model makes noise of all it is asked for, and the ear hears that it is another set.
    distance = sections["distances"]["figures"]["kernel_distance"]
    assert distance["interval"][0] > distance["beside"]["two halves of the training sounds, 19 times in 20 below"]
    assert "needs 192 sounds" in sections["distances"]["not_measured"]
    assert re.search(r"there are \d\d? held-out sounds, and fewer than 20 say", sections["honesty"]["not_measured"])
    inception = sections["judged"]["figures"]["inception_score"]
    assert 1 <= inception["value"] <= len(bank.labels)
    assert set(inception["beside"]) == {"training sounds"}
    assert "judge" in sections["obedience"]["words"]
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<audio") == 12 + 2  # new sounds, and a recording beside its re-synthesis
    assert ">nan<" not in page


def test_evaluate_trains_a_classifier_first_and_says_so(folder, tmp_path, capsys, monkeypatch):
    asked = []

    def train(bank, out, *, minutes, **more):
        asked.append((out, minutes))
        return fit(bank, out, steps=2, settings=SMALL, **more)  # as long as a test may take

    fit = sl.train
    monkeypatch.setattr(sl, "train", train)
    assert (
        "no classifier was given"
        in evaluated(capsys, folder, tmp_path / "a.html")["sections"]["judged"]["not_measured"]
    )
    document = evaluated(capsys, folder, tmp_path / "b.html", "--train-classifier", 0.5)
    assert asked == [(folder / "vae" / "classifier", 0.5)]
    assert str(folder / "vae" / "classifier") in document["sections"]["judged"]["words"]
    wasted = ["--train-classifier", 1, "-o", tmp_path / "c.html"]
    for model, more in (("codec", []), ("vae", ["--samples", 0])):
        assert "leave out --train-classifier" in refused(
            capsys, "evaluate", folder / model, folder / "bank", *more, *wasted
        )
    two = ["--classifier", folder / "vae" / "classifier", *wasted]
    assert "choose one" in refused(capsys, "evaluate", folder / "vae", folder / "bank", *two)


def test_render_plays_what_is_asked(tmp_path, folder):
    out = tmp_path / "phrase.wav"
    assert cli.run(["render", "A4:2 -:2", "--bpm", "120", "--map", "pluck", "-o", str(out), "-q"]) == 0
    sound = sl.read(out)
    spectrum = np.abs(np.fft.rfft(sound.samples[0, 4410 : 4410 + 32768] * np.hanning(32768)))
    assert np.argmax(spectrum) * RATE / 32768 == pytest.approx(440, rel=0.01)
    assert cli.run(["render", "A4", "--map", f"{folder / 'vae'},label=bass", "-o", str(out), "-q"]) == 0
    assert sl.read(out).seconds > 0.3
    assert cli.run(["render", "-:2 A4", "-o", str(out), "--map", "pluck", "-q"]) == 0  # begins with a rest
    assert np.flatnonzero(np.abs(sl.read(out).samples[0]) > 1e-3)[0] == pytest.approx(RATE, abs=10)


def test_what_cannot_be_is_refused_in_a_sentence(folder, tmp_path, capsys):
    vae, codec, out = folder / "vae", folder / "codec", tmp_path / "x"
    assert "48000 is usual" in refused(capsys, "render", "C4", "-o", tmp_path / "a.opus")
    assert "is a .toml file" in refused(capsys, "match", "a.wav", "-o", tmp_path / "a.txt")
    assert "did you mean snare" in refused(capsys, "sample", vae, "--label", "snair", "-o", out)
    assert "note name" in refused(capsys, "sample", vae, "--pitch", "H4", "-o", out)
    assert "vae" in refused(capsys, "sample", codec, "-o", out)
    assert "vae" in refused(capsys, "morph", codec, "a.wav", "b.wav", "-o", out)
    assert "1 or more" in refused(capsys, "sample", vae, "-n", "0", "-o", out)
    assert "config.json" in refused(capsys, "sample", tmp_path, "-o", out)
    assert "-48 to 48" in refused(
        capsys, "reconstruct", codec, next((folder / "sounds").iterdir()), "-o", tmp_path / "o.wav", "--transpose", "99"
    )
    assert "missing.wav" in refused(capsys, "reconstruct", codec, tmp_path / "missing.wav", "-o", tmp_path / "o.wav")
    assert "did you mean codec" in refused(capsys, "train", folder / "bank", "--family", "kodec", "-o", out)
    assert "cpu" in refused(capsys, "train", folder / "bank", "--device", "tpu", "-o", out)
    assert "did you mean batch" in refused(capsys, "train", folder / "bank", "--set", "bach=3", "-o", out)
    assert "steps" in refused(capsys, "train", folder / "bank", "--steps", "3", "--minutes", "1", "-o", out)
    assert "did you mean pluck" in refused(capsys, "render", "C4", "--map", "plick", "-o", tmp_path / "o.wav")
    assert "did you mean cutoff_hz" in refused(
        capsys, "render", "C4", "--map", "subtractive,cutof_hz=3", "-o", tmp_path / "o.wav"
    )
    assert ".wav" in refused(capsys, "render", "C4", "-o", tmp_path / "o.xyz", "--map", tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert "cannot write into" in refused(capsys, "sample", vae, "-o", tmp_path / "file" / "x")
    assert not out.exists() or not list(out.iterdir()), "a refused command leaves nothing behind"


def test_ctrl_c_saves_and_leaves_130(folder, tmp_path):
    command = [sys.executable, "-m", "soundloom", "train", folder / "bank", "--family", "vae", "--minutes", "9"]
    settings = ["--set", "batch=2", "-o", tmp_path / "run"]
    with subprocess.Popen([*map(str, command + settings)], stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "run" / "resume.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "saved" in err
    assert (tmp_path / "run" / "resume.safetensors").exists()


def test_what_there_is_to_play_is_listed(capsys):
    assert cli.run(["instruments", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"fm", "granular"} <= set(document["engines"])
    assert document["patches"]["choir"]["engine"] == "wavetable"
    assert cli.run(["instruments", "patch:choir,attack_s=2", "--json"]) == 0
    knobs = {knob["name"]: knob for knob in json.loads(capsys.readouterr().out)["knobs"]}
    assert (knobs["table"]["now"], knobs["attack_s"]["now"], knobs["chorus.mix"]["now"]) == (3, 2, 0.55)
    assert knobs["chorus.mix"]["high"] == 1
    assert cli.run(["instruments", "patch:choir"]) == 0
    assert "vowels" in capsys.readouterr().out
    assert cli.run(["instruments", "chorus"]) == 0
    assert "depth_s" in capsys.readouterr().out
    assert "did you mean choir" in refused(capsys, "instruments", "patch:chor")
