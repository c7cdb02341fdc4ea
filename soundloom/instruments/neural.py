"""A trained one-shot model as an instrument: each sound is made once, the first time it is played, and kept.

Rendered, a note waits for its sound. Live, nothing waits: a process of its own (`workshop`) makes the sounds, ahead of
the player where it can, and until a note's own sound is there it is played from its nearest neighbour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.errors import ConditionError, ModelError
from soundloom.instruments import playhead, soundmaking
from soundloom.instruments.asks import Ask, Asking, Maker, Makes
from soundloom.instruments.base import Event, Param
from soundloom.instruments.melody import Melody
from soundloom.instruments.soundcache import Shelf, SoundCache, sounds_folder
from soundloom.instruments.soundmaking import at_rate, fetched, layers, opened, owner_of
from soundloom.instruments.texture import Texture
from soundloom.instruments.voices import AbstractPolyphonic, Voices
from soundloom.instruments.workshop import Workshop
from soundloom.run import Run

PATIENCE_S = 2.0  # a live note waits so long for its sound; then it is too late to be that note
AT_ONCE = 32  # sounds on their way from the model to where they are kept
KEYS = (36.0, 96.0)  # filled ahead where a model knows no range of its own
KEYBOARD = (21.0, 108.0)
ENVELOPE = (
    Param("attack_s", "s", 0.0005, 5, 0.0005, "log", "a slower rise than the sound's own"),
    Param("release_s", "s", 0.005, 10, 0.15, "log", "the level's fall by 60 dB after the key"),
    Param("tune_cents", "cents", -100, 100, 0, help="against the keyboard"),
    Param("gain_db", "dB", -60, 6, -6, help="the level"),
)


@dataclass
class Sounding(Voices):
    """Voices, and of each what was asked for and the sound that it reads (see `playhead`); None: it is not there."""

    asks: list[Ask | None] = field(default_factory=list)
    sounds: list[NDArray[np.float32] | None] = field(default_factory=list)


class OneShot(AbstractPolyphonic):
    """The sounds of a model, over the keyboard. Its knobs are those of what the model can be asked, which take effect
    with the next note, and an envelope.

    A sound is asked for by pitch (to 1/100 of a semitone), by layer of velocity where the model knows velocity, and by
    the knobs; `variation` is which of its sounds. The level follows the velocity in any case, the bend is read faster
    or slower. A note ends with its sound or with its release. What a `Run` makes is kept on disk for the next time
    (`soundcache`), what a bare model makes in memory alone.

    Live (`start`, or `live=True` and then `start`), a note of a sound that is there starts at once; else the nearest
    in pitch, 7 semitones off at most, is read at its pitch, and its own is made for the next time; where there is none
    the note begins when its sound arrives, within `PATIENCE_S`. `trouble` says what went wrong, if anything did.

    Raises:
        ModelError: the family makes no sounds of its own.
        ConditionError: the model does not know the `label`.
    """

    row = playhead.ROW

    def __init__(
        self,
        source: Run | Makes,
        settings: Mapping[str, float] | None = None,
        *,
        label: str | None = None,
        text: str | None = None,
        seconds: float | None = None,
        seed: int = 0,
        voices: int = 16,
        live: bool = False,
    ) -> None:
        self.model, self.folder = opened(source)
        self.live = live
        self._asking = Asking(self.model, label=label, text=text, seconds=seconds, seed=seed)
        self.params = (*self._asking.params, *ENVELOPE)
        super().__init__(settings, voices=voices)
        self._maker = Maker(self.model)
        self._cache = cache_of(source)
        self._shelves: dict[int, Shelf] = {}  # by sample rate
        self._workshop: Workshop | None = None
        self._wanted: set[tuple[Ask, int]] = set()
        low, high = getattr(self.model, "pitch_range", None) or KEYS
        self._keys = max(low, KEYBOARD[0]), min(high, KEYBOARD[1])  # told once: the player's thread asks no model
        self._middle = float(round(sum(self._keys) / 2))
        self._planned: tuple[Ask, int] | None = None  # around what the keyboard is being filled
        self._trouble = ""

    # --- made here ------------------------------------------------------------------------------------------------

    def prepare(self, events: Sequence[Event], sample_rate: int) -> None:
        values, asks = dict(self.settings), dict[Ask, None]()
        for event in events:
            if event.kind == "set":
                values |= {event.param: event.value}
            elif event.kind == "on" and event.velocity > 0:
                asks[self._asking.ask(values, event.pitch, event.velocity)] = None
        self._make(asks, sample_rate)

    def sound(self, pitch: float, sample_rate: int) -> NDArray[np.float32]:
        """The sound of a key with the knobs as they were set, [T] at `sample_rate`: made if it was not yet."""
        sound = self._made(self._asking.ask(self.settings, pitch, 0.8), sample_rate)
        return sound[playhead.HALF : -2 * playhead.HALF]

    def _made(self, ask: Ask, sample_rate: int) -> NDArray[np.float32]:
        self._make([ask], sample_rate)
        sound = self._shelf(sample_rate).get(ask)
        assert sound is not None
        return sound

    def _make(self, asks: Iterable[Ask], sample_rate: int) -> None:
        """Has sounds on the shelf, from disk or from the model."""
        shelf = self._shelf(sample_rate)
        missing = [ask for ask in asks if ask not in shelf]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            for ask, (sound, rate) in zip(some, fetched(some, self._maker, self._cache), strict=True):
                shelf.put(ask, at_rate(sound, rate, sample_rate))

    def _shelf(self, sample_rate: int) -> Shelf:
        return self._shelves.setdefault(sample_rate, Shelf())

    # --- made elsewhere -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens the workshop, in which the sounds are made from now on. Returns at once; it is ready in seconds.

        Raises:
            ModelError: a bare model, which has no folder that another process could open.
        """
        if self.folder is None or self._cache is None:
            raise ModelError("a model is played live from the folder of its run: give the run, not the model alone")
        self.live, self._trouble, self._planned = True, "", None
        self._wanted.clear()
        usual = self._asking.ask(self.settings, self._middle, 0.8)
        device = str(next(self.model.parameters()).device)
        settings = {"folder": str(self.folder), "device": device, "sounds": str(self._cache.folder)}
        self._workshop = Workshop(f"{soundmaking.__name__}:serve", settings | {"usual": usual.document()})
        self._workshop.start()
        for sample_rate in self._shelves:
            self._fill(usual, sample_rate)

    def close(self) -> None:
        """Ends the workshop. What is still asked for is made here, and waited for."""
        self.live = False
        if self._workshop is not None:
            self._workshop.close()
        self._workshop = None

    @property
    def trouble(self) -> str:
        """What went wrong with the sounds that were asked for, in a sentence; empty where nothing did."""
        told = self._workshop.trouble if self._workshop is not None else ""
        kept = self._cache.trouble if self._cache is not None else ""
        if (
            self._workshop is not None
            and self._cache is not None
            and self._workshop.ready not in (None, self._cache.owner)
        ):
            kept = f"{self.folder} is no longer the model that was opened: open it again"
        return told or self._trouble or kept

    @property
    def ready(self) -> bool:
        """Whether the workshop is at work: until then nothing new is made."""
        return self._workshop is not None and self._workshop.ready is not None

    @property
    def process_id(self) -> int | None:
        """The workshop's."""
        return self._workshop.process_id if self._workshop is not None else None

    def _receive(self) -> None:
        """What the workshop has made since the last block."""
        assert self._workshop is not None
        for message, sound in self._workshop.arrived():
            if "made" in message:
                ask, sample_rate = Ask.of(message["made"]), message["rate"]
                self._shelf(sample_rate).put(ask, sound)
                self._wanted.discard((ask, sample_rate))
            else:
                self._trouble = message["trouble"]
                self._wanted.clear()  # what failed is asked for again with its next note

    def _want(self, ask: Ask, sample_rate: int) -> None:
        """Asks the workshop for a sound, and to fill the keyboard around it."""
        if self._workshop is not None and (ask, sample_rate) not in self._wanted:
            self._wanted.add((ask, sample_rate))
            self._workshop.tell({"now": ask.document(), "rate": sample_rate})

    def _fill(self, ask: Ask, sample_rate: int) -> None:
        """Has the keyboard filled around a note, unless that is under way."""
        if self._planned is not None and self._planned[1] == sample_rate:
            before = self._planned[0]
            if abs(before.pitch - ask.pitch) <= 12 and before.at(ask.pitch) == ask:
                return
        self._planned = (ask, sample_rate)
        if self._workshop is not None:
            low, high = self._keys
            self._workshop.tell({"fill": ask.document(), "rate": sample_rate, "low": low, "high": high})

    def _near(self, ask: Ask, shelf: Shelf) -> Ask | None:
        """The nearest sound that stands in for one that is not there: in pitch first, then in velocity."""
        likest = (shelf.nearest(replace(ask, velocity=velocity)) for velocity in layers(ask.velocity))
        return next((found for found in likest if found is not None), None)

    # --- played ---------------------------------------------------------------------------------------------------

    def init_state(self, sample_rate: int, *, seed: int = 0) -> Sounding:
        state = super().init_state(sample_rate, seed=seed)
        nothing = playhead.padded(np.zeros(1, np.float32))
        self._read(np.zeros(1, playhead.ROW), nothing, state, np.zeros(1))  # kernels are loaded before the first note
        playhead.turn(np.zeros(1), state.after.copy(), state.derived)
        self._shelf(sample_rate)
        if self._workshop is not None:
            self._fill(self._asking.ask(self.settings, self._middle, 0.8), sample_rate)
        return Sounding(**vars(state), asks=[None] * self.voices, sounds=[None] * self.voices)

    def process(self, state: Voices, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], Voices]:
        if self._workshop is not None:
            self._receive()
        return super().process(state, events, n)

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        return playhead.knobs(
            sample_rate,
            attack_s=values["attack_s"],
            release_s=values["release_s"],
            gain_db=values["gain_db"],
            cents=values["tune_cents"],
        )

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.array([derived[0]["gain"]])

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        playhead.turn(block[0], state.after, state.derived)

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        assert isinstance(state, Sounding)
        row = state.rows[slot]
        row["slot"], row["fade"] = slot, 1.0
        row["gain"] = row["aim"] = event.velocity**2
        ask = self._asking.ask(state.values, event.pitch, event.velocity)
        state.asks[slot] = ask
        if not self.live:
            state.sounds[slot] = self._made(ask, state.sample_rate)
            return
        self._fill(ask, state.sample_rate)
        shelf = self._shelf(state.sample_rate)
        sound = shelf.get(ask)
        if sound is None:
            self._want(ask, state.sample_rate)
            near = self._near(ask, shelf)
            if near is not None:
                sound, row["shift"] = shelf.get(near), ask.pitch - near.pitch
        state.sounds[slot] = sound

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        assert isinstance(state, Sounding)
        for i in np.flatnonzero(rows["active"]):
            slot = rows["slot"][i]
            sound = state.sounds[slot]
            if sound is None:
                sound = self._awaited(state, slot, out.shape[1])
            if sound is not None:
                self._read(rows[i : i + 1], sound, state, out[0])

    def _awaited(self, state: Sounding, slot: int, n: int) -> NDArray[np.float32] | None:
        """A note's sound, if it has come by now; one that comes too late is not waited for any longer."""
        ask, row = state.asks[slot], state.rows[slot]
        assert ask is not None
        state.sounds[slot] = self._shelf(state.sample_rate).get(ask)
        row["waiting"] += n
        if state.sounds[slot] is None and row["waiting"] > PATIENCE_S * state.sample_rate:
            row["active"] = 0
        return state.sounds[slot]

    def _read(self, row: NDArray[Any], sound: NDArray[np.float32], state: Voices, out: NDArray[np.float64]) -> None:
        playhead.read(row, sound, len(sound), True, state.derived, state.bend, playhead.sincs(), out)


