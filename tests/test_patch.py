"""Patches read and write, build what they say, and what comes along is in order; few words open what they name."""

import mido
import numpy as np
import pytest
from contract import RATE, play

from soundloom import midi
from soundloom.audio import Waveform, write
from soundloom.errors import ConfigError, ScoreError
from soundloom.instruments import patch as patches
from soundloom.instruments.base import Event
from soundloom.instruments.controls import events as meant
from soundloom.instruments.generalmidi import DRUMS, PATCHES
from soundloom.instruments.opening import Opener
from soundloom.performing import Cast, cast, entries, read_score
from soundloom.render import arrange, perform
from soundloom.score import Control, Note, Score

MINE = """
name = "Mine"
engine = "subtractive"

[parameters]
cutoff_hz = 900

[controls.modulation]
param = "cutoff_hz"
to = 4000.0

[controls.cc20]
param = "reverb.mix"
to = 1.0

[[effects]]
effect = "reverb"
mix = 0.25
"""


def tone(path, hz=261.6256, seconds=1.0):
    t = np.arange(round(seconds * RATE)) / RATE
    write(path, Waveform((0.5 * np.sin(2 * np.pi * hz * t))[None].astype(np.float32), RATE))
    return path


def test_a_patch_is_read_built_and_written(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    patch = patches.load(tmp_path / "mine.toml")
    playable = patches.build(patch)
    assert playable.instrument.values({})["cutoff_hz"] == 20_000  # a chain's knobs are all there
    assert {"cutoff_hz", "reverb.mix"} <= {param.name for param in playable.instrument.params}
    patches.save(tmp_path / "again.toml", patch)
    assert patches.load(tmp_path / "again.toml") == patch


def test_two_effects_of_a_kind_have_names_of_their_own():
    two = MINE + '\n[[effects]]\neffect = "reverb"\nname = "hall"\ndecay_s = 6.0\n'
    params = patches.build(patches.parsed(two.encode(), where="mine")).instrument.params
    assert {"reverb.decay_s", "hall.decay_s"} <= {param.name for param in params}


def test_a_patchs_controls_are_turned_from_where_the_knob_stands():
    playable = patches.build(patches.parsed(MINE.encode(), where="mine"))
    (start,), (end,), (room,) = (
        meant(Control(0, "cc", value, number), playable.routes) for value, number in ((0, 1), (1, 1), (1, 20))
    )
    assert (start.value, end.value) == (pytest.approx(900), pytest.approx(4000))
    assert (room.param, room.value) == ("reverb.mix", 1.0)


def test_a_knob_that_was_set_by_hand_is_turned_from_there():
    """So is an effect's: the wheel at rest leaves all as it was."""
    playable = Opener().opened("subtractive,cutoff_hz=800,vibrato_cents=20")
    (rest,), (middle,) = (meant(Control(0, "cc", value, n), playable.routes) for value, n in ((0.0, 1), (0.5, 74)))
    assert (rest.param, rest.value) == ("vibrato_cents", pytest.approx(20))
    assert (middle.param, middle.value) == ("cutoff_hz", pytest.approx(800))
    playable = patches.build(
        patches.parsed(MINE.encode(), where="mine"), settings={"cutoff_hz": 500, "reverb.mix": 0.6}
    )
    (cutoff,), (room,) = (meant(Control(0, "cc", 0.0, number), playable.routes) for number in (1, 20))
    assert (cutoff.value, room.value) == (pytest.approx(500), pytest.approx(0.6))
    (room,) = meant(Control(0, "cc", 0.0, 20), patches.build(patches.parsed(MINE.encode(), where="mine")).routes)
    assert room.value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("subtractive", "subtractif"), "did you mean subtractive"),
        (("cutoff_hz = 900", "cutof_hz = 900"), "did you mean cutoff_hz"),
        (("cutoff_hz = 900", "cutoff_hz = 9e9"), "from 20 to 20000"),
        (("[controls.modulation]", "[controls.modulatoin]"), "did you mean modulation"),
        (('effect = "reverb"', 'effect = "reverbb"'), "did you mean reverb"),
        (('effect = "reverb"', ""), "has no name"),
        (('effect = "reverb"', 'effect = "reverb"\nname = "big.hall"'), "without a dot"),
        (("mix = 0.25", "mixx = 0.25"), "did you mean mix"),
        (('name = "Mine"', 'name = "Mine"\nengin = 3'), "did you mean engine"),
        (('name = "Mine"', "name = "), "is no patch"),
        (('engine = "subtractive"', ""), "has no engine"),
        (("to = 4000.0", "to = 1.0"), "from 20 to 20000"),
        (('name = "Mine"', 'name = "Mine"\nvoices = 0'), "voices is 0: it goes from 1"),
        (('name = "Mine"', 'name = "Mine"\nvoices = 10000000'), "voices is 1e\\+07"),
        (('name = "Mine"', 'name = "Mine"\ngain_db = nan'), "gain_db is nan"),
        (('name = "Mine"', 'name = "Mine"\nroom = 1.5'), "room is 1.5"),
        (("cutoff_hz = 900", 'cutoff_hz = "high"'), "cutoff_hz is 'high', which is no number"),
        (("mix = 0.25", 'mix = "much"'), "reverb.mix is 'much', which is no number"),
        (('effect = "reverb"', "effect = 3"), "has no name"),
        (("[controls.modulation]", "[controls]\npressure = 3\n[controls.modulation]"), "write a param"),
        (("[controls.cc20]", '[controls."cc²"]'), "there is no control 'cc²'"),
    ],
)
def test_what_is_wrong_with_a_patch_is_said(change, words):
    with pytest.raises(ConfigError, match=words):
        patches.build(patches.parsed(MINE.replace(*change).encode(), where="mine"))


