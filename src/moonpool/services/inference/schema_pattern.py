"""How much a regular expression leaves open: what the engine has to follow at once while it writes. Pure."""

import re

_PART = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]?|\(\?[:=!<]*|[()|?*+]|\{\d{0,9}(?:,\d{0,9})?\}|.", re.DOTALL)
_TIMES = re.compile(r"\{(?P<least>\d*)(?P<comma>,?)(?P<most>\d*)\}")
FOR_EVER = 8
"""Repetitions that an unbounded one of a group counts for."""


def optional_pieces(pattern: str) -> int:
    """The pieces that may be there or not, those in groups as often as the group is repeated.

    One after the other they are the ways on from any place: with 24 letters that may be left out the engine
    takes 0.02 s for a token, with 32 0.15 s, with 100 minutes. How long a single character's repetition may
    get is nothing beside them.
    """
    groups = [0]
    last = 0
    """Of the piece before, for the quantifier that may follow it."""
    for part in _PART.findall(pattern):
        if part.startswith("(") and len(part) <= 4:
            groups.append(0)
            last = 0
        elif part == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif part in "?*+" or _TIMES.fullmatch(part):
            groups[-1] += _repeated(last, part) - last
            last = 0
        else:
            last = 0
    return sum(groups)


def repetitions(pattern: str) -> list[int]:
    """How often its pieces may be repeated, where that is a number."""
    found = (_TIMES.fullmatch(part) for part in _PART.findall(pattern))
    return [max(int(times["least"] or 0), int(times["most"] or 0)) for times in found if times]


def _repeated(pieces: int, quantifier: str) -> int:
    """A piece with so many optional ones in it, repeated."""
    if quantifier == "?":
        return pieces + 1
    times = _TIMES.fullmatch(quantifier)
    if times is None:
        return pieces * FOR_EVER + 1
    least, most = int(times["least"] or 0), times["most"]
    if not times["comma"]:
        return pieces * least
    return pieces * (int(most) if most else max(least, FOR_EVER)) + 1
