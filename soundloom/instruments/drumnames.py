"""Which key of the General MIDI drum map a sound belongs to, from its name: kick, snare, hhopen-2, tom_hi."""

import re
from collections.abc import Sequence

HATS = 1  # the group of all hats: an open one is silenced by a closed one
SPARE = (*range(82, 128), *range(34, 11, -1))  # keys that the map leaves free, for all that find theirs taken

# The first line that matches says the keys, the usual one first; those after it are for more of the kind. Toms and
# congas come before hats: their heights are written "hh" too.
_KINDS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"(?<![a-z])(low?|floor)[-_ ]?tom|(?<![a-z])tom.*(lo|(?<![a-z])l+(?![a-z])|floor|3)", (45, 41, 43)),
    (r"(?<![a-z])mid[-_ ]?tom|(?<![a-z])tom.*(mid|(?<![a-z])m(?![a-z])|2)", (47, 48, 43)),
    (r"(?<![a-z])(hi|high)?[-_ ]?toms?(?![a-z])", (50, 48, 47, 45, 43, 41)),
    (r"bongo.*(lo|(?<![a-z])l)", (61,)),
    (r"bongo", (60, 61)),
    (r"conga.*(lo|(?<![a-z])l)", (64,)),
    (r"conga.*(mut|slap|closed)", (62,)),
    (r"conga", (63, 62, 64)),
    (r"timbale.*lo", (66,)),
    (r"timbale", (65, 66)),
    (r"pedal", (44,)),
    (r"(hh|hat|cymbal).*(open|(?<![a-z])o(?![a-z]))|open.*(hh|hat|cymbal)|(?<![a-z])oh+(?![a-z])|ohi-?hat", (46,)),
    (r"hh|hi-?t?hat|hat(?![a-z])|hats|cymbal.*closed|closed.*cymbal|(?<![a-z])ch(?![a-z])", (42, 44)),
    (r"kick|bass ?drum|kik|(?<![a-z])bd", (36, 35)),
    (r"snare|(?<![a-z])s[dn](?![a-z])", (38, 40)),
    (r"rim|stick", (37,)),
    (r"clap", (39,)),
    (r"crash|(?<![a-z])cym(?![a-z])", (49, 57)),
    (r"ride.*bell", (53,)),
    (r"(?<![a-z])ride", (51, 59)),
    (r"splash", (55,)),
    (r"china|chinese", (52,)),
    (r"cymbal", (49, 57, 51, 59)),
    (r"cow-?bell", (56,)),
    (r"tamb", (54,)),
    (r"vibraslap", (58,)),
    (r"agogo", (67, 68)),
    (r"cabasa", (69,)),
    (r"maraca|shaker", (70,)),
    (r"whistle", (71, 72)),
    (r"guiro", (73, 74)),
    (r"clave", (75,)),
    (r"wood-?block", (76, 77)),
    (r"cuica", (78, 79)),
    (r"triangle", (81, 80)),
)
_COMPILED = tuple((re.compile(pattern), keys) for pattern, keys in _KINDS)


def drum_keys(name: str) -> tuple[int, ...]:
    """The keys that suit a name, the best first; none if it names no drum.

    >>> drum_keys("hihat-open"), drum_keys("BD_Boom"), drum_keys("piano")
    ((46,), (36, 35), ())
    """
    text = name.lower()
    return next((keys for pattern, keys in _COMPILED if pattern.search(text)), ())


def assign(names: Sequence[str]) -> list[int | None]:
    """A key for each name, none twice: the one its name says, one like it, a spare one; None when all are taken.

    Those with the usual key of their kind go first, in the order of the names.

    >>> assign(["kick", "snare-1", "snare-2", "snare-3", "zap"])
    [36, 38, 40, 82, 83]
    """
    keys: dict[int, int] = {}
    taken: set[int] = set()
    wanted = [drum_keys(name) for name in names]
    most = max((len(options) for options in wanted), default=0)
    for place in range(most):
        for i, options in enumerate(wanted):
            if i not in keys and place < len(options) and options[place] not in taken:
                keys[i] = options[place]
                taken.add(options[place])
    spare = iter(key for key in SPARE if key not in taken)
    return [keys[i] if i in keys else next(spare, None) for i in range(len(names))]