def test_a_file_that_is_no_patch_is_refused(tmp_path):
    (tmp_path / "noise.toml").write_bytes(bytes(range(256)))
    (tmp_path / "long.toml").write_text(MINE + "# and so on\n" * 10_000)
    for name in ("noise.toml", "none.toml", "long.toml"):
        with pytest.raises(ConfigError, match=name.partition(".")[0]):
            patches.load(tmp_path / name)


@pytest.mark.parametrize("name", patches.shipped())
def test_every_shipped_patch_sounds(name):
    """In tune is its engine's affair; here: it is heard, it is bounded, it ends, and its words are there."""
    patch = patches.named(name)
    assert patch.name
    assert patch.about
    assert patch.kind
    instrument = Opener().opened("patch:" + name).instrument
    pitch = 42.0 if patch.engine == "drums" else 55.0
    audio = play(instrument, [Event(0, "on", 1, pitch, 0.8), Event(RATE, "off", 1)], 2 * RATE)
    assert np.isfinite(audio).all()
    assert 0.03 < np.abs(audio).max() < 2.0


def test_general_midi_knows_what_plays_every_program():
    assert len(PATCHES) == 128
    assert set(PATCHES) <= set(patches.shipped())
    assert len(patches.shipped()) >= 40
    assert Opener().usual(DRUMS, 0).name != Opener().usual(0, 0).name


