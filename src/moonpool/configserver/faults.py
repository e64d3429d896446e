"""Who changes documents, and what becomes of those who come too late."""

from dataclasses import dataclass

from moonpool.core.errors import Conflict, RequestError


@dataclass(frozen=True)
class Author:
    """`service` is set when a module writes on its own behalf, `local` for a user of the machine, who comes
    past the gateway."""

    who: str
    key: str = ""
    request_id: str = ""
    service: str = ""
    local: bool = False


class VersionConflict(Conflict):
    """`present` is the version there is now."""

    code = "version_conflict"

    def __init__(self, name: str, present: int, expected: int) -> None:
        super().__init__(_late(name, present, expected), param="version", hint=_HINT)
        self.present = present


class StaleMatch(RequestError):
    """The same for a version that came as If-Match (RFC 9110 section 13.1.1)."""

    status = 412
    code = "version_conflict"

    def __init__(self, name: str, present: int, expected: int) -> None:
        super().__init__(_late(name, present, expected), param="if-match", hint=_HINT)
        self.present = present


_HINT = "Read the document again and repeat your change on it."


def _late(name: str, present: int, expected: int) -> str:
    return f"{name} is at version {present} now, not {expected}."
