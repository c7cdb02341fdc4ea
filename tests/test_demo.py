"""The demo, the whole of it, on a folder with names that bite."""

import json
import re
import shlex

import numpy as np
import pytest

import soundloom as sl
from soundloom import cli, factory

EVIL = "<script>alert(1)</script> & 'quote' 🥁"


@pytest.mark.slow
def test_the_demo_does_all_it_says(tmp_path, capsys):
    factory.make(tmp_path / "all", seed=0)
    folder = tmp_path / "my sounds"
    folder.mkdir()
    for i, path in enumerate(sorted((tmp_path / "all").glob("*.wav"))[::9]):
        path.rename(folder / f"{path.stem.split('_')[0]}_{i} {EVIL.replace('/', '')}.wav")
    (folder / "broken.wav").write_text("not a sound")
    command = ["demo", str(folder), "-o", str(tmp_path / "out"), "--minutes", "1", "--json"]
    assert cli.run(command) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)

    assert len(document["sounds"]) == 16
    made = [sl.read(path) for path in sorted((tmp_path / "out" / "sounds").glob("*.wav"))]
    assert len(made) == 16
    assert all(np.abs(sound.samples).max() > 0.001 for sound in made)
    assert len({sound.samples.tobytes() for sound in made}) == 16
    assert len(list((tmp_path / "out" / "morph").glob("*.wav"))) == 8
    assert sl.read(tmp_path / "out" / "phrase.wav").seconds > 8
    assert [entry["path"] for entry in document["bank"]["left_out"]] == ["broken.wav"]
    for family in ("vae", "codec"):
        assert sl.load(tmp_path / "out" / family, device="cpu").family == family
        assert document["figures"][family]["log_mel_distance"] > 0

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("<audio") >= 16 + 8 + 3 + 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    for line in err.split("Try next:")[1].strip().splitlines():
        cli.app.parse_args(shlex.split(line.split("#")[0])[1:], exit_on_error=False, print_error=False)

    assert cli.run(command) == 0, "the same command again finds everything done"
    again = json.loads(capsys.readouterr().out)
    assert again["training"]["vae"]["already"]
    assert again["sounds"] == document["sounds"]
