"""A folder becomes a bank: what is measured, named, grouped and split is right, and batches are cut where they say."""

import csv
from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import soxr
import torch

from soundloom import audio, naming
from soundloom.audio import Waveform
from soundloom.bank import BatchSpec, SoundBank
from soundloom.errors import BankError
from soundloom.score import NAMES

RATE = 16000


def note(pitch: float, seconds: float = 0.5, *, seed: int = 0, decay: float = 3.0) -> np.ndarray:
    """Ten partials, decaying, with phases of their own: two notes are never the same sound."""
    hz, t = 440 * 2 ** ((pitch - 69) / 12), np.arange(round(seconds * RATE)) / RATE
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 10)
    partials = [np.sin(2 * np.pi * hz * k * t + phases[k - 1]) / k for k in range(1, 11) if hz * k < RATE / 2]
    return (0.3 * np.exp(-decay * t) * np.sum(partials, axis=0)).astype(np.float32)


def noise(seconds: float = 0.2, *, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.exp(-20 * t) * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


def save(path, x, rate=RATE, subtype="FLOAT"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate, subtype=subtype)
    return path


def rows(bank):
    return {path: i for i, path in enumerate(bank.column("path"))}


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """Notes from C3 to B4 in two layers, named an octave too low."""
    folder = tmp_path_factory.mktemp("notes")
    for i, pitch in enumerate(range(48, 72)):
        for layer, seed in (("FF", 0), ("PP", 1)):
            name = f"{layer} {NAMES[pitch % 12]}{pitch // 12 - 2}.wav"
            save(folder / "in" / name, note(pitch, seed=2 * i + seed))
    return SoundBank.scan(folder / "in", folder / "bank")


def test_a_fixed_interval_between_names_and_sounds_is_found(notes):
    assert notes.kind == "notes"
    assert notes.name_pitch_offset_semitones == 12
    sounding = notes.column("name_pitch") + 12
    assert np.abs(notes.column("pitch") - sounding).max() < 0.3
    page = notes.report().read_text()
    assert "+12 semitones (+1 octaves) from the notes in their names. The measured pitch is used." in page
    row = rows(notes)
    assert notes.column("velocity")[row["FF C2.wav"]] == 7 / 8
    assert notes.column("velocity")[row["PP C2.wav"]] == 2 / 8
    assert notes.labels == ()  # a layer is a velocity and no label


def test_the_columns_are_those_that_scripts_rely_on(notes):
    names = pyarrow.parquet.read_schema(notes.folder / "bank.parquet").names
    promised = """path start_s seconds hash split reason label pitch pitch_confidence velocity loudness_lufs
        brightness_hz noisiness attack_s decay_s caption duplicate_of sample_rate channels inharmonicity gain_db
        onset_s"""
    assert set(promised.split()) <= set(names)


def test_octave_errors_are_put_right_by_the_names():
    measured = np.array([60.1, 72.0, 48.2, 79.05, 61.4, np.nan])
    factor = naming.correction(measured, np.full(6, 60.0))
    np.testing.assert_allclose(factor, [1, 1 / 2, 2, 1 / 3, 1, 1])


def test_notes_in_names_are_found_only_where_the_sounds_bear_them_out():
    pitches = np.array([34.0, 45.0, 57.0, 61.0, 70.0, 71.0])
    for names, rule in [
        (["p-A#-1", "p-A0", "p-A1", "p-C#2", "p-A#2", "p-B2"], "the last note name"),
        (["x-Bb1", "x-A2", "x-A3", "x-Db4", "x-Bb4", "x-B4"], "the last note name, dashes apart"),
        (["n_034_1", "n_045_2", "n_057_3", "n_061_4", "n_070_5", "n_071_6"], "the first number as a MIDI number"),
        (["PianoAs1", "PianoA2", "PianoA3", "PianoCs4", "PianoAs4", "PianoB4"], "the last note name"),
    ]:
        found = naming.find_pitches([f"{name}.wav" for name in names], pitches)
        assert found is not None
        assert found.offset in (0, 12, 24)
        assert found.rule == rule or names[0].startswith("x")
    assert naming.find_pitches([f"kick E{i}.wav" for i in range(6)], np.array([50, 48, 60, 63, 51, 55.0])) is None
    assert naming.find_pitches([f"take 10{i}.wav" for i in range(6)], np.array([50, 48, 60, 63, 51, 55.0])) is None


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["a pp", "a ff", "b pp", "b ff"], [2 / 8, 7 / 8, 2 / 8, 7 / 8]),
        (["a_soft", "a_hard", "b_medium"], [0.3, 0.9, 0.6]),
        (["a_v127", "a_v64", "b_v127", "b_v64"], [1, 64 / 127, 1, 64 / 127]),
        (["a v1", "a v4", "b v1", "b v4"], [0.25, 1, 0.25, 1]),
        (["a 1", "a 2", "b 1", "b 2"], None),
        (["bass_f", "bass", "kick", "snare"], None),
    ],
)
def test_velocities_in_names(names, values):
    found = naming.find_velocities([f"{name}.wav" for name in names], None)
    assert (found is None) == (values is None)
    if found is not None:
        np.testing.assert_allclose(found.velocity, values)


