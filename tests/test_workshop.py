"""The process in which models run: what it is told arrives, its end is noticed, and it never outlives its player."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from soundloom.instruments.workshop import Workshop

pytestmark = pytest.mark.alone

HERE = Path(__file__).parent
PATIENCE_S = 60.0


def until(condition):
    """Waits for something that another process does."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
    return found


def gone(process_id):
    """Whether a process has ended; one that nobody has yet buried has."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    shop = Workshop("jobs:echo", {"word": "here"})
    shop.start()
    yield shop
    shop.close()


def test_messages_and_sounds_come_back_in_order(shop):
    for number in range(20):
        shop.tell({"number": number, "samples": 1000 * number})
    found = []
    until(lambda: found.extend(shop.arrived()) or len(found) == 20)
    assert shop.ready == "here"
    assert [message["number"] for message, _ in found] == list(range(20))
    for number, (_, sound) in enumerate(found):
        np.testing.assert_array_equal(sound, np.arange(1000 * number))
        assert sound.flags.writeable, "a kernel that is given read-only arrays too is compiled twice"


def test_no_code_is_taken_from_the_folder_it_is_started_in(monkeypatch, tmp_path):
    """A folder of sounds from a stranger may hold a file that is named as a library is."""
    (tmp_path / "tempfile.py").write_text("raise SystemExit('a stranger was here')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    shop = Workshop("jobs:echo", {"word": "here"})
    shop.start()
    assert until(lambda: shop.ready or shop.trouble) == "here"
    shop.close()


def test_telling_never_waits(shop):
    """Half a megabyte that nobody reads yet: far more than a pipe holds."""
    until(lambda: shop.ready)
    shop.tell({"sleep": 0.5})
    start = time.monotonic()
    for number in range(50):
        shop.tell({"number": number, "ballast": "x" * 10_000})
    assert shop.arrived() == []
    assert time.monotonic() - start < 0.4
    found = []
    until(lambda: found.extend(shop.arrived()) or len(found) == 51)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda shop: shop.tell({"die": "out of clay"}), "RuntimeError: out of clay"),
        (lambda shop: shop.tell({"refuse": "the folder is gone"}), "status 1: the folder is gone"),
        (lambda shop: shop.tell({"stop": 1}), "status 3"),
        (lambda shop: os.kill(shop.process_id, signal.SIGKILL), "signal 9"),
    ],
    ids=["an error", "a refusal", "an exit", "killed"],
)
def test_its_end_is_noticed_and_it_starts_again(shop, end, words):
    until(lambda: shop.ready)
    assert shop.running
    assert shop.trouble == ""
    end(shop)
    assert words in until(lambda: shop.trouble)
    assert not shop.running
    shop.tell({"number": 1})  # nobody hears it, and nobody minds
    shop.start()
    shop.tell({"number": 2})
    assert until(shop.arrived)[0][0] == {"number": 2}
    assert shop.trouble == ""


def test_closing_ends_the_process(shop):
    process_id = until(lambda: shop.ready and shop.process_id)
    shop.close()
    assert gone(process_id)
    assert shop.trouble == ""
    assert shop.arrived() == []


def test_one_that_is_busy_is_ended_too(shop):
    process_id = until(lambda: shop.ready and shop.process_id)
    shop.tell({"sleep": 60})
    shop.close()
    assert gone(process_id)


def test_one_that_is_forgotten_ends(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    shops = [Workshop("jobs:echo", {"word": "here"})]
    shops[0].start()
    process_id = until(lambda: shops[0].ready and shops[0].process_id)
    shops.clear()
    until(lambda: gone(process_id))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_it_ends_with_its_player(number):
    code = (
        "from soundloom.instruments.workshop import Workshop\n"
        "import time\n"
        "shop = Workshop('jobs:echo', {'word': 'here'})\n"
        "shop.start()\n"
        "while not shop.ready: time.sleep(0.01)\n"
        "print(shop.process_id, flush=True)\n"
        "time.sleep(60)\n"
    )
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    player = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}
    )
    with player:
        process_id = int(player.stdout.readline())
        assert not gone(process_id)
        player.send_signal(number)
        player.wait()
        until(lambda: gone(process_id))


def test_a_player_that_ends_by_itself_leaves_nothing_behind():
    """No `close`: the end of the program is enough."""
    code = (
        "from soundloom.instruments.workshop import Workshop\n"
        "import time\n"
        "shop = Workshop('jobs:echo', {'word': 'here'})\n"
        "shop.start()\n"
        "while not shop.ready: time.sleep(0.01)\n"
        "print(shop.process_id)\n"
    )
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr == ""
    until(lambda: gone(int(done.stdout)))
