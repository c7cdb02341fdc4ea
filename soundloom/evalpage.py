"""The page of an evaluation: figures, and beside them the sounds to check them by."""

from pathlib import Path

from soundloom.audio import Waveform
from soundloom.draw import Report, matrix_svg
from soundloom.evaluate import Evaluation
from soundloom.figures import Section, number

LONGEST_S = 6.0  # of a sound are on the page


def write_page(result: Evaluation, path: Path) -> None:
    """One self-contained HTML file."""
    facts = result.facts
    page = Report(f"How good is {facts.run.resolve().name}?", f"a {facts.family}, held against {facts.bank}")
    page.text(
        "Beside each figure stands what real sounds score, where there are enough of them: a model is good when it "
        "comes near that, not when a figure looks high. Brackets hold the true value about 19 times in 20."
    )
    for section in result.sections:
        page.section(section.title)
        _figures(page, section)
        if section.name == "recognition" and result.confusion:
            confusion = result.confusion
            page.figure(matrix_svg(confusion.counts, confusion.names, title="What (row) was taken for what (column)"))
        if section.name == "distances" and result.new:
            page.text("The first new sounds, as they came:")
            for name, sound in result.new:
                page.sound(name, _cut(sound))
        if section.name == "honesty" and result.pairs:
            page.text("The new sounds that come nearest to a training sound, each beside it:")
            for pair in result.pairs:
                page.text(f"New sound {pair.sample}, {number(pair.distance)} from {pair.path}")
                page.sound(f"new sound {pair.sample}", _cut(pair.made))
                page.sound(pair.path, _cut(pair.real), note="a training sound")
        if section.name == "closeness" and result.resyntheses:
            page.text("Some of them, each beside its re-synthesis:")
            for name, original, made in result.resyntheses:
                page.text(name)
                page.sound(name, _cut(original), note="the recording")
                page.sound(name, _cut(made), note="its re-synthesis")
    page.save(path)


def _figures(page: Report, section: Section) -> None:
    if section.words:
        page.text(section.words)
    if section.figures:
        headers = ["figure", "value", "beside", "what it says"]
        page.table(headers, [[f.title, f.text, f.yardsticks, f.help] for f in section.figures])
    if section.why_not:
        page.text(f"Not measured: {section.why_not}")


def _cut(sound: Waveform) -> Waveform:
    return Waveform(sound.samples[:, : int(LONGEST_S * sound.sample_rate)], sound.sample_rate)
