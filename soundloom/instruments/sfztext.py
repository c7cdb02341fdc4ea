"""The text of an SFZ file: comments, definitions and inclusions resolved, and what each region inherits filled in."""

import re
from collections import ChainMap
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from soundloom.errors import InstrumentError

MOST_BYTES = 8_000_000  # of text, all inclusions together
MOST_FILES = 500
MOST_DEPTH = 16
MOST_REGIONS = 20_000
MOST_NAME = 64  # letters of a definition's name

MOST_OPCODES = 2_000  # after one header

# Names that ARIA and SFZ 1 have for the same opcode, and the one that is used here.
_ALIASES = {
    "loopmode": "loop_mode",
    "loopstart": "loop_start",
    "loopend": "loop_end",
    "pitch": "tune",
    "polyphony_group": "group",
    "gain": "volume",
}
_COMMENT = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_DIRECTIVE = re.compile(r'#include\s*"([^"\n]*)"|#define\s+\$(\w+)[ \t]+([^\s$]+)')
_VARIABLE = re.compile(r"\$(\w+)")
_TOKEN = re.compile(r"<(\w+)>|(?:(?<=\s)|(?<=>)|^)([A-Za-z_]\w*)=", re.MULTILINE)

Opcodes = MutableMapping[str, str]


@dataclass
class Parsed:
    """`regions` with all that they inherit, in the order of the file; `control` of the whole instrument.

    `opcodes` are all that occur outside of it, and `headers` those that mean nothing here.
    """

    regions: list[Opcodes] = field(default_factory=list)
    control: Opcodes = field(default_factory=dict)
    opcodes: set[str] = field(default_factory=set)
    headers: set[str] = field(default_factory=set)


def inside(root: Path, name: str, *, where: str) -> Path:
    """The file of a name written in an SFZ, which lies in `root`. `InstrumentError` where it leads elsewhere.

    Names may have either slash, and letters of the wrong case, as files written on Windows do.
    """
    plain = name.replace("\\", "/").strip()
    parts = PurePosixPath(plain).parts
    if not parts or plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or "\0" in plain:
        raise InstrumentError(f"{where} names '{name}': paths are taken from the folder of the .sfz on")
    path = root
    for part in parts:
        path = path / part if part == ".." or (path / part).exists() else path / _recased(path, part)
    try:
        real, home = path.resolve(), root.resolve()
        found = real.is_file()
    except (OSError, RuntimeError) as error:
        raise InstrumentError(f"{where} names '{name}', which cannot be read: {error}") from None
    if not real.is_relative_to(home):
        raise InstrumentError(
            f"{where} names '{name}', which lies outside of '{home.name}': "
            "give the folder that holds all of the instrument as root"
        )
    if not found:
        raise InstrumentError(f"{where} names '{name}': there is no such file in '{home.name}'")
    return real


def _recased(folder: Path, part: str) -> str:
    try:
        return next((entry.name for entry in folder.iterdir() if entry.name.lower() == part.lower()), part)
    except OSError:
        return part


def parse(path: Path, root: Path) -> Parsed:
    """The regions of an SFZ file. `InstrumentError` for what cannot be read, leads out of `root` or has no end."""
    parsed = Parsed()
    reader = _Reader(root)
    scopes: dict[str, Opcodes] = {"global": {}, "master": {}, "group": {}}
    current: Opcodes | None = None
    text = reader.read(path, 0)
    for header, opcode, value in _tokens(text):
        if header:
            current = _scope(parsed, scopes, header)
        elif current is not None:
            opcode = _ALIASES.get(opcode, opcode)
            current[opcode] = value
            if len(parsed.opcodes) > MOST_OPCODES:
                raise InstrumentError(f"'{path.name}' has more than {MOST_OPCODES} different opcodes")
            if current is not parsed.control:
                parsed.opcodes.add(opcode)
    if not parsed.regions:
        raise InstrumentError(f"'{path.name}' has no <region>: it is no SFZ instrument")
    return parsed


def _scope(parsed: Parsed, scopes: dict[str, Opcodes], header: str) -> Opcodes:
    """Where the opcodes after a header belong."""
    if header == "control":
        return parsed.control
    if header == "region":
        if len(parsed.regions) >= MOST_REGIONS:
            raise InstrumentError(f"an SFZ has more than {MOST_REGIONS} regions")
        # A chain, not a copy: twenty thousand regions may inherit the same thousand opcodes.
        parsed.regions.append(ChainMap({}, *(scopes[name] for name in ("group", "master", "global"))))
        return parsed.regions[-1]
    if header not in scopes:
        parsed.headers.add(header)
        return {}
    names = list(scopes)
    for name in names[names.index(header) :]:
        scopes[name] = {}
    return scopes[header]


def _tokens(text: str) -> Iterator[tuple[str, str, str]]:
    """Headers, and opcodes with their values, which go up to the next opcode, header or line."""
    matches = list(_TOKEN.finditer(text))
    for i, match in enumerate(matches):
        if match[1]:
            yield match[1].lower(), "", ""
            continue
        end = matches[i + 1].start() if i + 1 < len(matches) else len(text)
        yield "", match[2].lower(), text[match.end() : end].partition("\n")[0].strip()


class _Reader:
    """Reads files with what they include, in the order of the text: definitions hold for what comes after them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.defined: dict[str, str] = {}
        self.files = 0
        self.letters = 0

    def read(self, path: Path, depth: int) -> str:
        self.files += 1
        if depth > MOST_DEPTH or self.files > MOST_FILES:
            raise InstrumentError(f"'{path.name}' is included in itself, or too many files include each other")
        try:
            size = path.stat().st_size
            if size > MOST_BYTES:
                raise InstrumentError(f"'{path.name}' has {size} bytes: an SFZ may have {MOST_BYTES}")
            text = path.read_bytes().decode("utf-8-sig", "replace")
        except OSError as error:
            raise InstrumentError(f"cannot read '{path.name}': {error.strerror or error}") from None
        text = _COMMENT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
        pieces, at = [], 0
        for match in _DIRECTIVE.finditer(text):
            pieces.append(self._filled(text[at : match.start()]))
            at = match.end()
            if match[1] is not None:
                name = self._filled(match[1])
                pieces.append("\n" + self.read(inside(self.root, name, where=f"'{path.name}'"), depth + 1) + "\n")
            else:
                self.defined[match[2]] = match[3]
        pieces.append(self._filled(text[at:]))
        return "".join(pieces)

    def _filled(self, text: str) -> str:
        """The text with what is defined put in; the longest name that fits counts, as in $KEYlow after $KEY."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            for length in range(min(len(name), MOST_NAME), 0, -1):
                if name[:length] in self.defined:
                    found = self.defined[name[:length]] + name[length:]
                    self._count(len(found))
                    return found
            return match[0]

        self._count(len(text))
        return _VARIABLE.sub(value, text)

    def _count(self, letters: int) -> None:
        self.letters += letters
        if self.letters > MOST_BYTES:
            raise InstrumentError(f"an SFZ becomes longer than {MOST_BYTES} letters by what it defines and includes")
