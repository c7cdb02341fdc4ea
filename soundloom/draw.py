"""Pictures and pages: spectrograms as PNG, curves as SVG, and one self-contained HTML report. No plotting library.

Pictures stand on light and dark pages alike: axes are mid-grey or take the colour of the text around them.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from soundloom.audio import Waveform
from soundloom.paths import replacing

# Magma, a colour map whose lightness grows evenly with the value (van der Walt and Smith, 2015): every eighth of it.
MAGMA = [
    (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122),
    (229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191),
]  # fmt: skip
# Ten colours told apart by most colour-blind eyes and readable on white and on black, mid in lightness.
COLOURS = [
    "#3b82c4", "#d9722e", "#3f9b5f", "#c2527d", "#8a6fc9", "#b08a1e", "#2f9c9c", "#c8504a", "#7d8a3c", "#8c7a6b",
]  # fmt: skip
GREY = (128, 128, 128)
LEVELS = 192  # palette entries of a spectrogram that are colours; the rest are shades of the axis text
LEFT, BOTTOM = 30, 15  # the margins of a spectrogram, in pixels
LINE = 10  # the height of its letters
LOWEST_HZ = 30.0
QUIETEST_DB = -50.0  # what peaks below this is drawn as quiet as it is: a model that has learnt nothing looks so


def spectrogram_rows(sample_rate: int, rows: int) -> NDArray[np.float64]:
    """The frequency in Hz at the centre of each of `rows` picture rows, highest first, evenly spaced in octaves."""
    edge = np.linspace(math.log(sample_rate / 2), math.log(min(LOWEST_HZ, sample_rate / 20)), rows + 1)
    return np.exp((edge[:-1] + edge[1:]) / 2)


def spectrogram_png(waveform: Waveform, *, width: int = 480, height: int = 200, range_db: float = 80.0) -> bytes:
    """A picture of a sound: time to the right, octaves upwards, `range_db` below the loudest cell is black.

    Rows between two bins are interpolated, rows over several bins show the loudest, so that a partial is never lost.
    """
    rows, columns = height - BOTTOM, width - LEFT
    level = _log_spectrogram(waveform, rows=rows, columns=columns)
    shade = np.clip((level - max(level.max(), QUIETEST_DB)) / range_db + 1, 0, 1)

    # A palette picture is a third of the size of a true-colour one; the text has its own part of the palette.
    text = Image.new("L", (width, height))
    pen, font = ImageDraw.Draw(text), ImageFont.load_default(size=10)
    hz = spectrogram_rows(waveform.sample_rate, rows)
    below = rows + LINE  # the label below, from which the next one keeps its distance in a low picture
    for tick in [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000]:
        if hz[-1] <= tick <= hz[0]:
            y = round(float(np.interp(-math.log(tick), -np.log(hz), np.arange(rows))))
            pen.line([(LEFT - 4, y), (LEFT - 1, y)], fill=255)
            at = min(max(y, 5), rows - 5)
            if below - at >= LINE:
                label = f"{tick // 1000}k" if tick >= 1000 else str(tick)
                pen.text((LEFT - 6, at), label, fill=255, font=font, anchor="rm")
                below = at
    seconds = max(waveform.seconds, 1 / waveform.sample_rate)
    for tick_s in _ticks(0.0, seconds, 6):
        x = LEFT + round(tick_s / seconds * (columns - 1))
        pen.line([(x, rows), (x, rows + 3)], fill=255)
        anchor = "ra" if x > width - 20 else "ma"
        pen.text((x, rows + 3), _short_seconds(tick_s), fill=255, font=font, anchor=anchor)

    pixels = LEVELS + (np.asarray(text) // 4).astype(np.uint8)  # 192..255
    pixels[:rows, LEFT:] = np.round(shade * (LEVELS - 1)).astype(np.uint8)
    place = np.linspace(0, len(MAGMA) - 1, LEVELS)
    colours = np.stack([np.interp(place, np.arange(len(MAGMA)), channel) for channel in np.array(MAGMA).T], axis=1)
    picture = Image.fromarray(pixels, mode="P")
    picture.putpalette(np.round(colours).astype(np.uint8).tobytes() + bytes(GREY) * (256 - LEVELS))
    alpha = bytes([255] * LEVELS + [4 * i for i in range(256 - LEVELS)])
    out = io.BytesIO()
    picture.save(out, "PNG", transparency=alpha, optimize=True)
    return out.getvalue()


def _log_spectrogram(waveform: Waveform, *, rows: int, columns: int) -> NDArray[np.float32]:
    """Level in dB, [rows, columns], log-spaced frequencies, highest first."""
    rate, samples = waveform.sample_rate, np.asarray(waveform.samples, np.float32)
    length = 2 ** round(math.log2(0.046 * rate))  # 2048 at 44.1 kHz
    total = max(samples.shape[1], 1)
    per_column = min(4, max(1, total // (columns * length // 2)))  # long sounds: several frames a column, averaged
    centres = ((np.arange(columns * per_column) + 0.5) * total / (columns * per_column)).astype(int)
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    power: NDArray[np.float32] = np.zeros((columns, length + 1), np.float32)
    for channel in samples:
        padded = np.pad(channel, (length // 2, length))
        frames = padded[centres[:, None] + np.arange(length)] * window
        spectra = np.abs(np.fft.rfft(frames, 2 * length).astype(np.complex64)) ** 2  # zero-padded: smooth low rows
        power += spectra.reshape(columns, per_column, -1).mean(axis=1)
    level = 10 * np.log10(power / (window.sum() / 2) ** 2 + 1e-14)  # [columns, bins]

    bin_hz = rate / (2 * length)
    centre = np.clip(spectrogram_rows(rate, rows)[::-1] / bin_hz, 0, level.shape[1] - 1.001)  # lowest first
    below = centre.astype(int)
    part = (centre - below).astype(np.float32)
    between = level[:, below] * (1 - part) + level[:, below + 1] * part
    edge = np.round(np.sqrt(np.append(centre[1:], centre[-1]) * centre)).astype(int)
    low = np.concatenate([[below[0]], edge[:-1]])
    loudest = np.maximum.reduceat(level, low, axis=1)
    return np.where(edge - low > 1, loudest, between).T[::-1].astype(np.float32)


def waveform_svg(waveform: Waveform, *, width: int = 480, height: int = 80) -> str:
    """The outline of a sound: the lowest and highest sample under each pixel, all channels together."""
    samples = np.asarray(waveform.samples, np.float32)
    columns = min(width, samples.shape[1])
    if columns:
        starts = np.arange(columns) * samples.shape[1] // columns
        high = np.maximum.reduceat(samples.max(axis=0), starts)
        low = np.minimum.reduceat(samples.min(axis=0), starts)
    else:
        columns, high, low = 1, np.zeros(1), np.zeros(1)
    x = (np.arange(columns) + 0.5) * width / columns
    middle, scale = height / 2, (height / 2 - 1)
    top = [f"{a:.1f},{middle - scale * min(b, 1):.1f}" for a, b in zip(x, high, strict=True)]
    bottom = [f"{a:.1f},{middle - scale * max(b, -1):.1f}" for a, b in zip(x, low, strict=True)]
    outline = " ".join(top + bottom[::-1])
    return (
        f'{_svg(width, height, "waveform")}<line x1="0" x2="{width}" y1="{middle}" y2="{middle}" stroke="currentColor" '
        f'stroke-opacity=".25"/><polygon points="{outline}" fill="{COLOURS[0]}" stroke="{COLOURS[0]}" '
        'stroke-width=".7"/></svg>'
    )


def curves_svg(
    series: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x_label: str, y_label: str, log_y: bool = False
) -> str:
    """Lines over one axis, one colour a name; what is not finite (or not positive, with `log_y`) is left out."""
    kept = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y)]
        for name, points in series.items()
    }
    every = [point for points in kept.values() for point in points] or [(0.0, 1.0), (1.0, 1.0)]
    plot = _Plot(
        x=(min(x for x, _ in every), max(x for x, _ in every)),
        y=(min(y for _, y in every), max(y for _, y in every)),
        log_y=log_y,
        legend=list(kept) if len(kept) > 1 else (),  # one line is named by the title
    )
    for i, points in enumerate(kept.values()):
        line = " ".join(f"{plot.across(x):.1f},{plot.up(y):.1f}" for x, y in _thinned(points))
        colour = COLOURS[i % len(COLOURS)]
        plot.add(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>'
        )
        if len(points) == 1:
            plot.add(_dot(plot.across(points[0][0]), plot.up(points[0][1]), colour, list(kept)[i]))
    return plot.svg(title=title, x_label=x_label, y_label=y_label)


def scatter_svg(
    points: Sequence[tuple[float, float]], *, groups: Sequence[str], names: Sequence[str], title: str
) -> str:
    """A map: one dot a sound, one colour a group, the name shown under the pointer. The axes have no unit."""
    kinds = sorted(set(groups), key=lambda group: (-list(groups).count(group), group))
    colour = {kind: COLOURS[i] if i < len(COLOURS) else "#888888" for i, kind in enumerate(kinds)}
    xs, ys = [x for x, _ in points] or [0.0, 1.0], [y for _, y in points] or [0.0, 1.0]
    legend = kinds[: len(COLOURS)] + ([f"{len(kinds) - len(COLOURS)} more"] if len(kinds) > len(COLOURS) else [])
    plot = _Plot(x=(min(xs), max(xs)), y=(min(ys), max(ys)), legend=legend, height=420, ticks=False)
    for (x, y), group, name in zip(points, groups, names, strict=True):
        plot.add(_dot(plot.across(x), plot.up(y), colour[group], f"{name} ({group})"))
    return plot.svg(title=title, x_label="", y_label="")


def histogram_svg(values: ArrayLike, *, title: str, x_label: str, bins: int = 30) -> str:
    """How often which value occurs; values that are not finite are left out."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    counts, edges = np.histogram(array, bins=bins) if len(array) else (np.zeros(1, int), np.array([0.0, 1.0]))
    plot = _Plot(x=(float(edges[0]), float(edges[-1])), y=(0.0, float(max(counts.max(), 1))), pad=False)
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        x, y = plot.across(left), plot.up(float(count))
        hint = f"<title>{left:.4g} to {right:.4g}: {count}</title>"
        plot.add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(plot.across(right) - x - 1, 1):.1f}" '
            f'height="{plot.up(0.0) - y:.1f}" fill="{COLOURS[0]}">{hint}</rect>'
        )
    return plot.svg(title=title, x_label=x_label, y_label="sounds")


