"""SFZ files say what the format lets them say, stay within their folder, and are refused in words where they break."""

import os
import struct

import numpy as np
import pytest
import soundfile
from contract import RATE, play
from mutating import mutations

from soundloom.errors import InstrumentError, SoundloomError
from soundloom.instruments import sfz
from soundloom.instruments.base import Event
from soundloom.instruments.sampler import Sampler
from soundloom.instruments.zones import OPEN_HZ, Loop


@pytest.fixture
def folder(tmp_path):
    """Three sounds: a.wav mono, sub/B one.wav stereo, and looped.wav, which says its own loop."""
    t = np.arange(4000) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 441 * t)).astype(np.float32)
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "a.wav", tone, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "sub" / "B one.wav", np.stack([tone, -tone], axis=1), 48000, subtype="FLOAT")
    soundfile.write(tmp_path / "looped.wav", tone, RATE, subtype="PCM_16")
    whole = bytearray((tmp_path / "looped.wav").read_bytes())
    smpl = struct.pack("<9I", 0, 0, 0, 60, 0, 0, 0, 1, 0) + struct.pack("<6I", 0, 0, 1000, 2999, 0, 0)
    whole += b"smpl" + struct.pack("<I", len(smpl)) + smpl
    struct.pack_into("<I", whole, 4, len(whole) - 8)
    (tmp_path / "looped.wav").write_bytes(whole)
    return tmp_path


def load(folder, text, **options):
    path = folder / "test.sfz"
    path.write_text(text, encoding="utf-8")
    return sfz.load(path, **options)


def test_every_opcode_lands_in_its_place(folder):
    (zone,) = load(folder, """
        <region> sample=a.wav lokey=c4 hikey=72 pitch_keycenter=c#4 lovel=10 hivel=99 tune=-25 transpose=12
        volume=-3 pan=40 offset=100 end=2999 loop_mode=loop_sustain loop_start=500 loop_end=1499 loop_crossfade=0.005
        ampeg_delay=0.1 ampeg_attack=0.2 ampeg_hold=0.3 ampeg_decay=1 ampeg_sustain=25 ampeg_release=2
        cutoff=1200 resonance=6 fil_type=lpf_2p seq_length=3 seq_position=2 lorand=0.25 hirand=0.5 group=4 off_by=5
        amp_veltrack=50 pitch_keytrack=50
    """).zones  # fmt: skip
    assert (zone.low_key, zone.high_key, zone.pitch) == (60, 72, 61)
    assert (zone.low_velocity, zone.high_velocity) == (10, 99)
    assert (zone.tune, zone.gain_db, zone.pan) == (11.75, -3, 0.4)
    assert (zone.start, zone.end) == (100, 3000)
    assert zone.loop == Loop(500, 1500, until_release=True, crossfade=220)
    envelope = zone.envelope
    assert (envelope.delay_s, envelope.attack_s, envelope.hold_s, envelope.sustain) == (0.1, 0.2, 0.3, 0.25)
    assert envelope.decay_s == pytest.approx(60 / 78.17, abs=1e-3)  # e^9 is 78.17 dB
    assert envelope.release_s == pytest.approx(120 / 78.17, abs=1e-3)
    assert (zone.cutoff_hz, zone.resonance_db) == (1200, 6)
    assert (zone.turn, zone.turns, zone.chance) == (1, 3, (0.25, 0.5))
    assert (zone.group, zone.silenced_by) == (4, 5)
    assert (zone.velocity_tracking, zone.key_tracking) == (0.5, 0.5)


def test_envelopes_and_lfos_of_filter_and_pitch(folder):
    both, pitch = load(folder, """
        <region> sample=a.wav fileg_depth=2400 fileg_attack=0.1 fileg_decay=0.5 fileg_sustain=40 pitcheg_depth=100
        amplfo_freq=5 amplfo_depth=3 amplfo_delay=0.2 pitchlfo_freq=6 pitchlfo_depth=30
        <region> sample=a.wav pitcheg_depth=-1200 pitcheg_decay=0.2 fillfo_freq=2 fillfo_depth=600
    """).zones  # fmt: skip
    assert (both.motion.envelope_octaves, both.motion.envelope_semitones) == (2, 0)
    said = both.motion.envelope
    assert (said.attack_s, said.decay_s, said.sustain) == (0.1, 0.5, 0.4)
    assert (both.motion.lfo_hz, both.motion.lfo_db, both.motion.lfo_delay_s) == (5, 3, 0.2)
    assert (both.motion.vibrato_hz, both.motion.vibrato_semitones) == (6, 0.3)
    assert (pitch.motion.envelope_semitones, pitch.motion.envelope.decay_s) == (-12, 0.2)
    assert (pitch.motion.lfo_hz, pitch.motion.lfo_octaves, pitch.motion.lfo_db) == (2, 0.5, 0)


