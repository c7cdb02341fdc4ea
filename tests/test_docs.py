"""What the documents say is true: the tree, the commands, the code."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from test_structure import PLACE, modules

from soundloom import factory
from soundloom.cli import app
from soundloom.instruments.engines import EFFECTS, ENGINES
from soundloom.instruments.patch import parsed, shipped

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted((name for name in app if name.isalpha()), key=lambda name: app[name].sort_key)  # as help shows them


def blocks(language: str) -> list[str]:
    every = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in every if name == language]


def shown_commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("soundloom ")]


def test_the_tree_is_true():
    """Every file, in the order of imports, with a comment."""
    tree = next(block for block in blocks("") if block.startswith("soundloom/"))
    lines = [line.partition("#") for line in tree.splitlines()[1:]]
    assert [place.strip() for place, _, _ in lines] == [
        name.replace(".", "/") + ".py" for name in sorted(modules(), key=PLACE.__getitem__)
    ]
    assert all(len(comment) > 10 for _, _, comment in lines)


@pytest.mark.parametrize("line", shown_commands())
def test_shown_commands_are_understood(line):
    app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_every_command_is_shown_and_explained():
    assert {line.split()[1] for line in shown_commands()} | {"demo"} == set(COMMANDS)
    assert re.findall(r"^\| `(\w+)` \| [a-z]", README.split("## From Python")[0], flags=re.MULTILINE) == list(COMMANDS)
    for name in COMMANDS:
        assert f"`{name}`" in README


def test_the_python_runs(tmp_path, monkeypatch):
    factory.make(tmp_path / "all", seed=0)
    (tmp_path / "my-sounds").mkdir()
    for path in sorted((tmp_path / "all").glob("*.wav"))[::12]:
        path.rename(tmp_path / "my-sounds" / path.name)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    assert "minutes=10" in code
    exec(code.replace("minutes=10", "steps=2, settings=['batch=2']"), {})
    assert len(list(tmp_path.glob("new-*.wav"))) == 16


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"soundloom.{name}"))
    assert result.failed == 0


@pytest.mark.parametrize("command", ["setup", "demo", "test", "test-slow", "check", "bench"])
def test_make_has_what_the_documents_name(command):
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_every_instrument_has_a_line_a_sound_and_a_picture():
    page = (ROOT / "docs" / "instruments.md").read_text(encoding="utf-8")
    for slug, name in [(f"engine-{name}", name) for name in ENGINES] + [(name, name) for name in shipped()]:
        assert f"| `{name}` |" in page
        for suffix in ("ogg", "png"):
            assert f"(instruments/{slug}.{suffix})" in page
            assert (ROOT / "docs" / "instruments" / f"{slug}.{suffix}").stat().st_size > 500
    for name in EFFECTS:
        assert f"### {name} (effect)" in page
    (example,) = re.findall(r"^```toml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert parsed(example.encode(), where="the page").effects[0]["effect"] == "chorus"
