"""A folder becomes the instrument that its names promise, as far as what sounds bears them out."""

import numpy as np
import pytest
import soundfile
from contract import RATE

from soundloom.errors import InstrumentError
from soundloom.instruments import folders
from soundloom.instruments.drumnames import assign, drum_keys


def pluck(pitch, *, seconds=0.6, seed=0):
    """A decaying tone with harmonics, whose pitch a tracker hears."""
    t = np.arange(int(seconds * RATE)) / RATE
    hz = 440 * 2 ** ((pitch - 69) / 12)
    return 0.3 * np.exp(-4 * t) * sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 8) if k * hz < RATE / 2)


def hit(seed):
    rng = np.random.default_rng(seed)
    return 0.3 * rng.standard_normal(4000) * np.exp(-np.arange(4000) / 500)


def write(folder, sounds):
    for name, samples in sounds.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(folder / name, samples, RATE)
    return folder


NAMES = ("C", "D#", "F#", "A")


@pytest.mark.parametrize("name", ["FF A4.wav", "something.wav"])
def test_one_recording_sounds_at_its_note(tmp_path, name):
    write(tmp_path, {name: pluck(69), "silent.wav": np.zeros(1000)})
    (zone,) = folders.single(tmp_path / name).zones
    assert zone.pitch == pytest.approx(69, abs=0.1)
    write(tmp_path, {"noise.wav": hit(0)})
    assert folders.single(tmp_path / "noise.wav").zones[0].pitch == 60
    with pytest.raises(InstrumentError, match="silent"):
        folders.single(tmp_path / "silent.wav")


def piano(tmp_path, *, octave_off=0):
    notes = {f"{NAMES[i % 4]}{3 + i // 4}": 48 + 3 * i + 0.3 * (i % 2) for i in range(9)}
    sounds = {f"{layer} {name}.wav": pluck(pitch + 12 * octave_off) for name, pitch in notes.items()
              for layer in ("FF", "PP")}  # fmt: skip
    return write(tmp_path, sounds)


@pytest.mark.parametrize("octave_off", [0, 1])
def test_notes_and_layers_from_names(tmp_path, octave_off):
    """Each key plays the nearest note; names an octave off are put right by ear; two velocity layers."""
    made = folders.load(piano(tmp_path, octave_off=octave_off))
    assert made.ignored == ()
    assert sorted({zone.pitch for zone in made.zones}) == [48 + 3 * i + 12 * octave_off for i in range(9)]
    for key in (40, 49, 50, 62, 90):
        for velocity, range_ in ((0.2, (0, 71)), (0.9, (72, 127))):
            (zone,) = (made.zones[i] for i in made.at(key, velocity))
            assert (zone.low_velocity, zone.high_velocity) == range_
            pitches = [z.pitch for z in made.zones]
            assert abs(zone.pitch - key) == min(abs(pitch - key) for pitch in pitches)


def test_measured_pitches_put_tunings_right(tmp_path):
    made = folders.load(piano(tmp_path), pitches="measured")
    pitches = sorted({round(zone.pitch, 2) for zone in made.zones})
    expected = [48 + 3 * i + 0.3 * (i % 2) for i in range(9)]
    assert pitches == pytest.approx(expected, abs=0.05)


def test_drums_lie_on_the_keys_of_general_midi(tmp_path):
    names = ("kick", "snare-1", "snare-2", "snare-3", "HiHat_Closed", "hihat-open", "tom-low", "crash", "zap")
    made = folders.load(write(tmp_path, {f"{name}.wav": hit(i) for i, name in enumerate(names)}))
    keys = {zone.low_key: zone for zone in made.zones}
    assert set(keys) == {36, 38, 40, 82, 42, 46, 45, 49, 83}
    assert all(zone.one_shot and zone.low_key == zone.high_key == zone.pitch for zone in made.zones)
    assert {key for key, zone in keys.items() if zone.group} == {42, 46}


def test_folders_name_drums_and_takes_share_a_key(tmp_path):
    sounds = {"kicks/01.wav": hit(0), "snares/a.wav": hit(1), "hats closed/x_rr1.wav": hit(2),
              "hats closed/x_rr2.wav": hit(3)}  # fmt: skip
    made = folders.load(write(tmp_path, sounds))
    assert [(zone.low_key, zone.turn, zone.turns) for zone in made.zones] == [
        (36, 0, 1), (38, 0, 1), (42, 0, 2), (42, 1, 2),
    ]  # fmt: skip


def test_all_else_goes_up_from_c2(tmp_path):
    made = folders.load(
        write(tmp_path, {f"thing {word}.wav": hit(i) for i, word in enumerate(("oh dear", "up", "zip"))})
    )
    assert [(zone.low_key, zone.pitch, zone.group) for zone in made.zones] == [(36, 36, 0), (37, 37, 0), (38, 38, 0)]


def test_what_cannot_be_read_is_said(tmp_path):
    write(tmp_path, {"a.wav": hit(0), "silent.wav": np.zeros(100)})
    (tmp_path / "broken.wav").write_bytes(b"nothing")
    made = folders.load(tmp_path)
    assert len(made.zones) == 1
    assert [said.partition(":")[0] for said in made.ignored] == ["broken.wav", "silent.wav"]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(InstrumentError, match=r"no sound that can be read; broken.wav"):
        folders.load(tmp_path)
    with pytest.raises(InstrumentError, match="there is no folder"):
        folders.load(tmp_path / "none")


@pytest.mark.parametrize(("name", "key"), [
    ("BD_Boom", 36), ("DT_Closedhat", 42), ("hhopen-1", 46), ("univox-oh", 46), ("ohihat", 46), ("conga-hh", 63),
    ("tom-hh", 50), ("tom_lo", 45), ("hitom", 50), ("lowtom", 45), ("rimshot", 37), ("ride_bell", 53), ("cymball", 49),
    ("sn_dub", 38), ("drum_cymbal_closed", 42), ("drum_cymbal_pedal", 44), ("Chihat", 42), ("clave", 75),
])  # fmt: skip
def test_drum_names(name, key):
    assert drum_keys(name)[0] == key


@pytest.mark.parametrize("name", ["piano C4", "hatred", "stomach", "bright pad", "chord"])
def test_names_that_are_no_drums(name):
    assert drum_keys(name) == ()


def test_no_key_is_given_twice():
    given = assign(["snare"] * 100)
    keys = [key for key in given if key is not None]
    assert len(keys) == len(set(keys))
    assert given[:2] == [38, 40]
    assert given[-1] is None
