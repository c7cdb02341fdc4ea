"""Fixtures shared by all tests: real recordings where they are at hand, and small sounds of known content."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import soundloom  # noqa: F401  (sets OMP_WAIT_POLICY before torch loads)

# Some tests fork, and a pool of threads does not survive a fork: the child would wait for it for ever. One thread has
# no pool; it also makes results repeatable, and is no slower on sounds as short as these.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    """What Soundloom keeps for the next time goes into a folder of the tests', not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("SOUNDLOOM_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def sounds() -> Path:
    """The folder of real recordings that `SOUNDLOOM_SOUNDS` names; without it the test is skipped and counted."""
    folder = os.environ.get("SOUNDLOOM_SOUNDS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real recordings: set SOUNDLOOM_SOUNDS to their folder")
    return Path(folder)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    missing = [r for r in terminalreporter.stats.get("skipped", []) if "SOUNDLOOM_SOUNDS" in str(r.longrepr)]
    if missing:
        terminalreporter.write_line(f"{len(missing)} tests on real recordings did not run: SOUNDLOOM_SOUNDS is not set")