def cache_of(source: Run | Makes) -> SoundCache | None:
    """Where the sounds of a run are kept on disk; those of a bare model are not."""
    return SoundCache(sounds_folder(), owner=owner_of(source)) if isinstance(source, Run) else None


def instrument_of(
    run: Run,
    settings: Mapping[str, float] | None = None,
    *,
    label: str | None = None,
    text: str | None = None,
    seed: int = 0,
    voices: int = 16,
    live: bool = False,
    played_as: Literal["sounds", "texture", "melody"] | None = None,
) -> OneShot | Texture | Melody:
    """A run as an instrument; None: as what it is best played as, a DDSP as a melody, an RNN of long recordings as a
    texture, all else by its sounds. `live`: it is going to be started (`start`) before it is played."""
    if played_as is None:
        endless = run.family == "rnn" and run.model.config.endless
        played_as = "melody" if run.family == "ddsp" else "texture" if endless else "sounds"
    if played_as == "sounds":
        return OneShot(run, settings, label=label, text=text, seed=seed, voices=voices, live=live)
    if played_as == "texture":
        return Texture(run, settings, label=label, text=text, seed=seed)
    if label is not None or text is not None:
        raise ConditionError("what is played by pitch and loudness knows neither labels nor words: leave them out")
    return Melody(run, settings, seed=seed)


