"""Notes in time: the score that instruments are rendered from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One note. `pitch` is a MIDI number and may be fractional; `velocity` is 0 to 1; `channel` picks the instrument."""

    start_s: float
    seconds: float
    pitch: float
    velocity: float = 0.8
    channel: int = 0


@dataclass(frozen=True)
class Score:
    """Notes sorted by start."""

    notes: tuple[Note, ...]

    @property
    def seconds(self) -> float:
        """When the last note ends (its release comes after)."""
        return max((note.start_s + note.seconds for note in self.notes), default=0.0)
