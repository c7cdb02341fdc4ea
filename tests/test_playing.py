"""Played live is rendered as one goes: the same sound, to the sample, no later than it must be, whatever goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import jackserver
import numpy as np
import pytest
import soundfile

from soundloom import cli
from soundloom.devices import MidiPort, Soundcard, one_of
from soundloom.errors import DeviceError
from soundloom.instruments.base import Event
from soundloom.instruments.chain import Chain
from soundloom.instruments.controls import Playable, usual_routes
from soundloom.instruments.mixer import Mixer, Part
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.reverb import Reverb
from soundloom.player import Load, Player

pytestmark = pytest.mark.alone

RATE = 48000
ON, OFF, CC, BEND = 0x90, 0x80, 0xB0, 0xE0
STRUCK = ((1000, 48), (3333, 55), (7000, 60))  # frames and keys
PHRASE = [(frame, bytes([ON, key, 90])) for frame, key in STRUCK]
PHRASE += [(9000, bytes([CC, 74, 20])), (9100, bytes([BEND, 0, 80])), (12_000, bytes([OFF, 48, 0]))]
MEANT = [Event(frame, "on", k + 1, float(key), 90 / 127) for k, (frame, key) in enumerate(STRUCK)]
MEANT += [Event(9088, "bend", value=16 / 64 * 2), Event(12_000, "off", 1)]


# --- the player ---------------------------------------------------------------------------------------------------


def hertz(sound):
    """The frequency of the highest peak, by a parabola through it."""
    spectrum = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) + 1e-12)
    k = int(np.argmax(spectrum))
    a, b, c = spectrum[k - 1 : k + 2]
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * RATE / len(sound)


def playable(instrument):
    return Playable("it", instrument, usual_routes(instrument, instrument.settings))


def player(*instruments):
    one = Player([playable(one) for one in instruments], {0: range(len(instruments))}, sample_rate=RATE, block=128)
    one.warm_up()
    return one


def played(one, messages, n, block=128):
    """[2, n] of messages at absolute frames, block by block."""
    out, parts = np.zeros((2, block), np.float32), []
    for start in range(0, n, block):
        due = [(frame - start, message) for frame, message in messages if start <= frame < start + block]
        one.render(None, out, due)
        parts.append(out.copy())
    return np.concatenate(parts, axis=1)


def test_what_is_played_is_what_a_mixer_renders():
    """After all the warming up, the first block is the first: nothing of it is heard, and no knob has moved."""
    one = player(Pluck())
    sound = played(one, PHRASE, 128 * 200)
    mixer = Mixer([Part.of(playable(Pluck()))])
    wanted, _ = mixer.process(mixer.begun(mixer.init_state(RATE)), MEANT, 128 * 200)
    assert 0.02 < np.abs(wanted).max() < 0.7
    np.testing.assert_allclose(sound, wanted, rtol=0, atol=1e-5)
    assert (one.error, one.broken, one.frames, one.load.blocks) == (None, 0, 128 * 200, 200)


def test_it_ends_without_a_click():
    one, out = player(Pluck()), np.zeros((2, 128), np.float32)
    for messages in ([(0, bytes([ON, 40, 100]))], [], []):
        one.render(None, out, messages)
    one.finish()
    one.render(None, out, [])
    level = np.abs(out).max(axis=0)
    assert level[:64].max() > 0.02
    assert level[-2:].max() < 0.001
    one.render(None, out, [(0, bytes([ON, 50, 100]))])
    assert not out.any()


HANDS_ON = """
import json, sys
from numba.core import dispatcher, event
from soundloom.instruments.controls import Playable, between, usual_routes
from soundloom.instruments.engines import engine
from soundloom.player import Player
import numpy as np

class Compiling(event.Listener):
    def on_start(self, happening):
        compiled.append(happening.data["dispatcher"].py_func.__qualname__)

    def on_end(self, happening):
        pass