def tuneful_label(run: Run) -> str | None:
    """Of a model that remembers what its bank had: the label most of whose sounds have a pitch, the longest of equals;
    what is asked of it without a label may be a hat, on which no tune is played. None where there is no such memory."""
    facts = getattr(run.model, "memory_facts", None)
    if facts is None or len(run.labels) < 2:
        return None
    pitch, seconds, label = facts.cpu().numpy().T
    best, best_rank = None, (0.5, 0.0)  # at least half of a label's sounds have a pitch
    for number, name in enumerate(run.labels):
        mine = (label == number) & np.isfinite(seconds)
        rank = (round(float(np.isfinite(pitch[mine]).mean()), 1), float(seconds[mine].mean())) if mine.any() else (0, 0)
        if rank > best_rank:
            best, best_rank = name, rank
    return best


def sounds_of(
    run: Run,
    *,
    pitches: Sequence[float],
    velocities: Sequence[float] = (0.8,),
    label: str | None = None,
    text: str | None = None,
    seed: int = 0,
) -> list[tuple[Waveform, float, float]]:
    """Sounds of a run with their pitch and velocity, as a sampler or a granular engine plays them; made once, and kept.

    Of a model that knows no velocity, each pitch is one sound, given for every velocity.
    """
    model, _ = opened(run)
    asking = Asking(model, label=label, text=text, seed=seed)
    values = {param.name: param.default for param in asking.params}
    wishes = [(pitch, velocity) for pitch in pitches for velocity in velocities]
    asks = [asking.ask(values, pitch, velocity) for pitch, velocity in wishes]
    sounds = fetched(asks, Maker(model), cache_of(run))
    return [(Waveform(sound[None], rate), *wish) for (sound, rate), wish in zip(sounds, wishes, strict=True)]