def test_labels_by_the_rule_that_fits_and_by_any_that_is_asked_for():
    flat = ["kick1.wav", "kick2.wav", "snare_a.wav", "snare_b.wav", "hat-01.wav", "hat-02.wav"]
    assert naming.find_labels(flat) == ("name: word 1", ["kick", "kick", "snare", "snare", "hat", "hat"])
    assert naming.find_labels(["808 kick 1.wav", "808 kick 2.wav", "808 hat 1.wav", "808 hat 2.wav"])[0].endswith("2")
    nested = ["pack/808/kick.wav", "pack/808/hat.wav", "pack/909/kick.wav", "pack/909/hat.wav"]
    assert naming.find_labels(nested) == ("folder", ["808", "808", "909", "909"])
    assert naming.find_labels(nested, label_from="name")[1] == ["kick", "hat", "kick", "hat"]
    assert naming.find_labels(nested, label_from=r"/(\d)\d\d/")[1] == ["8", "8", "9", "9"]
    assert naming.find_labels(["a.wav", "b.wav", "c.wav"]) == ("none", [None] * 3)
    with pytest.raises(BankError, match=r"matches none of the 4 names, as 'pack/808/kick\.wav'"):
        naming.find_labels(nested, label_from="x(y)")
    with pytest.raises(BankError, match="regular expression"):
        naming.find_labels(nested, label_from="(")