compiled, loaded = [], []
with event.install_listener("numba:compile", Compiling()):
    engines = [engine(name)() for name in ("subtractive", "pluck")]
    players = [Playable(type(one).__name__, one, usual_routes(one, one.settings)) for one in engines]
    player = Player(players, {0: [0], 1: [1]}, sample_rate=48000, block=128)
    player.warm_up()
    old = dispatcher.Dispatcher.compile
    dispatcher.Dispatcher.compile = lambda self, kinds: loaded.append(self.py_func.__qualname__) or old(self, kinds)
    rng, out = np.random.default_rng(0), np.zeros((2, 128), np.float32)
    for block in range(300):
        messages = [(3 * k, bytes([0x90 | k % 2, 30 + (block + k) % 60, 100])) for k in range(2)]
        messages += [(7, bytes([0xE0, 0, int(rng.integers(128))])), (9, bytes([0xB0, 64, int(rng.integers(128))]))]
        param = players[0].instrument.params[block % len(players[0].instrument.params)]
        player.hands.routes[0][20] = between(param, param.low, param.high)
        messages += [(11, bytes([0xB0, 20, int(rng.choice((0, 127)))]))]
        player.render(None, out, messages)
    assert player.error is None, player.error
print(json.dumps({"compiled": compiled, "loaded": loaded}))
"""


def test_nothing_is_compiled_while_playing_nor_twice_on_one_computer():
    """Whatever is struck and turned: all that there is to load was loaded before, and what was compiled once is there
    for the next process."""
    command = [sys.executable, "-c", HANDS_ON]
    told = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(2)]
    assert told[1]["compiled"] == []
    assert [one["loaded"] for one in told] == [[], []]


class RunsAway(Pluck):
    """Makes NaN from its fourth note on, and goes on so until its state is thrown away."""

    def process(self, state, events, n):
        block, state = super().process(state, events, n)
        if state.serial >= 4:
            block[:] = np.nan
        return block, state


def test_an_instrument_that_runs_away_is_silenced_and_starts_anew():
    one = player(RunsAway())
    notes = [(2000 * k, bytes([ON, 50 + k, 100])) for k in range(6)]
    sound = played(one, notes, 128 * 100)
    assert np.isfinite(sound).all()
    assert one.broken == 1
    assert [bool(np.abs(sound[:, at + 100 : at + 1500]).max() > 0.05) for at in range(0, 12_000, 2000)] == [
        True, True, True, False, True, True,
    ]  # fmt: skip
    assert any("ran away" in words for words in one.news())
    assert one.news() == []


class Breaks(Pluck):
    def process(self, state, events, n):
        if any(event.kind == "on" and event.pitch == 10 for event in events):
            raise ZeroDivisionError("broken")
        return super().process(state, events, n)


def test_an_error_is_kept_for_whoever_watches_and_silence_goes_out():
    one = player(Breaks())
    sound = played(one, [(0, bytes([ON, 50, 100])), (5000, bytes([ON, 10, 100])), (6000, bytes([ON, 60, 1]))], 12_800)
    assert isinstance(one.error, ZeroDivisionError)
    assert np.abs(sound[:, :4900]).max() > 0.05
    assert np.abs(sound[:, 5120:]).max() == 0


class Works(Pluck):
    """Has something in a process of its own."""

    trouble = ""

    def start(self):
        self.open = True

    def close(self):
        self.open = False


def test_what_instruments_have_elsewhere_is_started_watched_and_ended():
    inner = Works()
    chain = Chain(inner, [("reverb", Reverb())])
    one = Player([Playable("it", chain, {})], {0: [0]}, sample_rate=RATE, block=128)
    one.warm_up()
    assert inner.open
    inner.trouble = "the model is gone"
    assert one.news() == ["note: the model is gone"]
    assert one.news() == []
    inner.underruns = 3
    assert [words.partition(" came")[0] for words in one.news()] == ["note: 3 pieces"]
    assert one.news() == []
    one.close()
    assert not inner.open


def test_the_load_is_told_in_percentiles():
    load, rng = Load(), np.random.default_rng(0)
    assert load.percentile(99) == 0
    parts = rng.gamma(2.0, 0.05, 20_000)
    for part in parts:
        load.add(float(part))
    for percent in (50, 99, 99.99):
        exact = np.percentile(parts, percent, method="inverted_cdf")
        assert exact <= load.percentile(percent) <= exact + 0.001
    load.add(50.0)
    assert load.percentile(100) > 2


# --- devices ------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said_with_the_way_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # as if it were not installed
    for command in (["devices"], ["play", "pluck"]):
        assert cli.run(command) == 1
        words = capsys.readouterr().err
        assert "pip install 'soundloom[live]'" in words
        assert "soundloom render" in words


def test_a_device_is_found_by_number_or_by_a_part_of_its_name():
    names = ["USB Audio", "HDMI 1", "HDMI 2"]
    cards = [Soundcard(k, name, "ALSA", 0, 2, 48000, 5.0, 5.0) for k, name in enumerate(names)]
    assert one_of(cards, "usb", "device").number == 0
    assert one_of(cards, "2", "device").name == "HDMI 2"
    with pytest.raises(DeviceError, match=r"fits several \(1 HDMI 1, 2 HDMI 2\)"):
        one_of(cards, "hdmi", "device")
    with pytest.raises(DeviceError, match="did you mean HDMI 1"):
        one_of(cards, "HDNI 1", "device")
    with pytest.raises(DeviceError, match="there are none"):
        one_of(list[MidiPort](), "x", "MIDI port")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--driver", "jack"], "no JACK server is running"),
        (["--block", "7"], "16 to 8192"),
        (["--channel", "16", "--driver", "jack"], "0 to 15"),
        (["--learn", "cutof", "--driver", "jack"], "has a knob 'cutof'"),
    ],
)
def test_what_cannot_be_played_is_refused(arguments, words, capsys, monkeypatch):
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "soundloom-nowhere")
    jackserver.library()
    assert cli.run(["play", "pluck", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


# --- a JACK server ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jack():
    with jackserver.server() as process:
        yield process


def test_live_is_rendered_to_the_sample_and_without_delay(jack, tmp_path, capsys):
    """The server runs as fast as it can and waits for everyone, so that no busy machine can disturb what is asserted:
    a key that falls on a frame is heard from that frame on."""

    def drive(client):
        ear.connect("soundloom")
        client.set_freewheel(True)
        zero = fingers.play([(0, bytes([CC, 91, 0])), *((frame + 9600, message) for frame, message in PHRASE)])
        assert jackserver.until(lambda: ear.blocks and ear.blocks[-1][0] > zero + 9600 + 30_000)
        client.set_freewheel(False)
        return ear.heard(zero + 9600, 20_000)

    command = ["play", "--map", "0=pluck,release_s=0.5", "--driver", "jack", "--midi", "fingers", "--json"]
    with jackserver.ends(jackserver.Fingers(), jackserver.Ear()) as (fingers, ear):
        code, sound = jackserver.run_beside([*command, "--record", str(tmp_path / "a.wav")], drive)
    mixer = Mixer([Part(Pluck({"release_s": 0.5}), strip={"reverb": 0.0})])
    wanted, _ = mixer.process(mixer.begun(mixer.init_state(RATE)), MEANT, 20_000)
    np.testing.assert_allclose(sound, wanted, rtol=0, atol=1e-5)
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sample_rate"], told["block"], told["midi"]) == (RATE, 256, ["fingers:keys"])
    assert 0 < told["load"]["50"] <= told["load"]["99"] <= told["load"]["99.99"]
    assert told["seconds"] == pytest.approx(told["blocks"] * 256 / RATE)
    recorded, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == RATE
    assert len(recorded) / RATE == pytest.approx(told["recorded"]["seconds"])
    first = int(np.flatnonzero(np.abs(recorded[:, 0]) > 1e-4)[0])
    at = int(np.flatnonzero(np.abs(wanted[0]) > 1e-4)[0])
    np.testing.assert_allclose(recorded[first : first + 12_000].T, wanted[:, at : at + 12_000], atol=1e-4)
    assert np.abs(recorded[-1]).max() < 1e-5  # it ends without a click


def test_it_stops_by_itself_and_refuses_ports_that_are_not_there(jack, capsys):
    assert cli.run(["play", "--map", "3=pluck", "--driver", "jack", "--seconds", "0.3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] >= 0.3
    assert (told["midi"], told["recorded"], told["latency_ms"]) == ([], None, pytest.approx(1000 * 256 / RATE))
    assert cli.run(["play", "pluck", "--driver", "jack", "--midi", "nobody"]) == 1
    assert "has 'nobody' in its name" in capsys.readouterr().err
    assert cli.run(["play", "--map", "3=pluck", "--driver", "jack", "--channel", "4"]) == 1
    assert "--map 4=" in capsys.readouterr().err
    assert cli.run(["play", "pluck", "--driver", "jack", "--sample-rate", "44100"]) == 1
    assert f"runs at {RATE} Hz" in capsys.readouterr().err


FLOODED = """
import os, sys, time
from soundloom.devices import midi_ports
from soundloom.midiin import Inbox, MidiIn

