"""The licence beside the sounds goes the whole way, to the model's card."""

import numpy as np
import pytest
import soundfile

from soundloom import SoundBank, licence

README = """# Old drums

Recorded in a kitchen.

## Licence

Creative Commons Attribution 4.0, by Ada.

## Thanks
To all.
"""


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    t = np.arange(8000) / 22050
    for hz in (220, 330, 440):
        soundfile.write(folder / f"{hz}.wav", np.sin(2 * np.pi * hz * t) * np.exp(-9 * t), 22050)
    return folder


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("LICENSE", "CC0 1.0 Universal\n\nThe laws of most jurisdictions", "CC0 1.0 Universal"),
        ("licence.txt", "\nMine, ask me\n", "Mine, ask me"),
        ("COPYING.md", "CC BY 4.0", "CC BY 4.0"),
        ("README.md", README, "Creative Commons Attribution 4.0, by Ada."),
        ("readme.txt", "Drums.\nThese are in the public domain.", "These are in the public domain."),
        ("README", "Drums, recorded in a kitchen.", None),
        ("LICENSE.txt", "", None),
    ],
)
def test_a_bank_keeps_the_licence_of_its_sounds(sounds, tmp_path, file, text, name):
    (sounds / file).write_text(text)
    bank = SoundBank.scan(sounds, tmp_path / "bank")
    assert licence.name(bank.folder) == name
    assert (bank.folder / "LICENSE").exists() == (name is not None)
    page = bank.report().read_text()
    assert (name or "No licence lies beside the sounds") in page


def test_a_licence_file_goes_before_a_readme_and_is_kept_whole(sounds, tmp_path):
    (sounds / "README.md").write_text(README)
    (sounds / "LICENSE").write_text("CC0\n\nevery word of it\n")
    bank = SoundBank.scan(sounds, tmp_path / "bank")
    assert (bank.folder / "LICENSE").read_text() == "CC0\n\nevery word of it\n"