def test_few_words_open_what_they_name(tmp_path):
    tone(tmp_path / "note.wav")
    (tmp_path / "kit").mkdir()
    for name, hz in (("C4", 261.63), ("E4", 329.63), ("G4", 392.0)):
        tone(tmp_path / "kit" / f"tone_{name}.wav", hz)
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "cloud.toml").write_text('name = "Cloud"\nengine = "granular"\nsource = "note.wav"\n')
    (tmp_path / "tape.toml").write_text('name = "Tape"\nengine = "sampler"\nsource = "patch:warm-pad"\n')
    (tmp_path / "font.toml").write_text('name = "Font"\nengine = "sampler"\nsource = "font.sf2,programme=3"\n')
    (tmp_path / "wrong.toml").write_text('name = "Wrong"\nengine = "fm"\nsource = "note.wav"\n')
    (tmp_path / "font.sf2").write_bytes(b"RIFF")
    opener = Opener()
    for text in ("note.wav", "kit", "mine.toml,cutoff_hz=500,reverb.mix=0.5", "cloud.toml", "tape.toml"):
        instrument = opener.opened(text, folder=tmp_path).instrument
        audio = play(instrument, [Event(0, "on", 1, 60.0, 0.9)], RATE // 2)
        assert np.abs(audio).max() > 0.02, text
    for text, words in (
        ("plick", "did you mean pluck"),
        ("patch:warm-pat", "did you mean warm-pad"),
        ("subtractive,cutof_hz=3", "did you mean cutoff_hz"),
        ("subtractive,cutoff_hz", "not key=value"),
        ("subtractive,cutoff_hz=high", "no number"),
        ("mine.toml,delay.mix=1", "no effect"),
        ("wrong.toml", "plays no source"),
        ("", "names no instrument"),
        (",cutoff_hz=800", "names no instrument"),
        ("subtractive,label=kick", "has no label"),
        ("patch:warm-pad,program=3", "has no program"),
        ("note.wav,program=3", "means nothing to 'note.wav'"),
        ("kit,bank=1", "means nothing to 'kit'"),
        ("font.toml", "no programme"),
        ("font.sf2,program=1.5", "no program"),
    ):
        with pytest.raises(ConfigError, match=words):
            opener.opened(text, folder=tmp_path)


def test_who_plays_which_channel():
    assert entries(["0=pluck,damping=0.5,9=patch:kit", "subtractive"]) == {
        0: "pluck,damping=0.5",
        9: "patch:kit",
        None: "subtractive",
    }
    with pytest.raises(ScoreError, match="0 to 15"):
        entries(["16=pluck"])


def test_a_piece_is_as_loud_as_asked_and_its_stems_add_up():
    score = Score(
        (Note(0, 1, 48, 0.9, 0), Note(0.5, 1, 60, 0.9, 1), Note(1, 1, 64, 0.5, 1)),
        (Control(0, "cc", 0.2, 10, 1), Control(0.7, "bend", 1.0, 0, 1), Control(0, "cc", 1.0, 91, 0)),
    )
    opener = Opener()
    arrangement = arrange(score, cast(["0=subtractive,cutoff_hz=700", "pluck"], opener).who(opener))
    made = perform(score, arrangement, lufs=-18.0, stems=True)
    assert made.loudness_lufs == pytest.approx(-18, abs=0.3)
    assert made.true_peak_db <= -0.95
    assert list(made.stems) == ["00 subtractive", "01 pluck", "room"]
    mix = sum(stem.samples for stem in made.stems.values()) * 10 ** (made.gain_db / 20)
    np.testing.assert_allclose(mix, made.sound.samples, atol=2e-3)
    left, right = made.stems["01 pluck"].samples.astype(np.float64)
    assert 10 * np.log10(np.mean(left**2) / np.mean(right**2)) > 5


@pytest.mark.parametrize("lufs", [-75.0, float("nan"), float("-inf"), 3.0])
def test_a_loudness_that_no_piece_has_is_refused(lufs):
    """Of silence nothing says how loud it is: a master that was asked for it would go up and up."""
    opener = Opener()
    with pytest.raises(ConfigError, match="from -60 to 0"):
        perform(read_score("C4"), arrange(read_score("C4"), cast(["pluck"], opener).who(opener)), lufs=lufs)


def test_parts_are_named_as_files_may_be():
    opener = Opener()
    one = patches.build(patches.parsed(b'name = "../../Up 1/2"\nengine = "pluck"', where="one"))
    others = [patches.build(patches.Patch("x" * 500, engine="pluck")) for _ in range(2)]
    score = Score((Note(0, 0.1, 60, channel=0), Note(0, 0.1, 60, channel=1), Note(0, 0.1, 62, channel=1, program=1)))
    who = Cast({0: lambda channel, program: one}, lambda channel, program: others[program]).who(opener)
    made = perform(score, arrange(score, who), stems=True, lufs=None)
    first, second, third, room = made.stems
    assert (first, second, room) == ("00 ..-..-Up 1-2", "01 " + "x" * 60, "room")
    assert third == second + " 2"


def test_any_midi_file_sounds_at_once(tmp_path):
    """Programs, drums, a bend, the pedal, ten thousand notes at once: as General MIDI has them, and bounded."""
    notes = [Note(0.2 * i, 0.3, 40 + i, 0.8, channel=i % 3, program=[0, 33, 48][i % 3]) for i in range(12)]
    notes += [Note(0.4 * i, 0.1, 36 + 2 * (i % 4), 0.8, channel=9) for i in range(6)]
    controls = (Control(0.5, "bend", -2.0, 0, 1), Control(0.1, "cc", 1.0, 64, 0), Control(2.0, "cc", 0.0, 64, 0))
    midi.write(tmp_path / "song.mid", Score(tuple(notes), controls))
    score, opener = read_score(str(tmp_path / "song.mid")), Opener()
    made = perform(score, arrange(score, cast([], opener).who(opener)))
    assert made.sound.channels == 2
    assert made.loudness_lufs == pytest.approx(-16, abs=0.5)
    file = mido.MidiFile()
    file.tracks.append(mido.MidiTrack(
        [mido.Message("note_on", note=i % 128, velocity=100) for i in range(10_000)]
        + [mido.Message("note_off", note=i % 128, time=500 if i == 0 else 0) for i in range(10_000)]
    ))  # fmt: skip
    file.save(str(tmp_path / "many.mid"))
    score = read_score(str(tmp_path / "many.mid"))
    made = perform(score, arrange(score, cast([], opener).who(opener)))
    assert np.isfinite(made.sound.samples).all()
    assert made.true_peak_db <= -0.95


def test_one_player_plays_all_programs_of_its_channel():
    score = Score((Note(0, 0.1, 60), Note(0.2, 0.1, 60, program=5), Note(0, 0.1, 60, channel=3)))
    opener = Opener()
    arrangement = arrange(score, cast(["pluck"], opener).who(opener))
    assert arrangement.places == {(0, 0): 0, (0, 5): 0, (3, 0): 1}
    assert cast(["7=pluck,3=fm"], opener).idle(score) == [7]


def test_what_is_no_score_is_told_from_a_phrase(tmp_path):
    with pytest.raises(ScoreError, match="is no MIDI file"):
        read_score(str(tone(tmp_path / "song.wav")))
    with pytest.raises(ScoreError, match="named twice"):
        entries(["0=pluck,0=fm"])
    assert len(read_score("C4 E4:0.5 " * 200).notes) == 400  # longer than any name of a file