def matrix_svg(counts: ArrayLike, names: Sequence[str], *, title: str) -> str:
    """Which was taken for which: counts [true, said], a cell as dark as its share of the row. `names` of the columns;
    rows are named alike, and their sums stand at the right."""
    table = np.asarray(counts, np.int64)
    cell, left, top = 24, 16 + 7 * max(map(len, map(_cut, names))), 34
    size = cell * len(names)
    width, height = left + size + 44, top + size + left - 8
    parts = [_svg(width, height, title), _text(left, 17, title, anchor="start", size=15, weight=600)]
    for i, name in enumerate(names):
        middle = i * cell + cell / 2
        total = int(table[i].sum())
        parts.append(_text(left - 8, top + middle + 4, _cut(name), "end"))
        parts.append(_text(left + size + 8, top + middle + 4, str(total), "start"))
        x, y = left + middle + 4, top + size + 8
        parts.append(f'<g transform="translate({x:.0f} {y}) rotate(-90)">{_text(0, 0, _cut(name), "end")}</g>')
        for j, count in enumerate(table[i]):
            share = count / max(total, 1)
            colour = COLOURS[0] if i == j else COLOURS[1]
            hint = html.escape(f"{name} taken for {names[j]}: {count} of {total}")
            parts.append(
                f'<rect x="{left + j * cell}" y="{top + i * cell}" width="{cell - 1}" height="{cell - 1}" '
                f'fill="{colour}" fill-opacity="{0.06 + 0.94 * share:.2f}"><title>{hint}</title></rect>'
            )
            if count:
                parts.append(_text(left + j * cell + cell / 2, top + i * cell + 16, str(count), size=11))
    return "".join([*parts, "</svg>"])


