"""What there is to play, in words and as a document."""

from pathlib import Path
from typing import Any

from soundloom.instruments import patch as patches
from soundloom.instruments.base import AbstractInstrument, Param
from soundloom.instruments.chain import Chain
from soundloom.instruments.engines import EFFECTS, ENGINES, effect
from soundloom.instruments.opening import SHIPPED, Opener

Listed = tuple[Any, list[str]]  # a document, and its lines


def everything() -> Listed:
    """Engines, effects, and patches by their kind."""
    shipped = {name: patches.named(name) for name in patches.shipped()}
    about = {name: {"kind": one.kind, "engine": one.engine, "about": one.about} for name, one in shipped.items()}
    document = {
        "engines": sorted(ENGINES),
        "effects": sorted(EFFECTS),
        "patches": about,
    }
    lines = [f"engines: {', '.join(sorted(ENGINES))}", f"effects: {', '.join(sorted(EFFECTS))}"]
    for kind in sorted({one.kind for one in shipped.values()}):
        lines += ["", kind]
        lines += [f"  {SHIPPED}{name:18} {one.about}" for name, one in shipped.items() if one.kind == kind]
    return document, lines


def one(text: str) -> Listed:
    """The knobs of an instrument, or the presets of a SoundFont."""
    name = Path(text.partition(",")[0])
    if name.suffix.lower() == ".sf2" and "program=" not in text:
        from soundloom.instruments.sf2 import presets

        held = presets(name)
        rows = [{"bank": preset.bank, "program": preset.program, "name": preset.name} for preset in held]
        return rows, [f"{name},program={preset.program},bank={preset.bank}  {preset.name}" for preset in held]
    if text in EFFECTS:
        params = effect(text).params
        lines = [f"{text}, an effect", f"{'knob':24} {'from':>8} {'to':>8} {'usual':>8}"]
        lines += [f"{p.name:24} {p.low:8g} {p.high:8g} {p.default:8g}  {p.help}" for p in params]
        return {"name": text, "knobs": [_knob(p, p.default) for p in params], "controllers": {}}, lines
    player = Opener().opened(text)
    stand = _stand(player.instrument)
    turned = {route.param.name: number for number, route in player.routes.items()}
    knobs, lines = [], [player.name, f"{'knob':24} {'from':>8} {'to':>8} {'now':>8}"]
    for p in player.instrument.params:
        now, number = stand.get(p.name, p.default), turned.get(p.name, -1)
        knobs.append(_knob(p, now))
        by = f" (controller {number})" if number >= 0 else ""
        lines.append(f"{p.name:24} {p.low:8g} {p.high:8g} {now:8g}  {p.help}{by}")
    controllers = {number: route.param.name for number, route in player.routes.items()}
    return {"name": player.name, "knobs": knobs, "controllers": controllers}, lines


def _knob(p: Param, now: float) -> dict[str, Any]:
    return {"name": p.name, "unit": p.unit, "low": p.low, "high": p.high, "now": now, "help": p.help}


def _stand(instrument: AbstractInstrument) -> dict[str, float]:
    """Where the knobs of an instrument, and of the effects after it, stand."""
    if isinstance(instrument, Chain):
        effects = {f"{name}.{key}": v for name, one in instrument.effects for key, v in _settings(one).items()}
        return _stand(instrument.instrument) | effects
    return _settings(instrument)


def _settings(one: object) -> dict[str, float]:
    return dict(getattr(one, "settings", {}))
