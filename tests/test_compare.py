"""The comparison: one budget, one evaluation, one table; who cannot gets a reason, and what was trained is kept."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_presets import RATE, SMALL, bank_of, hit, ring

from soundloom import checkpoint, cli, compare, comparepage, material, resume
from soundloom.audio import Waveform, write
from soundloom.bank import SoundBank
from soundloom.compare import Contest, contestants, questions, recipes_for
from soundloom.errors import BankError, ConfigError, ModelError
from soundloom.figures import Figure
from soundloom.likeness import HALVES
from soundloom.material import held_out_clips
from soundloom.models.vae import VAE
from soundloom.recipe import Stage
from soundloom.terminal import Terminal
from soundloom.train import TrainConfig

SETTINGS = ["vae.batch=2", *(setting if setting.startswith("codec.") else f"flow.{setting}" for setting in SMALL)]
STEPS = TrainConfig(steps=4)


class Picky(VAE):
    """A family that never finds a bank good enough."""

    family = "picky"

    @classmethod
    def configure(cls, bank, settings=()):
        raise BankError("the bank has no cowbells: a picky needs 3")


@pytest.fixture(scope="module", autouse=True)
def _picky():
    checkpoint.FAMILIES["picky"] = "test_compare:Picky"
    yield
    del checkpoint.FAMILIES["picky"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> SoundBank:
    folder = tmp_path_factory.mktemp("compare") / "<i>bank"
    random = np.random.default_rng(0)
    for label, make in (("hit", hit), ("ring", ring)):
        (folder / "sounds" / label).mkdir(parents=True)
        for i in range(70):
            x = make(random)[: RATE // 4]
            sound = (0.9 * x / np.abs(x).max()).astype(np.float32)
            write(folder / "sounds" / label / f"{label} {i}.wav", Waveform(sound[None], RATE))
    return SoundBank.scan(folder / "sounds", folder / "<b>bank", label_from="folder")


def command(bank: SoundBank, out: Path, *more: object) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    families = ["--families", "vae,picky,flow", "--steps", 4, "--samples", 24]
    return [*map(str, ["compare", bank.folder, "-o", out, *families, *settings, *more])]


@pytest.fixture(scope="module")
def made(bank, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    assert cli.run([*command(bank, out), "-q"]) == 0
    return out


def test_each_family_has_its_figures_or_a_reason(made):
    document = json.loads((made / "compare.json").read_text())
    vae, picky, flow = document["families"]
    assert [entry["family"] for entry in document["families"]] == ["vae", "picky", "flow"]
    assert picky["cannot"] == "the bank has no cowbells: a picky needs 3"
    assert (picky["figures"], picky["trained"]) == ({}, [])
    for entry in (vae, flow):
        assert entry["cannot"] is None
        figures = entry["figures"]
        assert {"kernel_distance", "precision", "coverage", "label_accuracy", "near_share"} <= figures.keys()
        assert figures["kernel_distance"]["value"] > 0, "a few steps are no model"
        assert figures["cpu_ms"]["value"] > 0
        assert figures["trained_s"]["value"] > 0
        size = (made / entry["family"] / "model.safetensors").stat().st_size
        assert figures["megabytes"]["value"] == pytest.approx(size / 1e6)
    assert document["budget"] == {"steps": 4, "minutes": None, "cpu_minutes": None}


def test_the_budget_is_the_same_and_the_codec_is_within_it(made):
    vae, _, flow = json.loads((made / "compare.json").read_text())["families"]
    assert [run["step"] for run in vae["trained"]] == [4]
    assert [run["step"] for run in flow["trained"]] == [1, 3]
    assert resume.read(made / "flow" / "codec").family == "codec"


def test_the_table_has_a_column_a_family_and_reasons_below(made):
    text = (made / "compare.md").read_text()
    head, line, *rows = [row for row in text.splitlines() if row.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[2:-1]] == ["vae", "flow", "real sounds", "what it says"]
    assert line == "|---|---|---|---|---|"
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)
    titles = [row.split("|")[1].strip() for row in rows]
    assert [title for title in titles if title.isupper()] == [group.upper() for group in compare.LINES]
    assert "- picky: the bank has no cowbells: a picky needs 3" in text
    assert "- vae, flow: Fréchet's distance: in 128 dimensions it needs 192 sounds" in text
    assert "The codec that comes before flow is trained within it." in text


def test_the_page_lets_all_be_heard_beside_the_real_sound(made, bank):
    page = (made / "report.html").read_text()
    asked = json.loads((made / "compare.json").read_text())["asked"]
    assert {question["label"] for question in asked} == {"hit", "ring"}
    assert len(asked) == compare.ASKED
    assert page.count("<audio") == 3 * len(asked)
    assert "&lt;b&gt;bank" in page
    assert "<b>bank" not in page
    text = re.sub(r"data:[^\"]*", "", page)
    assert "cowbells" in text
    assert not re.search(r"\bnan\b", text.lower())


def test_again_nothing_is_trained_and_the_figures_are_the_same(made, bank, capsys):
    before = json.loads((made / "compare.json").read_text())
    assert cli.run([*command(bank, made), "--json"]) == 0
    out, err = capsys.readouterr()
    after = json.loads(out)
    assert "vae: was already finished: 4 steps" in err
    assert "codec of the flow: was already finished" in err
    for old, new in zip(before["families"], after["families"], strict=True):
        own = {name for name in old["figures"] if name not in compare.LINES["cost"]}
        assert {name: old["figures"][name] for name in own} == {name: new["figures"][name] for name in own}
    assert Path(after["page"]).exists()


def test_another_process_draws_the_same_sounds_to_be_like(bank):
    """Names are hashed differently in every process: nothing may go by the order of a set of them."""
    code = (
        "import sys, numpy as np; from soundloom import SoundBank, material; bank = SoundBank.load(sys.argv[1]);"
        "print(material._alike(bank, bank.clips('train'), bank.clips('test'), 30, np.random.default_rng(0)))"
    )
    drawn = [
        subprocess.run(
            [sys.executable, "-c", code, str(bank.folder)],
            env={**os.environ, "PYTHONHASHSEED": hashed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashed in ("1", "2", "3")
    ]
    assert drawn[0] == drawn[1] == drawn[2]


def test_fewer_sounds_than_labels_are_like_some_of_them(bank):
    train, held_out = bank.clips("train"), held_out_clips(bank)
    (one,) = material._alike(bank, train, held_out, 1, np.random.default_rng(0))
    assert one in held_out


def test_an_interrupted_comparison_keeps_what_was_trained(bank, tmp_path, monkeypatch, capsys):
    fit, out = Stage.fit, tmp_path / "out"

    def interrupted(stage, bank, **more):
        if stage.family == "codec":
            raise KeyboardInterrupt
        return fit(stage, bank, **more)

    monkeypatch.setattr(Stage, "fit", interrupted)
    assert cli.run(command(bank, out)) == 130
    assert "goes on with the same command" in capsys.readouterr().err
    assert resume.read(out / "vae").finished
    assert not (out / "report.html").exists()


def test_one_that_is_trained_and_cannot_be_judged_has_a_reason_too(made, bank, monkeypatch):
    def failing(run, *_, **__):
        raise ModelError(f"this {run.family} is mute")

    monkeypatch.setattr(compare, "evaluate", failing)
    contest = Contest(("vae",), STEPS, {"vae": ("batch=2",)}, samples=24)
    found = compare.compare(bank, made, contest, terminal=Terminal(quiet=True))
    assert found.entries[0].cannot == "it is trained, and then: this vae is mute"
    assert found.judged == ()
    assert "it is trained, and then: this vae is mute" in comparepage.markdown(found)
    comparepage.write(found, made / "none")


@pytest.mark.parametrize(
    ("contest", "error", "words"),
    [
        (Contest(("vae", "codec"), STEPS), ModelError, "a codec makes no new sounds to compare: a .*vae.* does"),
        (Contest(("classifier",), STEPS), ModelError, "flow"),
        (Contest(("vea",), STEPS), ConfigError, "did you mean vae"),
        (Contest((), STEPS), ConfigError, "gan,vae,flow"),
        (Contest(("vae",), STEPS, {"flow": ("batch=2",)}), ConfigError, "not trained here"),
        (Contest(("vae",), STEPS, {"codec": ("batch=2",)}), ConfigError, "not trained here"),
        (Contest(("vae",), STEPS, {"vae": ("bach=2",)}), ConfigError, "did you mean batch"),
        (Contest(("flow",), STEPS, {"codec": ("latnt=2",)}), ConfigError, "did you mean latent"),
        (Contest(("flow",), STEPS, codec=Path("nowhere")), ModelError, "there is no model folder nowhere"),
        (Contest(("vae", "picky"), STEPS, codec=Path("c")), ConfigError, "vae and picky do not"),
        (Contest(("vae",), TrainConfig(steps=1, device="tpu")), ConfigError, "did you mean cpu"),
    ],
)
def test_what_a_person_got_wrong_is_refused_before_anything_is_trained(bank, contest, error, words):
    with pytest.raises(error, match=words):
        recipes_for(bank, contest)


def test_the_command_line_says_what_is_wrong_in_a_line(bank, tmp_path, capsys):
    base = ["compare", str(bank.folder), "-o", str(tmp_path / "x"), "--steps", "2"]
    for more, words in (
        (["--families", "vae", "--set", "batch=2"], "--set vae.batch=2"),
        (["--families", "vae,kodec"], "did you mean codec"),
        (["--families", "vae", "--samples", "0"], "1 to 10000"),
    ):
        assert cli.run([*base, *more]) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert words in err
    assert not (tmp_path / "x").exists()


def test_a_codec_that_there_is_serves_all_and_is_said_to(made, bank):
    contest = Contest(("vae", "flow"), STEPS, codec=made / "flow" / "codec")
    vae, flow = recipes_for(bank, contest)
    assert not flow.codec_first
    assert flow.settings[0] == f"codec={made / 'flow' / 'codec'}"
    assert vae.settings == ()
    entries = tuple(compare.Entry(recipe, made, cannot="x") for recipe in (vae, flow))
    words = compare.Comparison(bank, contest, entries, ()).budget_words()
    assert "used by flow, was there before: its time is not in it" in words


def test_the_families_that_suit_a_bank(bank, tmp_path):
    assert contestants(bank) == ("gan", "vae", "flow")
    notes = bank_of(tmp_path / "notes", ring, sounds=20)
    assert contestants(notes)[-1] == "ddsp"
    assert "rnn" in contestants(dataclasses.replace(bank, kind="long"))


def test_all_are_asked_for_the_commonest_labels_and_for_notes_where_the_bank_has_them(bank, tmp_path):
    asked = questions(bank)
    assert [question.label for question in asked] == ["hit"] * 3 + ["ring"] * 3
    assert all(question.held_out and question.pitch is None for question in asked)
    assert len({question.path for question in asked}) == 6
    notes = dataclasses.replace(bank_of(tmp_path / "notes", ring, sounds=8), kind="notes")
    assert all(question.pitch is not None and not question.held_out for question in questions(notes))
    assert questions(notes)[0].words.startswith("any sound, ")


def test_real_sounds_stand_beside_a_figure():
    figure = Figure("d", "distance", 0.5, "", beside={"held-out sounds": 0.1234, HALVES: 0.02, "other": 9.0})
    assert compare._real(figure) == "0.123 (halves 0.02)"
    assert compare._real(Figure("d", "distance", 0.5, "", beside={"held-out sounds": -0.1})) == "about 0"
    assert compare._real(Figure("d", "distance", 0.5, "")) == ""