(port,) = [port for port in midi_ports() if "fingers" in port.name]
inbox = Inbox()
for _ in range(60):
    listening = MidiIn(port, inbox)
    time.sleep(0.03)
    listening.close()
print(len(inbox.take(time.perf_counter(), 256, 48000)), flush=True)
os._exit(0)
"""


def test_a_midi_port_is_let_go_while_faders_move(jack):
    with jackserver.ends(jackserver.Fingers()) as (fingers,):
        fingers.waiting = [(32 * k, bytes([CC, 20, k % 128])) for k in range(1500 * 60)]
        process = subprocess.Popen([sys.executable, "-c", FLOODED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            heard, words = process.communicate(timeout=50)
            assert process.returncode == 0, words
            assert int(heard) > 500
        finally:
            process.kill()
            fingers.waiting = []


@contextmanager
def apart(*arguments, **how):
    """A command in a process of its own, which PortAudio ends if JACK's server ends first."""
    command = [sys.executable, "-m", "soundloom", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
    try:
        yield process
    finally:
        jackserver.ended(process)


def test_portaudio_plays_what_comes_through_a_midi_port(jack):
    with apart("devices", "--json") as process:
        found = json.loads(process.communicate(timeout=60)[0])
    if not found["sound"]:
        pytest.skip("this PortAudio knows no JACK, and there is no other sound device")
    assert [(card["inputs"], card["outputs"], card["sample_rate"]) for card in found["sound"]] == [(2, 2, RATE)]
    with jackserver.ends(jackserver.Fingers(), jackserver.Ear()) as (fingers, ear):
        with apart("play", "pluck,release_s=0.01", "--midi", "fingers", "--device", "system", "--json") as process:
            client = ear.client
            assert jackserver.until(lambda: client.get_all_connections("system:playback_1"), 60)
            ports = client.get_ports("PortAudio", is_audio=True, is_output=True)
            for theirs, mine in zip(ports, ear.ports, strict=True):
                client.connect(theirs, mine)
            notes = [(4800 * (k + 4), bytes([kind, 57 + k, 100])) for k in range(9) for kind in (ON, OFF)]
            zero = fingers.play([(0, bytes([CC, 91, 0])), *notes])
            assert jackserver.until(lambda: ear.blocks[-1][0] > zero + 14 * 4800)
            process.send_signal(signal.SIGINT)
            told = json.loads(process.communicate(timeout=60)[0])
            assert process.returncode == 0
        sounds = [ear.heard(zero + frame, 4000)[0] for frame, _ in notes[::2]]
    assert told["midi"] == ["fingers:keys"]
    onsets = [int(np.flatnonzero(np.abs(sound) > 0.1 * np.abs(sound).max())[0]) for sound in sounds]
    assert np.median(onsets) <= 2 * 256


LATE = """
import sys, threading, time
import numpy as np
from soundloom.live import Way

def late(heard, out, messages):
    end = time.perf_counter() + 1.2 * out.shape[1] / 48000
    while time.perf_counter() < end:
        np.flatnonzero(np.zeros(100))

def busy():
    while True:
        sum(range(1000))

threading.Thread(target=busy, daemon=True).start()
sys.setswitchinterval(1e-4)
for _ in range(6):
    backend = Way(driver=sys.argv[1], output="system", block=256).opened()
    backend.start(late)
    time.sleep(0.3)
    backend.stop()
print("stopped")
sys.stdout.flush()
import os
os._exit(0)
"""


@pytest.mark.parametrize("driver", ["portaudio", "jack"])
def test_it_stops_though_its_blocks_are_late(jack, driver):
    process = subprocess.Popen([sys.executable, "-c", LATE, driver], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.communicate(timeout=30)[0] == b"stopped\n"
    finally:
        process.kill()


@pytest.mark.parametrize("driver", ["portaudio", "jack"])
def test_a_device_that_goes_away_ends_it_cleanly_and_keeps_the_record(driver, tmp_path):
    path = tmp_path / "a.wav"
    with jackserver.server() as server, jackserver.ends(jackserver.Fingers()) as (fingers,):
        arguments = ("--driver", driver, "--midi", "fingers", "--record", path, "-q")
        with apart("play", "pluck", *map(str, arguments)) as process:
            connected = fingers.client.get_all_connections
            if not jackserver.until(lambda: connected("system:playback_1") or process.poll() is not None, 60):
                pytest.fail("it does not play")
            if process.poll() is not None and driver == "portaudio":
                pytest.skip("this PortAudio knows no JACK, and there is no other sound device")
            fingers.play([(100, bytes([ON, 57, 100])), (30_000, bytes([ON, 60, 100]))])
            server.terminate()
            _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert words.startswith("error: the sound device went away after ")
    assert words.count("\n") == 1
    sound, _ = soundfile.read(path)
    assert np.abs(sound).max() > 0.05


def test_a_server_that_stands_still_is_not_waited_for(tmp_path):
    arguments = ("play", "pluck", "--driver", "jack", "--midi", "fingers", "-q")
    with jackserver.server() as server, jackserver.ends(jackserver.Fingers()) as (fingers,), apart(*arguments) as play:
        assert jackserver.until(lambda: fingers.client.get_all_connections("system:playback_1"), 60)
        server.send_signal(signal.SIGSTOP)
        try:
            _, words = play.communicate(timeout=20)
        finally:
            server.send_signal(signal.SIGCONT)
    assert play.returncode == 1
    assert words.startswith("error: the sound device went away after ")


def test_who_stands_still_for_a_while_plays_on_and_one_end_is_enough(jack):
    arguments = ("play", "pluck", "--driver", "jack", "--midi", "fingers", "--json")
    with jackserver.ends(jackserver.Fingers()) as (fingers,), apart(*arguments) as play:
        assert jackserver.until(lambda: fingers.client.get_all_connections("system:playback_1"), 60)
        play.send_signal(signal.SIGSTOP)
        time.sleep(3)
        play.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert play.poll() is None
        for _ in range(3):
            play.send_signal(signal.SIGINT)
            time.sleep(0.02)
        told = json.loads(play.communicate(timeout=30)[0])
    assert play.returncode == 0
    assert told["seconds"] > 0.5


TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from soundloom import cli
cli.main(sys.argv[1:])
"""


def test_the_computers_keys_play_and_the_terminal_is_put_back(jack, tmp_path):
    """Through a terminal of its own: a for C4, Ctrl-C for the end."""
    termios = pytest.importorskip("termios")
    path, shown = tmp_path / "a.wav", bytearray()
    ours, theirs = os.openpty()
    before = termios.tcgetattr(ours)
    arguments = ["play", "subtractive,osc1_shape=0", "--keyboard", "--driver", "jack", "--record", str(path)]
    with jackserver.ends(jackserver.Ear()) as (ear,):
        command = [sys.executable, "-c", TERMINAL, *arguments]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        threading.Thread(target=drain, args=(ours, shown), daemon=True).start()
        assert jackserver.until(lambda: ear.client.get_all_connections("system:playback_1"), 60)
        during = termios.tcgetattr(ours)
        os.write(ours, b"a")
        assert jackserver.until(lambda: path.stat().st_size > 6 * RATE)
        os.write(ours, b"v")
        assert jackserver.until(lambda: b"velocity 110" in shown)
        os.write(ours, b"\x03")
        assert process.wait(60) == 0
    after = termios.tcgetattr(ours)
    os.close(theirs)
    assert before[3] & termios.ECHO
    assert not during[3] & (termios.ECHO | termios.ICANON)
    assert after == before
    assert b"xruns" in shown
    sound = soundfile.read(path)[0][:, 0]
    start = int(np.flatnonzero(np.abs(sound) > 0.01)[0])
    assert hertz(sound[start + 2000 : start + 14_000]) == pytest.approx(261.63, rel=0.002)


def drain(terminal, shown):
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            return
