"""What is wrong with a document, and where in it: all of it at once, so that a person mends it once."""

from collections.abc import Sequence
from typing import NamedTuple

from moonpool.core.errors import Unprocessable


class Fault(NamedTuple):
    """`place` is a path into the document (`shares[1].weight`); `hint` says the way out."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def refuse(what: str, faults: Sequence[Fault]) -> None:
    """Raises Unprocessable that names the first fault's place and tells all; nothing when there is none."""
    if faults:
        raise Unprocessable(
            f"{what} is refused: " + "; ".join(map(str, faults)),
            code="invalid_document",
            param=faults[0].place,
            hint=" ".join(dict.fromkeys(fault.hint for fault in faults if fault.hint)) or None,
        )
