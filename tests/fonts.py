"""SoundFonts written byte by byte, as the specification draws them, for tests."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# Generators by their names in the specification.
GENERATORS = {
    "startAddrsOffset": 0, "endAddrsOffset": 1, "startloopAddrsOffset": 2, "endloopAddrsOffset": 3,
    "initialFilterFc": 8, "initialFilterQ": 9, "modEnvToFilterFc": 11, "modLfoToVolume": 13, "freqModLFO": 22,
    "pan": 17, "delayVolEnv": 33,
    "attackVolEnv": 34, "holdVolEnv": 35, "decayVolEnv": 36, "sustainVolEnv": 37, "releaseVolEnv": 38,
    "keynumToVolEnvHold": 39, "keynumToVolEnvDecay": 40, "instrument": 41, "keyRange": 43, "velRange": 44,
    "keynum": 46, "velocity": 47, "initialAttenuation": 48, "coarseTune": 51, "fineTune": 52, "sampleID": 53,
    "sampleModes": 54, "scaleTuning": 56, "exclusiveClass": 57, "overridingRootKey": 58,
}  # fmt: skip

Zone = Mapping[str, int | tuple[int, int]]


@dataclass(frozen=True)
class Sample:
    """24-bit whole numbers, and the header's fields; the loop goes from one frame to another."""

    values: np.ndarray
    rate: int = 44100
    pitch: int = 69
    correction: int = 0
    loop: tuple[int, int] = (0, 0)
    kind: int = 1


@dataclass(frozen=True)
class Preset:
    program: int = 0
    bank: int = 0
    zones: Sequence[Zone] = field(default_factory=lambda: [{"instrument": 0}])


def chunk(name: str, content: bytes) -> bytes:
    return struct.pack("<4sI", name.encode(), len(content)) + content + b"\0" * (len(content) % 2)


def _zones(groups: Sequence[Sequence[Zone]]) -> tuple[list[int], bytes, bytes]:
    """Where each group's zones begin, the table of zones, and the table of generators."""
    begins, bags, generators = [], b"", b""
    for zones in groups:
        begins.append(len(bags) // 4)
        for zone in zones:
            bags += struct.pack("<HH", len(generators) // 4, 0)
            # The order that is asked for: ranges first, what they lead to last.
            order = sorted(
                zone, key=lambda name: (name not in ("keyRange", "velRange"), name in ("instrument", "sampleID"))
            )
            for name in order:
                value = zone[name]
                packed = struct.pack("<BB", *value) if isinstance(value, tuple) else struct.pack("<h", value)
                generators += struct.pack("<H", GENERATORS[name]) + packed
    begins.append(len(bags) // 4)
    bags += struct.pack("<HH", len(generators) // 4, 0)
    return begins, bags, generators + b"\0" * 4


def font(
    samples: Sequence[Sample], instruments: Sequence[Sequence[Zone]], presets: Sequence[Preset], *, deep: bool = False
):
    """The bytes of a SoundFont; `deep`: with the low bytes of 24 bits."""
    high, low, headers = b"", b"", b""
    for i, sample in enumerate(samples):
        start = len(high) // 2
        high += (sample.values >> 8).astype("<i2").tobytes() + b"\0" * 92  # 46 frames of silence after each
        low += (sample.values & 0xFF).astype(np.uint8).tobytes() + b"\0" * 46
        headers += struct.pack(
            "<20sIIIIIBbHH", f"sample {i}".encode(), start, start + len(sample.values), start + sample.loop[0],
            start + sample.loop[1], sample.rate, sample.pitch, sample.correction, 0, sample.kind,
        )  # fmt: skip
    headers += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    outer_at, pbag, pgen = _zones([preset.zones for preset in presets])
    inner_at, ibag, igen = _zones(instruments)
    phdr = b"".join(
        struct.pack("<20sHHHIII", f"preset {i}".encode(), preset.program, preset.bank, outer_at[i], 0, 0, 0)
        for i, preset in enumerate(presets)
    ) + struct.pack("<20sHHHIII", b"EOP", 0, 0, outer_at[-1], 0, 0, 0)
    inst = b"".join(struct.pack("<20sH", f"instrument {i}".encode(), inner_at[i]) for i in range(len(instruments)))
    inst += struct.pack("<20sH", b"EOI", inner_at[-1])
    info = chunk("ifil", struct.pack("<HH", 2, 4)) + chunk("isng", b"EMU8000\0") + chunk("INAM", b"a test\0\0")
    sound = chunk("smpl", high) + (chunk("sm24", low) if deep else b"")
    tables = {"phdr": phdr, "pbag": pbag, "pmod": b"\0" * 10, "pgen": pgen, "inst": inst, "ibag": ibag,
              "imod": b"\0" * 10, "igen": igen, "shdr": headers}  # fmt: skip
    body = b"sfbk" + chunk("LIST", b"INFO" + info) + chunk("LIST", b"sdta" + sound)
    body += chunk("LIST", b"pdta" + b"".join(chunk(name, content) for name, content in tables.items()))
    return chunk("RIFF", body)
