"""The map of a bank as a picture and as a page: a dot a sound, heard when it is clicked; in space, turned by hand."""

import base64
import io
import json
from typing import Any

import numpy as np
import soundfile

from soundloom.atlas import Atlas, names
from soundloom.audio import Waveform, resample
from soundloom.bank import SoundBank, spread_evenly
from soundloom.draw import COLOURS, Report, scatter_svg
from soundloom.paths import replacing

PLAYERS = 400  # sounds that the page holds: a map of thousands would be a page of hundreds of megabytes
PLAYED_S, PLAYED_RATE = 1.5, 24000
_FADE_S = 0.02

# A dot that is clicked plays; arrow keys are left to the page.
_CLICK = """
(() => {
  const svg = document.currentScript.closest('svg'), sounds = DATA, dots = svg.querySelectorAll('circle');
  let player = null, last = null;
  dots.forEach((dot, i) => {
    if (!sounds[i]) { dot.setAttribute('fill-opacity', '.25'); return; }
    dot.style.cursor = 'pointer';
    dot.addEventListener('click', () => {
      if (player) player.pause();
      if (last) last.removeAttribute('stroke');
      dot.setAttribute('stroke', 'currentColor'); dot.setAttribute('stroke-width', '2'); last = dot;
      player = new Audio('data:audio/mpeg;base64,' + sounds[i]); player.play();
    });
  });
})();
"""
# Points turned about two axes by dragging, nearer ones drawn later and larger.
_TURN = """
(() => {
  const svg = document.currentScript.closest('svg'), points = DATA, size = 480, middle = size / 2;
  const dots = points.map(([x, y, z, colour, name]) => {
    const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
    const title = document.createElementNS('http://www.w3.org/2000/svg', 'title');
    title.textContent = name; dot.append(title); dot.setAttribute('fill', colour); return dot;
  });
  let across = 0.6, up = 0.35, held = null;
  const draw = () => {
    const [ca, sa, cu, su] = [Math.cos(across), Math.sin(across), Math.cos(up), Math.sin(up)];
    const placed = points.map(([x, y, z], i) => {
      const right = ca * x + sa * z, away = ca * z - sa * x;
      return [right, cu * y + su * away, cu * away - su * y, i];
    }).sort((a, b) => b[2] - a[2]);
    for (const [x, y, depth, i] of placed) {
      const near = 1 / (1 + 0.25 * depth);
      dots[i].setAttribute('cx', middle + 0.78 * middle * x * near);
      dots[i].setAttribute('cy', middle - 0.78 * middle * y * near);
      dots[i].setAttribute('r', 4 * near); dots[i].setAttribute('fill-opacity', Math.min(0.9, 0.55 * near));
      svg.append(dots[i]);
    }
  };
  svg.style.touchAction = 'none'; svg.style.cursor = 'grab';
  svg.addEventListener('pointerdown', e => { held = [e.clientX, e.clientY]; });
  addEventListener('pointerup', () => { held = null; });
  addEventListener('pointermove', e => {
    if (!held) return;
    across += (e.clientX - held[0]) / 150; up = Math.max(-1.5, Math.min(1.5, up + (e.clientY - held[1]) / 150));
    held = [e.clientX, e.clientY]; draw();
  });
  draw();
})();
"""


def write(bank: SoundBank, atlas: Atlas) -> None:
    """`map.svg` and `map.html` in the bank's folder."""
    picture = plane_svg(bank, atlas)
    with replacing(bank.folder / "map.svg") as path:
        path.write_text(picture, "utf-8")
    page = Report(f"Map: {bank.folder.resolve().name}", _subtitle(atlas))
    page.section("The map")
    held = _held(len(atlas.clips))
    sounds = [_mp3(bank.audio(int(clip))) if i in held else None for i, clip in enumerate(atlas.clips)]
    page.figure(
        _with_script(picture, _CLICK, sounds),
        caption="Each dot a sound: click it to hear it."
        + (
            ""
            if len(held) == len(sounds)
            else f" {len(held)} of {len(sounds)} are in this page; the faint ones are not."
        ),
    )
    page.figure(_space_svg(bank, atlas), caption="The same in space: drag to turn it.")
    if atlas.method == "pca":
        plane, space = atlas.explained
        page.text(f"The plane shows {plane:.0%} of the variance between the sounds, space {space:.0%}.")
    if atlas.unplaced:
        page.section("Not on the map")
        page.text("The ear could not place these sounds.")
        page.table(["clip"], [[name] for name in names(bank, atlas.unplaced)])
    page.save(bank.folder / "map.html")


def plane_svg(bank: SoundBank, atlas: Atlas) -> str:
    """The map in the plane, a colour a label."""
    return scatter_svg(
        [(float(x), float(y)) for x, y in atlas.plane],
        groups=[label or "–" for label in atlas.labels],
        names=names(bank, atlas.clips.tolist()),
        title=f"{len(atlas.clips)} sounds",
    )


def _subtitle(atlas: Atlas) -> str:
    how = {"pca": "principal components", "tsne": "t-SNE"}[atlas.method]
    return f"{len(atlas.clips)} sounds as the ear '{atlas.ear.rsplit(' ', 1)[0]}' hears them, by {how}"


def _held(count: int) -> set[int]:
    """Which of so many sounds the page holds, spread over all of them."""
    return set(spread_evenly(np.arange(count), PLAYERS))


def _mp3(sound: Waveform) -> str:
    """The beginning of a sound, small: the page is for finding it, not for judging it."""
    heard = resample(
        Waveform(sound.mono().samples[:, : round(PLAYED_S * sound.sample_rate)], sound.sample_rate), PLAYED_RATE
    )
    samples = np.clip(heard.samples[0], -1, 1)
    fade = min(len(samples), round(_FADE_S * PLAYED_RATE))
    samples[len(samples) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    out = io.BytesIO()
    soundfile.write(out, samples, PLAYED_RATE, format="MP3", subtype="MPEG_LAYER_III")
    return base64.b64encode(out.getvalue()).decode()


def _space_svg(bank: SoundBank, atlas: Atlas) -> str:
    kinds = sorted({label or "–" for label in atlas.labels}, key=lambda kind: (-_count(atlas, kind), kind))
    colour = {kind: COLOURS[i] if i < len(COLOURS) else "#888888" for i, kind in enumerate(kinds)}
    points: list[Any] = [
        [*(round(float(v), 4) for v in at), colour[label or "–"], f"{name} ({label or '–'})"]
        for at, label, name in zip(atlas.space, atlas.labels, names(bank, atlas.clips.tolist()), strict=True)
    ]
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 480" width="480" height="480" role="img" '
    return _with_script(svg + 'aria-label="map in space"></svg>', _TURN, points)


def _count(atlas: Atlas, kind: str) -> int:
    return sum((label or "–") == kind for label in atlas.labels)


def _with_script(svg: str, script: str, data: Any) -> str:
    """A picture with a script in which DATA stands for what it knows; no file name in that can end the script."""
    known = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return f"{svg.removesuffix('</svg>')}<script>{script.replace('DATA', known)}</script></svg>"