def test_the_gain_can_be_undone_and_rumble_is_gone(tmp_path):
    x = 0.1 * note(60, 1.0, decay=1)
    t = np.arange(len(x)) / RATE
    rumbling = x + 0.05 + 0.02 * np.sin(2 * np.pi * 2 * t)
    lead = np.full(RATE // 4, 0.05)
    save(tmp_path / "in" / "a.wav", np.concatenate([lead, rumbling, np.zeros(RATE // 4) + 0.05]).astype(np.float32))
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    heard = bank.audio(0)
    assert np.abs(heard.samples).max() == pytest.approx(1, abs=1e-4)
    original = heard.samples[0] * 10 ** (bank.column("gain_db")[0] / 20)
    begin = round(bank.column("onset_s")[0] * RATE)
    lag = np.argmax(np.correlate(original[:4000], x[:2000], "full")) - 1999
    assert abs(lag - begin) <= 0.003 * RATE
    cut = original[lag : lag + 8000]
    below = [np.abs(np.fft.rfft(y[:8000] * np.hanning(8000)))[:3].max() for y in (cut, rumbling)]  # up to 4 Hz
    assert 20 * np.log10(below[0] / below[1]) < -27
    np.testing.assert_allclose(np.sqrt(np.mean(cut**2)), np.sqrt(np.mean(x[:8000] ** 2)), rtol=0.02)


@pytest.mark.parametrize("lead_s", [0.0, 0.0004, 0.3])
def test_clips_begin_a_millisecond_before_their_onset(tmp_path, lead_s):
    lead = np.random.default_rng(1).normal(0, 1e-4, round(lead_s * RATE))
    save(tmp_path / "in" / "a.wav", np.concatenate([lead, noise(), np.zeros(RATE)]).astype(np.float32))
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    heard = np.abs(bank.audio(0).samples[0])
    assert bank.column("onset_s")[0] == pytest.approx(0.001, abs=1e-4)
    assert np.argmax(heard > 0.03) / RATE == pytest.approx(0.001, abs=0.001)
    assert 0.1 < bank.column("seconds")[0] < 0.25  # the dead end is gone


def test_the_same_sound_in_other_clothes_is_found_and_never_straddles_the_split(tmp_path):
    for i in range(20):
        save(tmp_path / "in" / f"n{i:02}.wav", note(50 + i, seed=i))
        save(tmp_path / "in" / f"x{i:02}.wav", noise(0.3, seed=100 + i))
    copies = {}
    for i in range(0, 20, 2):
        x = note(50 + i, seed=i)
        copies[f"copies/{i} same.wav"] = save(tmp_path / "in" / f"copies/{i} same.wav", x, subtype="FLOAT")
        copies[f"copies/{i} quiet.wav"] = save(tmp_path / "in" / f"copies/{i} quiet.wav", 0.1 * x, subtype="PCM_16")
        late = np.concatenate([np.zeros(2000), x, np.zeros(5000)])
        copies[f"copies/{i} late.flac"] = save(tmp_path / "in" / f"copies/{i} late.flac", late, subtype="PCM_16")
        audio.write(tmp_path / "in" / f"copies/{i} lossy.ogg", Waveform(x[None], RATE))
        fast = soxr.resample(x, RATE, 22050)
        copies[f"copies/{i} fast.wav"] = save(tmp_path / "in" / f"copies/{i} fast.wav", fast, 22050)
        copies[f"copies/{i} lossy.ogg"] = None
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    row, group, split = rows(bank), bank.column("group"), bank.column("split")
    for name in copies:
        original = f"n{int(name.split('/')[1].split()[0]):02}.wav"
        assert group[row[name]] == group[row[original]], name
    alone = [row[f"{kind}{i:02}.wav"] for kind in "nx" for i in range(20)]
    assert len(set(group[alone])) == 40  # neighbouring notes and other noise are not the same
    assert all(len(set(split[group == one])) == 1 for one in set(group))
    assert {path for path in bank.column("duplicate_of") if path} <= set(bank.column("path"))


def test_the_split_goes_by_content_not_by_name(tmp_path):
    for i in range(60):
        save(tmp_path / "in" / f"{i}.wav", noise(0.05, seed=i))
        save(tmp_path / "other" / f"{99 - i} renamed.wav", noise(0.05, seed=i))
    first = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    second = SoundBank.scan(tmp_path / "other", tmp_path / "bank2")
    assert dict(zip(first.column("hash"), first.column("split"), strict=True)) == dict(
        zip(second.column("hash"), second.column("split"), strict=True)
    )
    counts = Counter(first.column("split"))
    assert 38 <= counts["train"] <= 56
    assert counts["validation"] >= 1 <= counts["test"]


def test_ten_sounds_hold_one_back(tmp_path):
    for i in range(10):
        save(tmp_path / "in" / f"{i}.wav", noise(0.05, seed=1000 + i))
    counts = Counter(SoundBank.scan(tmp_path / "in", tmp_path / "bank").column("split"))
    assert set(counts) == {"train", "validation", "test"}
    assert counts["train"] >= 5


def test_a_person_says_labels_splits_and_corrections_and_they_last(tmp_path):
    for i, name in enumerate(("low", "mid", "high")):
        save(tmp_path / "in" / f"{name}.wav", note(45 + 12 * i, seed=i))
    (tmp_path / "labels.csv").write_text("path,label\nlow.wav,bass\nhigh.wav,lead\n")
    (tmp_path / "split.csv").write_text("path,split\nmid.wav,test\n")
    options = {"labels": tmp_path / "labels.csv", "split": tmp_path / "split.csv"}
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank", **options)
    row = rows(bank)
    assert bank.labels == ("bass", "lead")
    assert bank.label_rule == "labels.csv (2 of 3 clips)"
    assert list(bank.column("label")[[row["low.wav"], row["mid.wav"], row["high.wav"]]]) == ["bass", None, "lead"]
    assert bank.column("split")[row["mid.wav"]] == "test"
    f0_before = bank.f0(row["low.wav"])[0]

    with open(tmp_path / "bank" / "edits.csv", "a", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["low.wav", "", "sub", "A1", "0.25", "validation", ""])
        writer.writerow(["mid.wav", "0.0", "", "none", "", "", ""])
        writer.writerow(["high.wav", "", "", "", "", "", "yes"])
    for _ in range(2):  # a new scan keeps them
        bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank", **options)
        row = rows(bank)
        low = row["low.wav"]
        assert (bank.column("label")[low], bank.column("pitch")[low]) == ("sub", 33)
        assert (bank.column("velocity")[low], bank.column("split")[low]) == (0.25, "validation")
        assert "A1" in bank.column("caption")[low]
        np.testing.assert_allclose(bank.f0(low)[0], f0_before / 2)  # A2 was measured
        assert np.isnan(bank.column("pitch")[row["mid.wav"]])
        assert not bank.f0(row["mid.wav"])[0].any()
        assert bank.left_out == (("high.wav", "left out by edits.csv"),)
    (tmp_path / "bank" / "edits.csv").unlink()
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank", **options)  # nothing was lost of what was measured
    assert bank.column("pitch")[rows(bank)["low.wav"]] == pytest.approx(45, abs=0.2)
    assert len(bank) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,colour\na.wav,red\n", "unknown column 'colour'"),
        ("path,split\na.wav,training\n", "the split is 'training'"),
        ("path,pitch\na.wav,H4\n", "'H4' is no pitch"),
        ("path,velocity\na.wav,loud\n", "velocity are numbers"),
        ("path,velocity\na.wav,80\n", "it goes from 0 to 1"),
        ("path,label\na,b.wav,x\n", "more values than columns"),
    ],
)
def test_corrections_that_cannot_be_read_are_refused(tmp_path, text, words):
    save(tmp_path / "in" / "a.wav", noise())
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "edits.csv").write_text(text)
    with pytest.raises(BankError, match=words):
        SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert (tmp_path / "bank" / "edits.csv").read_text() == text


def test_tables_that_name_no_file_are_refused(tmp_path):
    save(tmp_path / "in" / "a.wav", noise())
    (tmp_path / "labels.csv").write_text("path,label\nb.wav,x\n")
    with pytest.raises(BankError, match=r"names none of the 1 files: write their paths, as 'a\.wav'"):
        SoundBank.scan(tmp_path / "in", tmp_path / "bank", labels=tmp_path / "labels.csv")
    with pytest.raises(BankError, match="No such file"):
        SoundBank.scan(tmp_path / "in", tmp_path / "bank", labels=tmp_path / "nowhere.csv")


def test_scanning_again_reads_only_what_changed(tmp_path, monkeypatch):
    for i in range(6):
        save(tmp_path / "in" / f"{i}.wav", noise(seed=i))
    save(tmp_path / "in" / "silent.wav", noise() * 0)
    read = []
    real = audio.blocks
    monkeypatch.setattr(audio, "blocks", lambda path, **more: (read.append(path.name), real(path, **more))[1])
    first = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert len(read) == 7
    before = {first.column("path")[i]: first.audio(i).samples for i in range(6)}

    read.clear()
    (tmp_path / "in" / "0.wav").touch()
    (tmp_path / "in" / "1.wav").rename(tmp_path / "in" / "renamed.wav")
    (tmp_path / "in" / "2.wav").unlink()
    save(tmp_path / "in" / "3.wav", noise(seed=77))
    save(tmp_path / "in" / "new.wav", noise(seed=78))
    again = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert sorted(read) == ["3.wav", "new.wav"]
    row = rows(again)
    assert set(row) == {"0.wav", "renamed.wav", "3.wav", "4.wav", "5.wav", "new.wav"}
    for name, old in [("0.wav", "0.wav"), ("renamed.wav", "1.wav"), ("4.wav", "4.wav")]:
        np.testing.assert_array_equal(again.audio(row[name]).samples, before[old])
    assert not np.array_equal(again.audio(row["3.wav"]).samples, before["3.wav"])
    assert dict(again.left_out).keys() == {"silent.wav"}


def test_a_higher_rate_among_the_files_makes_the_bank_anew(tmp_path):
    save(tmp_path / "in" / "a.wav", noise(), 8000)
    assert SoundBank.scan(tmp_path / "in", tmp_path / "bank").sample_rate == 8000
    save(tmp_path / "in" / "b.wav", noise(seed=1), 22050)
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert (bank.sample_rate, len(bank)) == (22050, 2)
    assert len(list((tmp_path / "bank").glob("*.i16"))) == 1
    save(tmp_path / "in" / "c.wav", noise(seed=2), 96000)
    assert SoundBank.scan(tmp_path / "in", tmp_path / "bank").sample_rate == 44100


def test_stereo_is_kept_where_it_is_asked_for(tmp_path):
    both = np.stack([note(57), 0.5 * note(64)], axis=1)
    save(tmp_path / "in" / "a.wav", both)
    save(tmp_path / "in" / "b.wav", note(60))
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank", channels=2)
    assert bank.audio(0).channels == 2
    spectrum = np.abs(np.fft.rfft(bank.audio(0).samples[:, :4000] * np.hanning(4000), RATE))
    np.testing.assert_allclose(spectrum.argmax(axis=1), [220, 329.6], atol=2)
    batch = bank.take(BatchSpec(2, 4000, 128, "start"), [0, 1])
    assert batch.audio.shape == (2, 2, 4000)
    torch.testing.assert_close(batch.audio[1, 0], batch.audio[1, 1])
    with pytest.raises(BankError, match="1 or 2 channels, not 3"):
        SoundBank.scan(tmp_path / "in", tmp_path / "bank", channels=3)


def test_a_session_is_cut_at_its_onsets(tmp_path):
    gaps = np.random.default_rng(3).uniform(0.4, 2.0, 24)
    starts, parts, at = [], [], 0.0
    for i, gap in enumerate(gaps):
        starts.append(at)
        parts += [note(50 + i, 0.8, seed=i, decay=8), np.zeros(round(gap * RATE))]
        at = sum(map(len, parts)) / RATE
    save(tmp_path / "in" / "session.wav", np.concatenate(parts).astype(np.float32))
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert list(bank.column("cut")) == ["onset"] * 24
    np.testing.assert_allclose(bank.column("start_s"), starts, atol=0.016)
    np.testing.assert_allclose(bank.column("pitch"), 50 + np.arange(24), atol=0.3)
    assert bank.kind == "notes"
    assert "at onsets" in bank.report().read_text()


def test_long_audio_is_cut_into_pieces_that_never_share_audio_across_the_split(tmp_path):
    seconds = 240
    x = 0.1 * np.random.default_rng(0).standard_normal(seconds * 8000)
    save(tmp_path / "in" / "rain.wav", x.astype(np.float32), 8000)
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert bank.kind == "long"
    assert set(bank.column("cut")) == {"piece"}
    owner = np.full(seconds * 8000, "", dtype=object)
    for start_s, length, split in zip(
        bank.column("start_s"), bank.column("seconds"), bank.column("split"), strict=True
    ):
        part = slice(round(start_s * 8000), round((start_s + length) * 8000))
        assert set(owner[part]) <= {"", split}
        owner[part] = split
    assert (owner != "").all()  # nothing is lost
    assert set(owner) == {"train", "validation", "test"}


def test_a_piece_of_long_audio_is_where_it_says(tmp_path):
    t = np.arange(60 * 8000) / 8000
    chirp = 0.5 * np.sin(2 * np.pi * (200 * t + 5 * t**2))  # 200 Hz + 10 Hz a second
    save(tmp_path / "in" / "sweep.wav", chirp.astype(np.float32), 8000)
    save(tmp_path / "in" / "fast.wav", noise(), 11025)  # so that the sweep is resampled, block by block
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    long = [i for i in range(len(bank)) if bank.column("path")[i] == "sweep.wav"]
    for clip in long:
        middle = bank.audio(clip).samples[0][11025 : 11025 + 2048] * np.hanning(2048)
        hz = np.argmax(np.abs(np.fft.rfft(middle, 11025 * 4))) / 4
        assert hz == pytest.approx(200 + 10 * (bank.column("start_s")[clip] + 1 + 1024 / 11025), abs=2)


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """Sines that do not decay, so that pitch and level can be read anywhere."""
    folder = tmp_path_factory.mktemp("steady")
    t = np.arange(2 * 44100) / 44100
    for i, hz in enumerate((200.0, 331.0, 550.0, 911.0, 1400.0, 2300.0)):
        save(folder / "in" / f"{'low' if i < 3 else 'high'}_{i}.wav", (0.4 * np.sin(2 * np.pi * hz * t)), 44100)
    return SoundBank.scan(folder / "in", folder / "bank")


def test_a_drawn_batch_is_a_pure_function_of_the_generator(steady):
    spec = BatchSpec(5, 20000, 512, "random", semitones=3.0, gain_db=6.0)
    one = steady.draw(spec, split="train", generator=torch.Generator().manual_seed(7))
    torch.rand(3)
    two = steady.draw(spec, split="train", generator=torch.Generator().manual_seed(7))
    other = steady.draw(spec, split="train", generator=torch.Generator().manual_seed(8))
    torch.testing.assert_close(one.audio, two.audio, rtol=0, atol=0)
    torch.testing.assert_close(one.f0_hz, two.f0_hz, rtol=0, atol=0)
    assert not torch.equal(one.audio, other.audio)
    assert one.audio.shape == (5, 1, 20000)
    assert one.f0_hz.shape == one.voiced.shape == (5, 1, 40)
    assert one.audio.dtype == one.f0_hz.dtype == torch.float32
    assert len(one) == len(one.condition) == 5


def test_a_pitch_shift_is_heard_and_known(steady):
    spec = BatchSpec(24, 32768, 512, "random", semitones=4.0, gain_db=12.0)
    batch = steady.draw(spec, split="train", generator=torch.Generator().manual_seed(1))
    spectrum = torch.fft.rfft(batch.audio[:, 0] * torch.hann_window(32768), 2**19).abs()
    heard = spectrum.argmax(1) * 44100 / 2**19
    base = 440 * 2 ** ((torch.from_numpy(steady.column("pitch"))[batch.clips] - 69) / 12)
    shift = 12 * torch.log2(heard / base)
    assert shift.abs().max() < 4.1
    assert shift.std() > 1.5
    cents = 1200 * torch.log2(heard[:, None] / batch.f0_hz[:, 0, 5:-5])
    assert cents.abs().max() < 5
    assert (100 * (69 + 12 * torch.log2(heard / 440) - batch.condition.pitch)).abs().max() < 5
    level = 20 * torch.log10(batch.audio.abs().amax((1, 2)))
    assert -12.1 < level.min() < -6
    assert 6 < level.max() < 12.2
    # What is not the tone: interpolation leaves 60 dB and more below it.
    away = (torch.arange(spectrum.shape[1]) * 44100 / 2**19 - heard[:, None]).abs() > 30
    assert (20 * torch.log10((spectrum * away).amax(1) / spectrum.amax(1))).max() < -60


def test_shifting_up_does_not_fold_the_highest_partials(tmp_path):
    t = np.arange(44100) / 44100
    save(tmp_path / "in" / "whistle.wav", 0.5 * np.sin(2 * np.pi * 19500 * t), 44100)
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    spec = BatchSpec(30, 16384, 512, "random", semitones=5.0)
    batch = bank.draw(spec, split="train", generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft(batch.audio[:, 0, 2000:-2000] * torch.hann_window(12384)).abs()
    top = spectrum.argmax(1) * 44100 / 12384
    for hz, loudest in zip(top.tolist(), spectrum.amax(1).tolist(), strict=True):
        if hz < 19400 / 1.35:  # lower than any downward shift: it was folded
            assert loudest < 0.02 * 12384 / 4


def test_taken_clips_are_as_they_are(steady):
    batch = steady.take(BatchSpec(1, 100000, 512, "random", semitones=5.0, gain_db=6.0), [2, 0])
    for b, clip in enumerate((2, 0)):
        heard = steady.audio(clip).samples
        n = heard.shape[1]
        assert batch.lengths[b] == n
        np.testing.assert_allclose(batch.audio[b, :, :n].numpy(), heard, atol=1e-6)
        assert not batch.audio[b, :, n:].any()
        f0_hz, voiced = steady.f0(clip)
        np.testing.assert_allclose(batch.f0_hz[b, 0, : len(f0_hz)], f0_hz, rtol=1e-5)
        np.testing.assert_allclose(batch.voiced[b, 0, : len(voiced)], voiced)
        assert not batch.f0_hz[b, 0, len(f0_hz) :].any()
    assert batch.condition.label.tolist() == [steady.labels.index("low")] * 2 or steady.labels
    with pytest.raises(BankError, match="the bank has 0 to 5"):
        steady.take(BatchSpec(1, 100, 512, "start"), [6])


def test_crops_come_from_all_over_a_clip_and_a_quarter_from_its_start(tmp_path):
    t = np.arange(4 * 8000) / 8000
    save(tmp_path / "in" / "ramp.wav", 0.5 * np.sin(2 * np.pi * (100 * t + 100 * t**2)), 8000)  # pitch tells the place
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    spec = BatchSpec(400, 800, 128, "random")
    crops = bank.draw(spec, split="train", generator=torch.Generator().manual_seed(0)).audio[:, 0]
    hz = torch.fft.rfft(crops * torch.hann_window(800), 8000).abs().argmax(1)
    start_s = (hz - 100) / 200 - 0.05
    assert (start_s < 0.02).float().mean() == pytest.approx(0.25, abs=0.06)
    counts = torch.histc(start_s[start_s >= 0.02].float(), 5, 0, 3.9)
    assert counts.min() > 35
    first = bank.draw(BatchSpec(20, 800, 128, "start"), split="train", generator=torch.Generator().manual_seed(0)).audio
    assert (first == first[0]).all()


def test_rare_labels_are_heard_more_often_than_they_occur(tmp_path):
    for i in range(17):
        save(tmp_path / "in" / ("rare" if i == 0 else "often") / f"{i}.wav", noise(seed=i))
    (tmp_path / "split.csv").write_text(
        "path,split\n" + "".join(f"{'rare' if i == 0 else 'often'}/{i}.wav,train\n" for i in range(17))
    )
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank", split=tmp_path / "split.csv")
    spec = BatchSpec(2000, 64, 64, "start")
    batch = bank.draw(spec, split="train", generator=torch.Generator().manual_seed(0))
    rare = (batch.condition.label == bank.labels.index("rare")).float().mean()
    assert rare == pytest.approx(0.2, abs=0.03)  # 1 : sqrt(16)
    with pytest.raises(BankError, match="no clips in the split 'validation'"):
        bank.draw(spec, split="validation", generator=torch.Generator())


def test_unknown_columns_are_refused_with_a_hint(steady):
    with pytest.raises(BankError, match="did you mean loudness_lufs"):
        steady.column("loudness")


def test_the_piano(sounds, tmp_path):
    bank = SoundBank.scan(sounds / "piano", tmp_path / "bank")
    assert bank.kind == "notes"
    assert bank.name_pitch_offset_semitones == 12
    assert len(bank) == 105
    away = np.abs(bank.column("pitch") - bank.column("name_pitch") - 12)
    assert np.mean(away < 0.6) > 0.97
    assert set(bank.column("velocity")) == {2 / 8, 7 / 8}
    assert not any(bank.column("duplicate_of"))
    # Within a clip the string is not retuned: the track stays at its note.
    for clip in range(0, 105, 8):
        f0_hz, _ = bank.f0(clip)
        found = f0_hz[f0_hz > 0]
        if len(found):
            cents = 1200 * np.log2(found / (440 * 2 ** ((bank.column("pitch")[clip] - 69) / 12)))
            assert np.mean(np.abs(cents) < 60) > 0.9


def test_drum_machines_and_one_shots(sounds, tmp_path):
    drums = SoundBank.scan(sounds / "drum-machines", tmp_path / "drums")
    assert (drums.kind, len(drums), drums.label_rule, len(drums.labels)) == ("one-shots", 112, "folder", 9)
    assert drums.sample_rate == 44100
    by_name = SoundBank.scan(sounds / "drum-machines", tmp_path / "drums", label_from="name")
    assert {"kick", "snare", "clap"} <= set(by_name.labels)
    shots = SoundBank.scan(sounds / "one-shots", tmp_path / "shots")
    assert (shots.kind, len(shots), shots.label_rule) == ("one-shots", 150, "name: word 1")
    assert {"bd", "sn", "hat", "tabla", "loop"} <= set(shots.labels)
    assert {192000, 96000} & set(shots.column("sample_rate"))


def test_spoken_digits_keep_their_rate(sounds, tmp_path):
    few = tmp_path / "in"
    few.mkdir()
    for path in sorted((sounds / "spoken-digits").glob("*_1[0-4].wav")):
        (few / path.name).symlink_to(path)
    bank = SoundBank.scan(few, tmp_path / "bank")
    assert (bank.sample_rate, bank.kind) == (8000, "one-shots")
    assert bank.labels == tuple("0123456789")
    assert bank.name_pitch_offset_semitones is None
