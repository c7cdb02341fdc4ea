"""Files that are whole or not there, folders that one process at a time writes."""

import subprocess
import sys

import pytest

from soundloom.errors import BankError, StorageError
from soundloom.paths import replacing, sole_writer


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as part:
        part.write_text("half \udcff", encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["facts.json"]
    assert path.read_text() == "old"
    with replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "bank").write_text("no folder")
    with pytest.raises(StorageError, match="Not a directory"), replacing(tmp_path / "bank/facts.json") as part:
        part.write_text("new")


def test_one_process_writes_a_folder_and_clears_up_after_a_killed_one(tmp_path):
    (tmp_path / ".bank.json.123.part").write_text("half")
    (tmp_path / "a part.wav").write_text("somebody's")
    (tmp_path / ".hidden.part").write_text("somebody's")
    with sole_writer(tmp_path, refusal=BankError("busy")):
        assert {file.name for file in tmp_path.iterdir()} == {"a part.wav", ".hidden.part"}
        code = f"""
from pathlib import Path
from soundloom.errors import BankError
from soundloom.paths import sole_writer
try:
    with sole_writer(Path({str(tmp_path)!r}), refusal=BankError("busy")):
        print("came in")
except BankError as error:
    print(error)
"""
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert other.stdout == "busy\n"
    with sole_writer(tmp_path, refusal=BankError("busy")):
        pass
