"""What sounds at once: play, devices, transform."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from soundloom.commands.flags import OUTPUT, Output, app

if TYPE_CHECKING:
    from soundloom.live import Touch, Way


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Sounding:
    """How sound gets out of the computer."""

    device: Annotated[
        str | None,
        Parameter(help="What to play on: number of a sound device or part of its name, see `devices`."),
    ] = None
    driver: Annotated[
        Literal["portaudio", "jack"],
        Parameter(help="portaudio: any sound device. jack: a JACK server, with MIDI right to the sample."),
    ] = "portaudio"
    block: Annotated[int, Parameter(help="Samples at a time: fewer are sooner heard and harder to keep up.")] = 256
    sample_rate: Annotated[int | None, Parameter(help="Left out: the device's own.")] = None
    record: Annotated[
        Path | None, Parameter(help="A .wav file of what is played, written as it goes: a crash leaves it whole.")
    ] = None
    seconds: Annotated[float | None, Parameter(help="Stop after so long. Left out: Ctrl-C stops.")] = None

    def way(self, source: str | None = None, *, listens: bool = False) -> "Way":
        from soundloom.live import Way

        return Way(self.driver, self.device, source, self.block, self.sample_rate, listens)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Modelling(Output):
    """How models are run where `--device` names a sound device."""

    model_device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1 or mps; left out, the best there is.")] = None
    seed: Annotated[int, Parameter(help="Where the randomness starts.")] = 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Touching:
    """What the player's hands are on."""

    midi: Annotated[
        str | None, Parameter(help="MIDI port: a number or a part of a name, see `devices`. Left out: all there are.")
    ] = None
    channel: Annotated[int | None, Parameter(help="Listen to this channel alone, 0 to 15.")] = None
    keyboard: Annotated[
        bool, Parameter(help="Play on the computer's keys: a to ', z and x for the octave, space holds notes.")
    ] = False
    learn: Annotated[
        list[str] | None,
        Parameter(
            help="A knob that the next controller you move will turn, as in cutoff_hz, or that one with a number does, "
            "as in cutoff_hz=21. May be given several times: one controller after the other."
        ),
    ] = None

    def touch(self) -> "Touch":
        from soundloom.live import Touch

        return Touch(self.midi, self.channel, self.keyboard, tuple(self.learn or ()))


SOUNDING, TOUCHING, MODELLING = Sounding(), Touching(), Modelling()


@app.command(sort_key=7.5)
def play(
    what: str | None = None,
    /,
    *,
    who: Annotated[list[str] | None, Parameter(name="--map")] = None,
    touching: Touching = TOUCHING,
    sounding: Sounding = SOUNDING,
    modelling: Modelling = MODELLING,
) -> None:
    """Play live, on a MIDI keyboard or on the computer's own keys. Ctrl-C ends it, with exit code 0.

    While you play a line shows the load (what part of its time each block takes: now, and what 50, 99 and 99.99 of 100
    blocks stay below) and the xruns, blocks that came too late. Nothing louder than -0.3 dB goes out.

    Parameters
    ----------
    what
        What plays on all channels: a folder made by `soundloom train`, `patch:NAME`, a patch file, an engine such as
        `subtractive` or `pluck`, an .sfz or .sf2 file, or a folder of sounds; knobs follow after commas, as in
        `subtractive,cutoff_hz=800`. Left out, without --map: a piano, and drums on channel 9.
    who
        Who plays which channel, as in "0=my-run,9=patch:drum-kit", as for `render`. May be given several times.
    """
    from soundloom.instruments.opening import Opener
    from soundloom.live import play as play_live
    from soundloom.live import words_of
    from soundloom.performing import entries

    terminal = modelling.terminal()
    with terminal.only_document(), terminal.patience():
        opener = Opener(seed=modelling.seed, device=modelling.model_device, live=True)
        named = entries([*([what] if what else []), *(who or [])]) or dict(USUAL)
        document = play_live(
            {channel: opener.opened(text) for channel, text in named.items()},
            sounding.way(),
            touching.touch(),
            seed=modelling.seed,
            record=sounding.record,
            seconds=sounding.seconds,
            terminal=terminal,
        )
    terminal.say(words_of(document))
    terminal.document(document)


USUAL: dict[int | None, str] = {None: "patch:grand-piano", 9: "patch:drum-kit"}


@app.command(sort_key=7.6)
def devices(*, output: Output = OUTPUT) -> None:
    """Show what there is to hear and to play with: sound devices with their rates and latencies, and MIDI ports."""
    from dataclasses import asdict

    from soundloom.devices import midi_ports, soundcards

    terminal = output.terminal()
    with terminal.only_document():
        cards, ports = soundcards(), midi_ports()
    terminal.say("sound devices:" if cards else "no sound device: connect one; `soundloom render` plays into a file")
    for card in cards:
        late = f"{card.input_latency_ms:g} ms in, {card.output_latency_ms:g} ms out"
        shape = f"{card.inputs} in, {card.outputs} out, {card.sample_rate} Hz, {late}"
        usual = f", the default {card.default}".replace("both", "input and output") if card.default else ""
        terminal.say(f"  {card.number}  {card.name} ({card.driver}): {shape}{usual}")
    terminal.say("MIDI ports:" if ports else "no MIDI port: `soundloom play --keyboard` plays on this computer's keys")
    for port in ports:
        terminal.say(f"  {port.number}  {port.name} ({port.driver})")
    terminal.document({"sound": [asdict(card) for card in cards], "midi": [asdict(port) for port in ports]})


@app.command(sort_key=7.7)
def transform(
    run: Path,
    /,
    *,
    source: Annotated[str | None, Parameter(name="--in")] = None,
    transpose: Annotated[float, Parameter(allow_leading_hyphen=True)] = 0.0,
    sounding: Sounding = SOUNDING,
    modelling: Modelling = MODELLING,
) -> None:
    """Play what comes into a microphone through a trained codec, while it comes: one voice, in the codec's timbre.

    It is about a fifth of a second late, which is told: a pitch takes time to be heard. Use headphones. Ctrl-C ends
    it, with exit code 0. For files there is `reconstruct`.

    Parameters
    ----------
    run
        A folder made by `soundloom train --family codec --set causal=true`.
    source
        The sound device to listen to: a number or a part of a name, see `devices`. Left out: the system's default.
    transpose
        Semitones up (or down, below 0).
    """
    import soundloom
    from soundloom.live import words_of
    from soundloom.transforming import transform as transform_live

    terminal = modelling.terminal()
    with terminal.only_document():
        document = transform_live(
            soundloom.load(run, device=modelling.model_device),
            sounding.way(source, listens=True),
            transpose=transpose,
            seed=modelling.seed,
            record=sounding.record,
            seconds=sounding.seconds,
            terminal=terminal,
        )
    terminal.say(
        f"{words_of(document)}; {document['gaps']} gaps, {document['way_through_ms']:.0f} ms through the codec"
    )
    terminal.document(document)
