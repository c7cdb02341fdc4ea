"""An evaluation as a whole: on models whose faults are known, and on what cannot be measured."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from soundloom.audio import Waveform, resample, write
from soundloom.bank import SoundBank
from soundloom.closeness import closeness, compare
from soundloom.distances import Estimate
from soundloom.ears import Heard
from soundloom.errors import BankError, ConfigError
from soundloom.evalpage import write_page
from soundloom.evaluate import Judges, evaluate
from soundloom.figures import Figure, Section, share_interval
from soundloom.material import gather
from soundloom.models.base import Classifies, Codes, Samples
from soundloom.recognition import Confusion, recognition

RATE = 16000
LABELS = ("bell", "bass", "hiss")
EACH = 60


def voice(label, *, pitch, random):
    """A quarter of a second of one of three kinds, each with a colour of its own."""
    t = np.arange(RATE // 4) / RATE
    if label == "hiss":
        sound = random.normal(size=len(t)) * np.exp(-t * random.uniform(5, 30))
    else:
        f0 = 440 * 2 ** ((pitch - 69) / 12)
        slope = random.uniform(0.5, 2.5)
        sound = sum(np.sin(2 * np.pi * f0 * k * t) / k**slope for k in range(1, 6)) * np.exp(-t * random.uniform(2, 8))
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32)


def pitch_of(label, random):
    return {"bell": random.uniform(72, 84), "bass": random.uniform(40, 52), "hiss": np.nan}[label]


def make_bank(folder: Path, *, labels=LABELS, each=EACH, seed=0) -> SoundBank:
    random = np.random.default_rng(seed)
    for label in labels:
        (folder / "sounds" / label).mkdir(parents=True)
        for i in range(each):
            sound = voice(label, pitch=pitch_of(label, random), random=random)
            write(folder / "sounds" / label / f"{label} take {i}.wav", Waveform(sound[None], RATE))
    return SoundBank.scan(folder / "sounds", folder / "bank", label_from="folder")


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> SoundBank:
    return make_bank(tmp_path_factory.mktemp("evaluate"))


class Bands:
    """An ear without training: levels in twelve bands and at four times."""

    name, labels, sample_rate = "bands", LABELS, RATE

    def embed(self, sounds):
        return np.array([self._place(sound) for sound in sounds], np.float32).reshape(len(sounds), 16)

    def hear(self, sounds, *, progress=None):
        heard = []
        for place in self.embed(sounds):
            level = np.array([place[6:9].mean(), place[:4].mean(), place[9:12].mean()])  # bell, bass, hiss
            chances = np.exp(level - level.max()) / np.exp(level - level.max()).sum()
            best = int(chances.argmax())
            heard.append(Heard(LABELS[best], float(chances[best]), None, 0.0, 0.0, tuple(chances), place))
        return heard

    def chances(self, sounds):
        return np.array([one.chances for one in self.hear(sounds)], np.float32).reshape(len(sounds), len(LABELS))

    def _place(self, sound):
        x = sound.samples[0]
        power = np.abs(np.fft.rfft(x, 4096)) ** 2
        edges = np.geomspace(60, 7000, 13) * 4096 / sound.sample_rate
        bands = [power[int(a) : int(b) + 1].sum() for a, b in pairwise(edges)]
        times = [(part**2).sum() for part in np.array_split(x, 4)]
        return np.log(np.array([*bands, *times]) * ([1 / 4096] * 12 + [1.0] * 4) + 1e-3)


class Model:
    """What a run is asked for, with `make(label, pitch, random)` as the model."""

    conditions = frozenset({"pitch", "label"})

    def __init__(self, make, folder, *, labels=LABELS):
        self.make, self.folder, self.labels = make, folder, labels
        self.family, self.sample_rate, self.model = "fake", RATE, self

    def sample(self, n, *, seconds, condition, generator):
        raise NotImplementedError

    def sample_as(self, condition, *, seed):
        random = np.random.default_rng(seed)
        sounds = []
        for label, pitch in zip(condition.label.tolist(), condition.pitch.tolist(), strict=True):
            made = self.make(self.labels[max(label, 0)], pitch, random)
            sounds.append(Waveform(np.asarray(made, np.float32)[None], RATE))
        return sounds


def good(label, pitch, random):
    return voice(label, pitch=pitch, random=random)


def run(make, bank, *, samples=120, ear=None, classifier=None, **settings):
    judges = Judges(ear=ear or Bands(), classifier=classifier)
    return evaluate(Model(make, bank.folder, **settings), bank, samples=samples, seed=1, judges=judges)


@pytest.fixture(scope="module")
def of_good(bank):
    return run(good, bank, classifier=Bands())


def test_the_fakes_are_what_they_stand_for(bank):
    assert isinstance(Model(good, bank.folder), Samples)
    assert not isinstance(Model(good, bank.folder), Codes | Classifies)
    assert len(bank) == 3 * EACH
    assert len(bank.clips("train")) >= 100


def test_a_perfect_model_is_as_good_as_real_sounds(of_good):
    assert of_good["distances"]["kernel_distance"].text == "indistinguishable at this size"
    assert "cannot be told" in of_good["distances"].words
    assert of_good["distances"]["frechet_distance"].value == pytest.approx(0, abs=0.05)
    for name in ("precision", "recall", "coverage"):
        figure = of_good["variety"][name]
        assert figure.value > 0.7
        assert figure.value == pytest.approx(figure.beside["held-out sounds"], abs=0.25)
    assert of_good["variety"]["different_bins"].value <= 0.3
    assert of_good["variety"]["spread"].value == pytest.approx(1, abs=0.25)
    assert "No sign" in of_good["honesty"].words
    assert of_good["obedience"]["asked_in_tune"].value > 0.9
    assert of_good["obedience"]["pitch_error_cents"].value < 10
    assert of_good["obedience"]["pitch_correlation"].value > 0.99
    assert of_good["obedience"]["label_accuracy"].value > 0.9
    assert of_good["judged"]["inception_score"].value == pytest.approx(
        of_good["judged"]["inception_score"].beside["training sounds"], rel=0.1
    )


def test_it_says_that_its_scores_are_not_those_of_papers(of_good):
    assert "not comparable with published" in of_good["distances"].words
    assert "bands" in of_good["distances"].words


def test_a_model_that_repeats_its_training_sounds_is_found_out(bank):
    train = bank.clips("train")

    def parrot(label, pitch, random):
        mine = [clip for clip in train if bank.column("label")[clip] == label]
        return bank.audio(int(random.choice(mine))).samples[0]

    found = run(parrot, bank)
    assert "repeats its training sounds" in found["honesty"].words
    assert found["honesty"]["copying_z"].value < -3
    assert found["honesty"]["near_share"].value == 1
    assert found["variety"]["precision"].value > 0.7  # all else looks fine: this is why the section is there
    assert found.pairs[0].distance == pytest.approx(0, abs=1e-4)
    pair = found.pairs[0]
    length = pair.made.samples.shape[1]
    assert np.allclose(pair.made.samples, pair.real.samples[:, :length], atol=1e-3)


def test_a_collapsed_model_lacks_variety_not_quality(bank):
    fixed = voice("bell", pitch=76, random=np.random.default_rng(5))
    found = run(lambda label, pitch, random: fixed, bank, classifier=Bands())
    variety = found["variety"]
    assert variety["recall"].value < 0.1
    assert variety["coverage"].value < 0.1
    assert variety["different_bins"].value > 0.5
    assert variety["spread"].value < 0.01
    assert found["judged"]["inception_score"].value == pytest.approx(1, abs=0.01)
    assert found["obedience"]["label_accuracy"].value < 0.5
    assert found["distances"]["kernel_distance"].low > 0


def test_a_model_that_makes_half_of_the_labels_is_precise_and_misses_regions(bank):
    def half(label, pitch, random):
        return voice("bell", pitch=76 if np.isnan(pitch) or pitch < 60 else pitch, random=random)

    variety = run(half, bank)["variety"]
    assert variety["recall"].value < 0.6
    assert variety["coverage"].value < 0.5
    assert variety["different_bins"].value > 0.4


def test_a_model_out_of_tune_is_heard(bank):
    off = run(lambda label, pitch, random: voice(label, pitch=pitch + 1, random=random), bank)["obedience"]
    assert off["pitch_error_cents"].value == pytest.approx(100, abs=15)
    assert off["asked_in_tune"].value < 0.1
    octave = run(lambda label, pitch, random: voice(label, pitch=pitch - 12, random=random), bank)["obedience"]
    assert octave["octave_errors"].value > 0.8


def test_distances_grow_with_the_noise_that_is_added(bank):
    def noisy(snr_db):
        def make(label, pitch, random):
            sound = voice(label, pitch=pitch, random=random)
            noise = random.normal(size=len(sound))
            return sound + noise * np.sqrt((sound**2).mean()) * 10 ** (-snr_db / 20)

        return run(make, bank, samples=60)["distances"]["kernel_distance"].value

    found = [noisy(snr) for snr in (60, 20, 0)]
    assert found == sorted(found)


def test_labels_are_asked_for_as_often_as_in_training_and_with_pitches_of_held_out_sounds(tmp_path):
    bank = make_bank(tmp_path, each=20)
    rows = ["path,split"]
    for path in bank.column("path"):
        i = int(path.removesuffix(".wav").split()[-1])
        held_out = i < {"bell": 2, "bass": 15, "hiss": 8}[path.split("/")[0]]
        rows.append(f"{path},{'test' if held_out else 'train'}")
    (tmp_path / "split.csv").write_text("\n".join(rows))
    bank = SoundBank.scan(tmp_path / "sounds", tmp_path / "bank", label_from="folder", split=tmp_path / "split.csv")
    found = gather(Model(good, bank.folder), bank, samples=70, seed=0, ear=Bands(), progress=None)
    assert {label: found.labels.count(label) for label in LABELS} == {"bell": 36, "bass": 10, "hiss": 24}
    of_bells = [pitch for pitch, label in zip(found.pitches, found.labels, strict=True) if label == "bell"]
    known = bank.column("pitch")[[clip for clip in bank.clips("test") if bank.column("label")[clip] == "bell"]]
    assert set(of_bells) == set(known)


def test_of_a_file_with_several_sounds_only_those_that_were_heard_count(bank):
    class Apart(Model):
        def encode(self, audio, **known):
            raise NotImplementedError

        decode = encode

    x = voice("bell", pitch=80, random=np.random.default_rng(0))
    sound, low = Waveform(x[None], RATE), Waveform(voice("bell", pitch=79, random=np.random.default_rng(0))[None], RATE)
    rows = [compare("all.wav", sound, made, pitched=pitched) for made, pitched in
            ((sound, True), (low, True), (sound, False))]  # fmt: skip
    figure = closeness(Apart(good, bank.folder), bank, rows, split="test")["in_tune"]
    assert figure.value == 0.5
    assert "2 pitched" in figure.help


def test_sounds_that_are_no_numbers_are_counted_and_silence_is_said(bank):
    def broken(label, pitch, random):
        sound = voice(label, pitch=pitch, random=random)
        chance = random.uniform()
        return sound * np.nan if chance < 0.1 else 0 * sound if chance < 0.3 else sound

    variety = run(broken, bank)["variety"]
    assert "no numbers" in variety.words
    assert "silent" in variety.words


def test_an_ear_that_hears_nan_leads_to_no_number(bank):
    class Deaf(Bands):
        def embed(self, sounds):
            return np.full((len(sounds), 16), np.nan, np.float32)

    found = run(good, bank, ear=Deaf())
    for name in ("distances", "variety", "honesty"):
        assert found[name].figures == ()
        assert "NaN" in found[name].why_not
    assert "NaN" in found["obedience"].why_not
    assert found["obedience"]["pitch_error_cents"].value < 10  # the tracker needs no ear


def test_a_classifier_that_gives_nan_leads_to_no_number(bank):
    class Broken(Bands):
        def hear(self, sounds, *, progress=None):
            return [Heard(None, 0.0, None, 0.0, 0.0, (float("nan"),) * 3, place) for place in self.embed(sounds)]

    assert "NaN" in run(good, bank, classifier=Broken())["judged"].why_not


def test_fewer_than_twenty_sounds_say_nothing_and_it_says_so(bank, tmp_path):
    few = run(good, bank, samples=19)
    for name in ("distances", "variety", "honesty"):
        assert few[name].figures == ()
        assert "19 new sounds" in few[name].why_not
    small = run(good, make_bank(tmp_path, each=4))
    assert small["distances"].figures == ()
    assert "training sounds" in small["distances"].why_not
    json.dumps(small.document(), default=str)


def test_with_few_sounds_frechet_is_left_out_and_a_warning_is_given(bank):
    class Wide(Bands):
        def embed(self, sounds):
            mixer = np.random.default_rng(0).normal(size=(16, 128))
            return (super().embed(sounds) @ mixer).astype(np.float32)

    found = run(good, bank, samples=40, ear=Wide())["distances"]
    assert "frechet_distance" not in [figure.name for figure in found.figures]
    assert "192 sounds" in found.why_not
    assert "intervals are wide" in found.words


def test_one_class_is_a_sentence_not_a_score(tmp_path):
    one = make_bank(tmp_path, labels=("bell",), each=60)

    class Single(Bands):
        labels = ("bell",)

    found = run(good, one, classifier=Single(), labels=("bell",))
    assert found["judged"].figures == ()
    assert "single label" in found["judged"].why_not
    assert "fewer than two" in found["obedience"].why_not
    assert found["variety"]["spread"].value == pytest.approx(1, abs=0.3)


def test_a_label_with_a_single_sound_is_left_out_of_the_spread(tmp_path):
    folder = tmp_path
    (folder / "sounds" / "lonely").mkdir(parents=True)
    write(folder / "sounds" / "lonely" / "one.wav", Waveform(np.hanning(4000).astype(np.float32)[None], RATE))
    split = folder / "split.csv"
    for label in ("bell", "hiss"):
        (folder / "sounds" / label).mkdir()
        random = np.random.default_rng(len(label))
        for i in range(40):
            sound = voice(label, pitch=pitch_of(label, random), random=random)
            write(folder / "sounds" / label / f"{label} {i}.wav", Waveform(sound[None], RATE))
    paths = sorted(str(p.relative_to(folder / "sounds")) for p in (folder / "sounds").rglob("*.wav"))
    rows = [f"{path},{'test' if i % 3 == 0 and 'lonely' not in path else 'train'}" for i, path in enumerate(paths)]
    split.write_text("\n".join(["path,split", *rows]) + "\n")
    bank = SoundBank.scan(folder / "sounds", folder / "bank", label_from="folder", split=split)

    def make(label, pitch, random):
        return voice(label if label != "lonely" else "hiss", pitch=pitch, random=random)

    found = run(make, bank, labels=("bell", "hiss", "lonely"))
    assert "1." in found["variety"].why_not
    assert found["variety"]["spread"].value == pytest.approx(1, abs=0.3)
    json.dumps(found.document(), default=str)


def test_without_a_classifier_it_says_how_to_get_its_scores(bank, of_good):
    found = run(good, bank, samples=40)
    assert found["judged"].figures == ()
    assert "--train-classifier" in found["judged"].why_not
    assert "nearest training sounds" in found["obedience"].words
    assert "classifier bands" in of_good["obedience"].words


def test_a_model_at_another_rate_is_judged_the_same(bank):
    class Elsewhere(Model):
        def sample_as(self, condition, *, seed):
            return [resample(sound, 22050) for sound in super().sample_as(condition, seed=seed)]

    found = evaluate(Elsewhere(good, bank.folder), bank, samples=120, seed=1, judges=Judges(ear=Bands()))
    assert found["obedience"]["asked_in_tune"].value > 0.9
    assert found["variety"]["precision"].value > 0.7
    assert "No sign" in found["honesty"].words


def test_a_classifier_is_judged_by_the_labels_it_gives(bank):
    found, confusion = recognition(Bands(), bank, split="test", most=50)
    assert found["accuracy"].value > 0.9
    assert found["accuracy"].low < found["accuracy"].value <= found["accuracy"].high
    assert found["accuracy"].beside["the commonest label always"] < 0.6
    assert np.trace(confusion.counts) / confusion.counts.sum() == pytest.approx(found["accuracy"].value)

    class Unsure(Bands):
        def hear(self, sounds, *, progress=None):
            return [Heard(None, 0.3, None, 0.0, 0.0, (0.3, 0.3, 0.3), place) for place in self.embed(sounds)]

    unsure, confusion = recognition(Unsure(), bank, split="test", most=50)
    assert (unsure["accuracy"].value, unsure["unknown"].value) == (0, 1)
    assert confusion.counts[:, -1].sum() == confusion.counts.sum()
    with pytest.raises(BankError, match="--split"):
        recognition(Bands(), bank, split="nowhere", most=50)


def test_a_confusion_counts_who_was_taken_for_whom():
    confusion = Confusion.of(["kick", "kick", "snare", "snare"], ["kick", "snare", "snare", None])
    assert confusion.names == ("kick", "snare", "unknown")
    assert confusion.counts.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_new_sounds_are_judged_where_nothing_is_held_out(tmp_path):
    small = make_bank(tmp_path, each=3)
    assert len(small.clips("test")) == 0
    found = run(good, small)
    assert "held-out" in found["honesty"].why_not or "training sounds" in found["honesty"].why_not
    assert found["obedience"]["pitch_error_cents"].value < 10


def test_the_same_seed_gives_the_same_figures(bank):
    assert run(good, bank, samples=40).figures() == run(good, bank, samples=40).figures()


def test_what_cannot_be_asked_for_is_refused_in_a_sentence(bank):
    with pytest.raises(ConfigError, match="0 to 10000"):
        run(good, bank, samples=-1)


def test_a_negative_distance_is_in_the_document_and_not_on_the_page():
    figure = Figure.of("d", "distance", Estimate(-0.01, -0.03, 0.01), "0 is the same", {"halves": 0.002})
    assert figure.document() == {"value": -0.01, "interval": [-0.03, 0.01], "beside": {"halves": 0.002}}
    assert figure.text == "indistinguishable at this size"
    assert "-0.01" not in Section("s", "S", (figure,)).table()
    assert Figure.of("d", "distance", Estimate(0.5, 0.4, 0.6), "", {}).text == "0.5 (0.4 to 0.6)"


def test_wilsons_interval_is_right_at_the_ends():
    assert share_interval(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-3))
    assert share_interval(5, 10) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))


def test_the_page_holds_sounds_beside_the_numbers_and_escapes_names(bank, of_good, tmp_path):
    write_page(of_good, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for words in ("indistinguishable at this size", "nearest to a training sound", "held-out sounds", "not comparable"):
        assert words in page
    assert page.count("<audio") == 12 + 2 * len(of_good.pairs)
    text = re.sub(r"data:[^\"]*", "", page)
    assert "nan" not in text.lower().replace("resonan", "")