def test_defaults_and_the_key_opcode(folder):
    plain, keyed = load(folder, "<region> sample=a.wav\n<region> sample=a.wav key=40").zones
    assert (plain.low_key, plain.high_key, plain.pitch, plain.low_velocity, plain.high_velocity) == (0, 127, 60, 0, 127)
    assert (plain.loop, plain.one_shot, plain.cutoff_hz, plain.envelope.release_s) == (None, False, OPEN_HZ, None)
    assert (keyed.low_key, keyed.high_key, keyed.pitch) == (40, 40, 40)


def test_regions_inherit_from_group_master_and_global(folder):
    zones = load(folder, """
        <global> volume=-1 pan=10 tune=1
        <master> volume=-2
        <group> tune=5
        <region> sample=a.wav
        <region> sample=a.wav tune=7
        <group>
        <region> sample=a.wav
        <master>
        <region> sample=a.wav
        <global>
        <region> sample=a.wav
    """).zones  # fmt: skip
    assert [(z.gain_db, z.pan, round(100 * z.tune)) for z in zones] == [
        (-2, 0.1, 5), (-2, 0.1, 7), (-2, 0.1, 1), (-1, 0.1, 1), (0, 0, 0),
    ]  # fmt: skip


def test_control_defines_and_includes(folder):
    zones = load(folder, """
        // a comment <region> sample=none.wav
        <control> default_path=sub\\ note_offset=1 octave_offset=-1
        #define $KEY 60
        #define $KEYTWO 62
        /* another <region>
           sample=none.wav */
        <region> sample=b ONE.wav key=$KEYTWO volume=-6
        <region> sample=B one.wav key=$KEY
    """).zones  # fmt: skip
    assert [(z.pitch, z.low_key, z.gain_db) for z in zones] == [(51, 51, -6), (49, 49, 0)]
    assert zones[0].waveform.sample_rate == 48000
    assert zones[0].waveform is zones[1].waveform
    (folder / "sub" / "more.sfzh").write_text("<region> sample=a.wav key=$KEY", encoding="utf-8")
    zones = load(folder, '#define $KEY 64\n#include "sub/more.sfzh"\n#define $KEY 65\n#include "sub\\more.sfzh"').zones
    assert [z.pitch for z in zones] == [64, 65]


def test_loops_of_the_recording_and_of_the_file(folder):
    own, none, shot, later = load(folder, """
        <region> sample=looped.wav
        <region> sample=looped.wav loop_mode=no_loop
        <region> sample=looped.wav loop_mode=one_shot
        <region> sample=looped.wav loop_start=1500
    """).zones  # fmt: skip
    assert own.loop == Loop(1000, 3000)
    assert none.loop is None
    assert (shot.loop, shot.one_shot) == (None, True)
    assert later.loop == Loop(1500, 3000)


def test_what_is_not_played_is_said(folder):
    made = load(folder, """
        <curve> curve_index=7 <effect> type=reverb
        <region> sample=a.wav effect1=30 effect1=20 lfo01_freq=3 fil_type=hpf_2p cutoff=100 lokey=foo
        <region> sample=a.wav trigger=release
        <region> sample=a.wav on_locc64=64
        <region> sample=a.wav locc1=64 hicc1=127
        <region> sample=a.wav sw_last=24 sw_default=25
        <region> sample=*sine
        <region> sample=a.wav end=-1
    """)  # fmt: skip
    assert len(made.zones) == 1
    assert made.zones[0].cutoff_hz == OPEN_HZ
    for words in (
        "the header <curve>", "the header <effect>", "the opcode effect1", "the opcode lfo01_freq", "trigger=release",
        "the filter hpf_2p", "the key 'foo'", "a controller starts", "other positions of controllers",
        "other key switches", "*sine",
    ):  # fmt: skip
        assert any(words in said for said in made.ignored), words
    played = load(folder, "<region> sample=a.wav locc1=0 hicc1=63 sw_last=24 sw_default=24\n<region> sample=a.wav")
    assert len(played.zones) == 2


def test_controllers_start_where_the_file_puts_them(folder):
    text = "<control> set_cc1={}\n<region> sample=a.wav locc1=64 tune=1\n<region> sample=a.wav hicc1=63 tune=2"
    assert [round(100 * z.tune) for z in load(folder, text.format(100)).zones] == [1]
    assert [round(100 * z.tune) for z in load(folder, text.format(10)).zones] == [2]


