"""What an ear hears is kept beside the bank, heard once, and goes where a person asks it to."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_ear import FakeEar

import soundloom as sl
from soundloom import cli, describing, ears
from soundloom.audio import Waveform, write
from soundloom.errors import BankError
from soundloom.hearing import FILE, hear_bank, hear_files, identity
from soundloom.tagging import Tag, write_labels

RATE = 22050


def tone(hz: float, *, seconds: float = 0.4, decay: float = 6.0, channels: int = 1, rate: int = RATE) -> Waveform:
    t = np.arange(round(seconds * rate)) / rate
    x = 0.5 * np.sin(2 * np.pi * hz * t) * np.exp(-decay * t)
    return Waveform(np.tile(x, (channels, 1)).astype(np.float32), rate)


def make(folder: Path) -> Path:
    """Four low sounds, four high ones, and two in between, which the ear does not know."""
    folder.mkdir(parents=True)
    for i in range(4):
        write(folder / f"{i}-a.wav", tone(110 * 2 ** (i / 12)))
        write(folder / f"{i}-b.wav", tone(3000 * 2 ** (i / 12)))
    for i in range(2):
        write(folder / f"{i}-c.wav", tone(1050 + 60 * i))
    return folder


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hearing")
    sl.scan(make(root / "sounds"), root / "bank", label_from="(none)?")
    return root


@pytest.fixture
def bank(scanned, tmp_path) -> sl.SoundBank:
    """A bank of its own for each test, as it was scanned; its sounds beside it."""
    shutil.copytree(scanned, tmp_path, dirs_exist_ok=True)
    return sl.SoundBank.load(tmp_path / "bank")


@pytest.fixture
def ear(monkeypatch) -> FakeEar:
    fake = FakeEar()
    monkeypatch.setattr(ears.Ear, "bundled", lambda **_: fake)
    return fake


def run(capsys, *arguments: object, code: int = 0) -> tuple[str, str]:
    assert cli.run([*map(str, arguments)]) == code
    return capsys.readouterr()


def edits(bank: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((bank / "edits.csv").open(encoding="utf-8")))


# What is kept


def test_a_scan_hears_nothing(bank, ear):
    assert ear.calls == []
    assert not (bank.folder / FILE).exists()


def test_every_clip_is_heard_once(bank, ear):
    first = hear_bank(bank, ear)
    again = hear_bank(sl.SoundBank.load(bank.folder), ear)
    assert ear.calls == [10]
    assert [one.label for one in first.heard] == [one.label for one in again.heard]
    np.testing.assert_array_equal(first.embedding, again.embedding)
    assert again.heard[0].pitch == pytest.approx(45, abs=0.5)
    np.testing.assert_array_equal(again.embedding, first.embedding)
    for one, other in zip(again.heard, first.heard, strict=True):
        assert one.chances == pytest.approx(other.chances)
        assert (one.label, one.confidence, one.pitch) == (other.label, other.confidence, other.pitch)


def test_only_what_is_new_is_heard_again(bank, ear, tmp_path):
    hear_bank(bank, ear)
    write(tmp_path / "sounds" / "new.wav", tone(500))
    (tmp_path / "sounds" / "0-a.wav").unlink()
    more = hear_bank(sl.scan(tmp_path / "sounds", bank.folder, label_from="(none)?"), ear)
    assert ear.calls == [10, 1]
    assert len(more) == 10
    write(tmp_path / "sounds" / "0-a.wav", tone(110))
    hear_bank(sl.scan(tmp_path / "sounds", bank.folder, label_from="(none)?"), ear)
    assert ear.calls == [10, 1, 1]  # what had gone was forgotten


def test_a_copy_is_heard_with_its_original(tmp_path, ear):
    (tmp_path / "s").mkdir()
    for name in ("a", "b", "c"):
        write(tmp_path / "s" / f"{name}.wav", tone(200))
    found = hear_bank(sl.scan(tmp_path / "s", tmp_path / "bank"), ear)
    assert ear.calls == [1]
    assert len(found) == 3


def test_another_ear_hears_everything_anew(bank, ear):
    hear_bank(bank, ear)
    other = FakeEar(seed=1)
    assert identity(other) != identity(ear)
    hear_bank(bank, other)
    assert other.calls == [10]


def test_an_ear_that_uses_its_weights_in_another_way_hears_everything_anew(bank, ear, monkeypatch):
    hear_bank(bank, ear)
    monkeypatch.setattr("soundloom.hearing.VERSION", 0)
    hear_bank(bank, ear)
    assert ear.calls == [10, 10]


def test_what_is_damaged_is_heard_again(bank, ear):
    hear_bank(bank, ear)
    (bank.folder / FILE).write_bytes(b"PAR1 and nothing more")
    assert len(hear_bank(bank, ear)) == 10
    assert ear.calls == [10, 10]


def test_files_in_folders_and_what_cannot_be_read(tmp_path, ear):
    folder = make(tmp_path / "sounds")
    (folder / "x.wav").write_bytes(b"no sound at all")
    write(folder / "z.wav", Waveform(np.zeros((1, RATE), np.float32), RATE))
    found = hear_files([folder, folder / "0-a.wav"], ear)
    assert [one.path.name for one in found if one.heard is None] == ["x.wav", "z.wav"]
    assert "silent" in next(one.reason for one in found if one.path.name == "z.wav")
    assert len(found) == 13


# Labels into a bank


def test_labels_are_written_and_in_force_at_once_and_after_a_scan(bank, ear, tmp_path):
    done = write_labels(bank.folder, [Tag("0-a.wav", 0.0, "low"), Tag("0-b.wav", 0.0, "high")])
    assert (done.written, done.renamed, done.kept) == (2, 0, 0)
    for now in (sl.SoundBank.load(bank.folder), sl.scan(tmp_path / "sounds", bank.folder, label_from="(none)?")):
        labels = dict(zip(now.column("path"), now.column("label"), strict=True))
        assert (labels["0-a.wav"], labels["0-b.wav"], labels["1-a.wav"]) == ("low", "high", None)
        assert now.labels == ("high", "low")
        assert "low, A2" in now.column("caption")[list(now.column("path")).index("0-a.wav")]
        np.testing.assert_array_equal(now.audio(0).samples, bank.audio(0).samples)
        np.testing.assert_array_equal(now.f0(0)[0], bank.f0(0)[0])


def test_what_a_person_wrote_stays(bank):
    (bank.folder / "edits.csv").write_text(
        "path,start_s,label,pitch\n0-a.wav,,boom,\n1-a.wav,0,thud,\n2-a.wav,0,,A1\n", encoding="utf-8"
    )
    done = write_labels(bank.folder, [Tag(f"{i}-a.wav", 0.0, "low") for i in range(4)])
    assert (done.written, done.kept) == (2, 2)
    rows = {(row["path"], row["start_s"]): row for row in edits(bank.folder)}
    assert [rows["0-a.wav", ""]["label"], rows["1-a.wav", "0"]["label"]] == ["boom", "thud"]
    assert (rows["2-a.wav", "0"]["label"], rows["2-a.wav", "0"]["pitch"]) == ("low", "A1")  # beside their own pitch
    assert ("0-a.wav", "0") not in rows


def test_an_ear_may_change_its_mind_but_not_a_person_s(bank):
    write_labels(bank.folder, [Tag("0-a.wav", 0.0, "low"), Tag("1-a.wav", 0.0, "low")])
    text = (bank.folder / "edits.csv").read_text("utf-8")
    (bank.folder / "edits.csv").write_text(text.replace("1-a.wav,0,low", "1-a.wav,0,tom"), encoding="utf-8")
    done = write_labels(bank.folder, [Tag("0-a.wav", 0.0, "deep"), Tag("1-a.wav", 0.0, "deep")])
    assert (done.written, done.renamed, done.kept) == (1, 1, 1)
    assert [(row["label"], row["heard"]) for row in edits(bank.folder)] == [("deep", "deep"), ("tom", "low")]


def test_labels_that_the_scan_found_stay_unless_they_are_to_be_replaced(bank, tmp_path):
    named = sl.scan(tmp_path / "sounds", bank.folder, label_from=r"-(\w)")
    before = named.column("label").tolist()
    assert None not in before
    tags = [Tag("0-a.wav", 0.0, "low"), Tag("1-a.wav", 0.0, "low")]
    done = write_labels(bank.folder, tags)
    assert (done.written, done.kept) == (0, 2)
    assert sl.SoundBank.load(bank.folder).column("label").tolist() == before
    done = write_labels(bank.folder, tags, replace=True)
    assert (done.written, done.renamed, done.kept) == (2, 2, 0)
    done = write_labels(bank.folder, [Tag("0-a.wav", 0.0, "deep")])  # an ear's own label gives way to it
    assert (done.written, done.kept) == (1, 0)


def test_clips_of_a_long_file_have_lines_of_their_own(tmp_path):
    gap = np.zeros((1, RATE), np.float32)
    whole = np.concatenate([part for i in range(18) for part in (tone(150 + 100 * i).samples, gap)], axis=1)
    (tmp_path / "s").mkdir()
    write(tmp_path / "s" / "take.wav", Waveform(whole, RATE))
    bank = sl.scan(tmp_path / "s", tmp_path / "bank")
    tags = [Tag("take.wav", float(start), f"k{i % 2}") for i, start in enumerate(bank.column("start_s").tolist())]
    assert len(tags) > 10
    write_labels(bank.folder, tags)
    again = sl.scan(tmp_path / "s", tmp_path / "bank")
    assert again.column("label").tolist() == [tag.label for tag in tags]


def test_a_table_that_is_none_is_refused(bank):
    (bank.folder / "edits.csv").write_text("path,start_s\n0-a.wav,soon\n", encoding="utf-8")
    with pytest.raises(BankError, match="start_s is 'soon'"):
        write_labels(bank.folder, [Tag("0-a.wav", 0.0, "low")])


# The commands


def test_tag_says_what_files_are(bank, ear, tmp_path, capsys):
    out, _ = run(capsys, "tag", tmp_path / "sounds", "--json")
    rows = json.loads(out)
    assert len(rows) == 10
    assert all(set(row) == {"path", "label", "confidence", "pitch"} for row in rows)
    by_name = {Path(row["path"]).name: row for row in rows}
    assert [by_name[name]["label"] for name in ("0-a.wav", "0-b.wav", "0-c.wav")] == ["low", "high", None]
    assert by_name["0-a.wav"]["pitch"] == pytest.approx(45, abs=0.5)
    out, _ = run(capsys, "tag", tmp_path / "sounds" / "0-a.wav", tmp_path / "sounds" / "0-c.wav")
    assert out.splitlines()[1].split()[1:] == ["low", "100%", "A2"]
    assert out.splitlines()[2].split()[1] == "–"


def test_tag_goes_on_past_what_it_cannot_read(ear, tmp_path, capsys):
    write(tmp_path / "a.wav", tone(200))
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    out, err = run(capsys, "tag", tmp_path / "a.wav", tmp_path / "b.wav", "--json")
    assert len(json.loads(out)) == 1
    assert "left out" in err
    assert "b.wav" in err
    out, err = run(capsys, "tag", tmp_path / "b.wav", "--json", code=1)
    assert out == ""
    assert err.startswith("error: no sound can be read: ")


def test_tag_listens_with_a_trained_run(bank, monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(ears.Ear, "load", lambda folder, **_: asked.append(folder) or FakeEar())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    out, _ = run(capsys, "tag", tmp_path / "run", bank.folder, "--json")
    assert asked == [tmp_path / "run"]
    assert len(json.loads(out)) == 10


def test_tag_refuses_another_family_and_nothing_to_tag(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert "nothing to tag" in run(capsys, "tag", tmp_path / "run", code=1)[1]
    write(tmp_path / "a.wav", tone(200))
    assert run(capsys, "tag", tmp_path / "run", tmp_path / "a.wav", code=1)[1].startswith("error: ")
    assert "nothing to tag" in run(capsys, "tag", code=1)[1]


def test_tag_writes_into_banks_only(bank, ear, tmp_path, capsys):
    assert "is none" in run(capsys, "tag", tmp_path / "sounds", "--write", code=1)[1]
    out, _ = run(capsys, "tag", bank.folder, "--write")
    assert "8 labels written" in out
    assert "2 unknown" in out
    assert "after the next scan" in out
    assert len(edits(bank.folder)) == 8
    assert sl.SoundBank.load(bank.folder).labels == ("high", "low")
    assert "8 labels written" in run(capsys, "tag", bank.folder, "--write")[0]
    assert len(edits(bank.folder)) == 8


def test_similar_finds_the_neighbours_and_not_the_sound_itself(bank, ear, tmp_path, capsys):
    out, _ = run(capsys, "similar", tmp_path / "sounds" / "1-a.wav", bank.folder, "-n", "3", "--json")
    found = json.loads(out)["sounds"]
    assert {row["path"] for row in found} == {"0-a.wav", "2-a.wav", "3-a.wav"}
    assert [row["similarity"] for row in found] == sorted((row["similarity"] for row in found), reverse=True)
    out, _ = run(capsys, "similar", tmp_path / "sounds" / "1-b.wav", bank.folder)
    assert len(out.splitlines()) == 9  # as many as there are besides itself


@pytest.mark.parametrize(
    "sound", [tone(3100, channels=2, rate=48000), tone(3100, seconds=0.02), tone(3100, seconds=30, decay=0.1)]
)
def test_similar_to_any_sound(bank, ear, tmp_path, capsys, sound):
    write(tmp_path / "asked.wav", sound)
    out, _ = run(capsys, "similar", tmp_path / "asked.wav", bank.folder, "-n", "2", "--json")
    assert {row["path"][2:] for row in json.loads(out)["sounds"]} == {"b.wav"}


def test_similar_refuses_what_means_nothing(bank, ear, tmp_path, capsys):
    write(tmp_path / "silent.wav", Waveform(np.zeros((1, RATE), np.float32), RATE))
    asked = tmp_path / "sounds" / "0-a.wav"
    assert "silent" in run(capsys, "similar", tmp_path / "silent.wav", bank.folder, code=1)[1]
    assert "ask for 1 or more" in run(capsys, "similar", asked, bank.folder, "-n", "0", code=1)[1]
    assert "not a bank" in run(capsys, "similar", asked, tmp_path, code=1)[1]
    (tmp_path / "two").mkdir()
    for i in range(2):
        write(tmp_path / "two" / f"{i}.wav", tone(200 + 90 * i))
    sl.scan(tmp_path / "two", tmp_path / "small")
    assert "2 sounds" in run(capsys, "similar", asked, tmp_path / "small", code=1)[1]
    ear.broken = {round(bank.column("seconds")[0], 3)}
    assert "could not place" in run(capsys, "similar", asked, bank.folder, code=1)[1]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_map_is_kept_beside_the_bank(bank, ear, capsys, method):
    out, _ = run(capsys, "map", bank.folder, "--method", method, "--json")
    assert {path.name for path in bank.folder.glob("map.*")} == {"map.html", "map.json", "map.svg"}
    kept = json.loads((bank.folder / "map.json").read_text("utf-8"))
    assert kept["sounds"] == json.loads(out)["sounds"]
    assert kept["method"] == method
    assert {"id", "path", "label", "x", "y", "z", "u", "v"} <= set(kept["sounds"][0])
    page = (bank.folder / "map.html").read_text("utf-8")
    assert page.count("<circle") == 10
    assert "data:audio/mpeg" in page


def test_map_leaves_out_what_has_no_place(bank, ear, capsys, tmp_path):
    write(tmp_path / "sounds" / "<b>&.wav", tone(700, seconds=1.25, decay=1))
    more = sl.scan(tmp_path / "sounds", bank.folder, label_from="(none)?")
    ear.broken = {round(float(more.column("seconds").max()), 3)}
    out, _ = run(capsys, "map", bank.folder)
    assert "10 sounds on the map; 1 could not be placed" in out
    assert json.loads((bank.folder / "map.json").read_text("utf-8"))["unplaced"] == ["<b>&.wav"]
    assert "<b>&.wav" not in (bank.folder / "map.html").read_text("utf-8")


def test_map_of_two_sounds_is_refused(ear, tmp_path, capsys):
    (tmp_path / "two").mkdir()
    for i in range(2):
        write(tmp_path / "two" / f"{i}.wav", tone(200 + 90 * i))
    sl.scan(tmp_path / "two", tmp_path / "small")
    assert "2 sounds that can be placed" in run(capsys, "map", tmp_path / "small", code=1)[1]


def test_describe_says_a_sound_in_words_and_figures(ear, tmp_path, capsys):
    write(tmp_path / "kick.wav", tone(55, seconds=0.3, decay=30))
    out, _ = run(capsys, "describe", tmp_path / "kick.wav")
    assert out == "short dark low, A1, sharp attack, 0.26 s\n"
    document = json.loads(run(capsys, "describe", tmp_path / "kick.wav", "--json")[0])
    assert document["label"] == "low"
    assert document["note"] == "A1"
    assert document["tempo"] is None


def test_describe_says_where_it_stopped_listening(ear, tmp_path, capsys, monkeypatch):
    assert describing.LONGEST_S == 600
    monkeypatch.setattr(describing, "LONGEST_S", 120.0)
    t = np.arange(132 * 8000) / 8000
    long = Waveform((0.5 * np.sin(2 * np.pi * 220 * t) * (t % 1 < 0.5))[None].astype(np.float32), 8000)
    write(tmp_path / "long.flac", long)
    out, err = run(capsys, "describe", tmp_path / "long.flac", "--json")
    assert err.splitlines()[-1] == "only the first 2 minutes of 2.2 were heard"
    document = json.loads(out)
    assert (document["file_seconds"], document["heard_seconds"]) == (132, 120)
    assert document["seconds"] == pytest.approx(120, abs=1)


def test_describe_refuses_silence(ear, tmp_path, capsys):
    write(tmp_path / "silent.wav", Waveform(np.zeros((1, RATE), np.float32), RATE))
    assert "silent" in run(capsys, "describe", tmp_path / "silent.wav", code=1)[1]