class _Plot:
    """Axes with ticks at round numbers, a legend, and what is added between them."""

    def __init__(
        self,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        log_y: bool = False,
        legend: Sequence[str] = (),
        height: int = 260,
        ticks: bool = True,
        pad: bool = True,
    ) -> None:
        self.width, self.ticks, self.log_y, self.legend = 480, ticks, log_y, legend
        self.left, self.right, self.top = (58 if ticks else 10), 12, 30
        self.legend_rows = self._legend_rows()
        self.bottom = (40 if ticks else 10) + 16 * len(self.legend_rows)
        self.height = height + 16 * len(self.legend_rows)
        self.x, self.y = _widened(*x, 0.0 if ticks else 0.03), (
            _widened(math.log10(y[0]), math.log10(y[1]), 0.05) if log_y else _widened(*y, 0.05 if pad else 0.0)
        )  # fmt: skip
        self.parts: list[str] = []

    def across(self, x: float) -> float:
        return self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right)

    def up(self, y: float) -> float:
        place = ((math.log10(y) if self.log_y else y) - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - self.bottom - place * (self.height - self.top - self.bottom)

    def add(self, part: str) -> None:
        self.parts.append(part)

    def svg(self, *, title: str, x_label: str, y_label: str) -> str:
        base, end = self.height - self.bottom, self.width - self.right
        axes = [_svg(self.width, self.height, title)]
        axes.append(_text(self.left, 17, title, anchor="start", size=15, weight=600))
        frame = f'<rect x="{self.left}" y="{self.top}" width="{end - self.left}" height="{base - self.top}"'
        axes.append(frame + ' fill="none" stroke="currentColor" stroke-opacity=".25"/>')
        if self.ticks:
            for value in _ticks(*self.x, 7):
                at = self.across(value)
                axes.append(_line(at, base, at, base + 4, 0.5) + _text(at, base + 16, _number(value)))
            for value in self._y_ticks():
                at = self.up(value)
                axes.append(_line(self.left, at, end, at, 0.12) + _text(self.left - 6, at + 4, _number(value), "end"))
            axes.append(_text((self.left + end) / 2, base + 32, x_label))
            middle = (self.top + base) / 2
            axes.append(f'<g transform="translate(12 {middle:.0f}) rotate(-90)">{_text(0, 0, y_label)}</g>')
        number = 0
        for row, names in enumerate(self.legend_rows):
            at, y = float(self.left), self.height - 16 * (len(self.legend_rows) - row) + 8
            for name in names:
                colour = COLOURS[number] if number < len(COLOURS) else "#888888"
                axes.append(f'<rect x="{at:.0f}" y="{y - 9}" width="10" height="10" rx="2" fill="{colour}"/>')
                axes.append(_text(at + 14, y, _cut(name), "start"))
                at, number = at + _legend_width(name), number + 1
        return "".join([*axes, *self.parts, "</svg>"])

    def _y_ticks(self) -> list[float]:
        if not self.log_y:
            return _ticks(*self.y, 6)
        low, high = 10 ** self.y[0], 10 ** self.y[1]
        decades = range(math.floor(self.y[0]), math.ceil(self.y[1]) + 1)
        steps = [1, 2, 5] if self.y[1] - self.y[0] < 3 else [1]
        return [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high] or _ticks(low, high, 5)

    def _legend_rows(self) -> list[list[str]]:
        rows: list[list[str]] = []
        left = 0.0
        for name in self.legend:
            if not rows or left + _legend_width(name) > self.width - self.left - self.right:
                rows, left = [*rows, []], 0.0
            rows[-1].append(name)
            left += _legend_width(name)
        return rows


def _cut(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _legend_width(name: str) -> float:
    return 30 + 6.8 * len(_cut(name))


def _svg(width: float, height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{html.escape(title)}" font-family="system-ui,sans-serif">'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 12, weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="currentColor">{html.escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="currentColor" stroke-opacity="{opacity}"/>'


def _dot(x: float, y: float, colour: str, name: str) -> str:
    hint = html.escape(name)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity=".8"><title>{hint}</title></circle>'


def _thinned(points: list[tuple[float, float]], most: int = 600) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its neighbourhood: a long log stays a light page."""
    if len(points) <= most:
        return points
    return [tuple(np.mean(part, axis=0)) for part in np.array_split(np.array(points), most)]


def _widened(low: float, high: float, part: float) -> tuple[float, float]:
    """A range with some room on both sides, never empty."""
    room = (high - low) * part if high > low else max(abs(low) * 0.1, 0.5)
    return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Up to `most` round numbers (1, 2 or 5 times a power of ten) from low to high."""
    span = max(high - low, 1e-12)
    step = next(s * 10.0**d for d in range(-13, 13) for s in (1, 2, 5) if span / (s * 10.0**d) <= most - 1 or d == 12)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _short_seconds(value: float) -> str:
    return f"{value * 1000:.4g} ms" if 0 < value < 0.1 else f"{value:.4g} s"


STYLE = """
:root{color-scheme:light dark;--ink:#1c1d21;--soft:#5d616b;--paper:#fbfaf8;--card:#fff;--edge:#e3e0da;--accent:#b6367a}
@media (prefers-color-scheme:dark){
:root{--ink:#e9e7e2;--soft:#a3a7b0;--paper:#15161a;--card:#1e2026;--edge:#33363f;--accent:#fb8761}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0 .2rem}
h2{font-size:1.25rem;margin:2.4rem 0 .7rem;padding-top:.7rem;border-top:1px solid var(--edge)}
p{max-width:70ch;margin:.5rem 0;overflow-wrap:anywhere;white-space:pre-line}
.soft{color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:1rem 0}
a{color:var(--accent)}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .8rem .35rem 0;text-align:left;border-bottom:1px solid var(--edge);vertical-align:top}
th{font-weight:600;color:var(--soft)}
td{overflow-wrap:anywhere;min-width:8ch}
td.n,th.n{text-align:right;overflow-wrap:normal;white-space:nowrap}
figure{margin:0;min-width:0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,29rem),1fr));gap:1.4rem;margin:1rem 0}
figure svg,figure img,.card svg,.card img{max-width:100%;height:auto;display:block}
figcaption,.note{color:var(--soft);font-size:.88rem;margin-top:.3rem;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem;margin:1rem 0}
.card{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:.8rem;min-width:0}
.card h3{font-size:.98rem;margin:0 0 .5rem;overflow-wrap:anywhere}
.card img{width:100%}
.card svg{width:92.5%;margin-left:7.5%}
audio{width:100%;height:36px;margin-top:.5rem;display:block}
"""


class Report:
    """One HTML page that holds everything it shows: pictures, sounds, tables. Every name and text is escaped."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._sections: list[str] = []
        self._parts: list[str] = []
        self._group = ""

    def section(self, title: str) -> None:
        self._add(f'<h2 id="s{len(self._sections)}">{html.escape(title)}</h2>')
        self._sections.append(title)

    def text(self, text: str) -> None:
        self._add(f"<p>{html.escape(text)}</p>")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        """Numbers stand to the right and are shown with four digits."""
        numeric = [bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(headers))]
        mark = [' class="n"' if n else "" for n in numeric]
        head = "".join(f"<th{m}>{html.escape(text)}</th>" for m, text in zip(mark, headers, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{m}>{html.escape(_cell(v))}</td>" for m, v in zip(mark, row, strict=True)) + "</tr>"
            for row in rows
        )
        self._add(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')

    def figure(self, svg_or_png: str | bytes, *, caption: str = "") -> None:
        """A picture from this module: SVG as text, or PNG as bytes."""
        words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._add(f"<figure>{_picture(svg_or_png, caption)}{words}</figure>", group="figures")

    def sound(self, name: str, waveform: Waveform, *, note: str = "", picture: bool = True) -> None:
        """A player, with the spectrogram and the outline above it. Sounds that follow each other stand side by side."""
        shown = ""
        if picture:
            shown = _picture(spectrogram_png(waveform, width=400, height=170), f"spectrogram of {name}")
            shown += waveform_svg(waveform, width=400, height=44)
        words = f'<div class="note">{html.escape(note)}</div>' if note else ""
        self._add(
            f'<div class="card"><h3>{html.escape(name)}</h3>{shown}<audio controls preload="metadata" '
            f'aria-label="{html.escape(name)}" src="{_audio_uri(waveform)}"></audio>{words}</div>',
            group="cards",
        )

    def save(self, path: Path | str) -> None:
        """Writes the page in one step: a crash leaves the old one."""
        self._add("")
        links = "".join(f'<a href="#s{i}">{html.escape(title)}</a>' for i, title in enumerate(self._sections))
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body><main>"
            f'<h1>{html.escape(self.title)}</h1><p class="soft">{html.escape(self.subtitle)}</p>'
            f"<nav>{links}</nav>{''.join(self._parts)}</main></body></html>\n"
        )
        with replacing(path) as temporary:
            temporary.write_bytes(page.encode("utf-8", "replace"))  # a file name may hold what is no text at all

    def _add(self, part: str, *, group: str = "") -> None:
        """Parts of one group stand side by side where the screen is wide enough."""
        if group != self._group:
            self._parts.append(("</div>" if self._group else "") + (f'<div class="{group}">' if group else ""))
            self._group = group
        self._parts.append(part)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "–" if not math.isfinite(value) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _picture(svg_or_png: str | bytes, words: str) -> str:
    if isinstance(svg_or_png, str):
        return svg_or_png
    data = base64.b64encode(svg_or_png).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def _audio_uri(waveform: Waveform) -> str:
    """16-bit FLAC, which every current browser plays: exact, and half the size of a WAV."""
    out = io.BytesIO()
    samples = np.clip(waveform.samples[:2].T, -1, 1)
    soundfile.write(out, samples, waveform.sample_rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(out.getvalue()).decode()}"