@pytest.mark.parametrize("name", [
    "../outside.wav", "sub/../../outside.wav", "/etc/passwd", "\\\\server\\x.wav", "C:\\x.wav", "link.wav",
    "linked/outside.wav",
])  # fmt: skip
def test_nothing_outside_of_the_folder_is_touched(folder, name):
    home = folder / "home"
    home.mkdir()
    soundfile.write(folder / "outside.wav", np.zeros(100), RATE)
    (folder / "outside.sfz").write_text("<region> sample=a.wav", encoding="utf-8")
    os.symlink(folder / "outside.wav", home / "link.wav")
    os.symlink(folder, home / "linked")
    (home / "sub").mkdir()
    for text in (f"<region> sample={name}", f'#include "{name}"\n<region> sample=a.wav'):
        with pytest.raises(InstrumentError, match=r"names '.*'"):
            load(home, text)
    with pytest.raises(InstrumentError, match=r"lies outside|are taken from"):
        load(home, f"<control> default_path=../\n<region> sample={name.rpartition('/')[2]}")


def test_a_wider_root_may_be_given(folder):
    home = folder / "programs"
    home.mkdir()
    with pytest.raises(InstrumentError, match="as root"):
        load(home, "<region> sample=../a.wav")
    # Names are taken from the root on: what lies beside the folder of the .sfz is named without climbing.
    assert len(load(home, "<region> sample=a.wav", root=folder).zones) == 1


def test_files_that_break_are_refused_in_words(folder):
    (folder / "self.sfz").write_text('#include "self.sfz"', encoding="utf-8")
    (folder / "fan.sfz").write_text('#include "fan.sfz"\n' * 50, encoding="utf-8")
    (folder / "noise.wav").write_bytes(b"no sound at all")
    (folder / "empty.wav").write_bytes(b"")
    bomb = "#define $A " + "x" * 3_000_000 + "\n<region> sample=$A$A$A$A"
    for text, match in (
        ("", "no <region>"),
        ("<region> key=60", "no region that can be played"),
        ("<region> sample=none.wav", "names 'none.wav': there is no such file"),
        ("<region> sample=noise.wav", "needs 'noise.wav'"),
        ("<region> sample=empty.wav", "needs 'empty.wav'"),
        ("<region> sample=sub", "there is no such file"),
        ('#include "self.sfz"', "included in itself"),
        ('#include "fan.sfz"', "included in itself|too many files"),
        (bomb, "longer than"),
        ("<region>\n" * 20_001, "more than 20000 regions"),
        ("<region> " + " ".join(f"a{i}=1" for i in range(2100)), "different opcodes"),
        ("<control> set_cc" + "9" * 5000 + "=1\n<region> sample=none.wav locc" + "9" * 5000 + "=1", "no such file"),
    ):
        with pytest.raises(InstrumentError, match=match):
            load(folder, text)
    assert load(folder, "<region> sample=a.wav key=c" + "9" * 5000).zones[0].pitch == 60
    with pytest.raises(InstrumentError, match=r"cannot read 'none.sfz'"):
        sfz.load(folder / "none.sfz")


def test_an_sfz_sounds_as_it_says(folder):
    """Two layers apart by pan, the right one an octave up and 6 dB down."""
    made = load(folder, "<group> pan=-100 loop_mode=loop_continuous\n<region> sample=a.wav pitch_keycenter=60\n"
                "<region> sample=a.wav pitch_keycenter=48 pan=100 volume=-6.02")  # fmt: skip
    audio = play(Sampler({"gain_db": 0.0}, source=made), [Event(0, "on", 1, 60.0, 1.0)], RATE)[:, 2000:]
    spectra = np.abs(np.fft.rfft(audio * np.hanning(audio.shape[1])))
    hz = np.argmax(spectra, axis=1) * RATE / audio.shape[1]
    assert hz == pytest.approx([441, 882], abs=1.5)
    assert spectra[1].max() / spectra[0].max() == pytest.approx(0.5, rel=0.02)


def test_mutated_files_load_or_are_refused(folder):
    """Damaged texts: an instrument or our error, never anything else."""
    (folder / "more.sfzh").write_text("<region> sample=a.wav key=$K", encoding="utf-8")
    text = (
        '<control> default_path=sub/../ #define $K 60\n#include "more.sfzh"\n<global> ampeg_release=0.5\n'
        "<group> lovel=1 hivel=127 cutoff=2000 // words\n<region> sample=looped.wav lokey=c3 hikey=60 pan=-20\n"
        "<region> sample=sub/B one.wav key=61 loop_mode=loop_sustain loop_start=10 loop_end=3000 offset=5\n"
        "<region> sample=a.wav key=62 seq_length=2 seq_position=1 lorand=0 hirand=0.5 tune=10 volume=-3\n"
    )
    path = folder / "test.sfz"
    loaded = 0
    for i, data in enumerate(mutations(text.encode(), count=700, seed=3)):
        path.write_bytes(data)
        try:
            made = sfz.load(path)
            if i % 20 == 0:
                audio = play(Sampler(source=made, voices=4), [Event(0, "on", 1, 60.0, 1.0)], 300)
                assert np.isfinite(audio).all()
            loaded += 1
        except SoundloomError:
            pass
    assert 100 < loaded < 690
