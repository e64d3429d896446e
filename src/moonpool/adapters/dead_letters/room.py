"""How much the queue may hold, and one tenant of it. Pure."""

from collections.abc import Mapping

from moonpool.core.errors import Overloaded
from moonpool.ports.dead_letters import Note

TENANT_SHARE = 0.5
"""Of letters and bytes, so that one tenant's outage leaves room for another's."""
FULL_WAIT = 60.0
"""Seconds after which there may be room again."""


class Room:
    """`used`: letters and bytes by tenant."""

    def __init__(
        self, used: Mapping[str, tuple[int, int]], *, maximum_bytes: int, maximum_letters: int
    ) -> None:
        self._used = dict(used)
        self._letters = sum(count for count, _ in used.values())
        self._bytes = sum(size for _, size in used.values())
        self._maximum_bytes = maximum_bytes
        self._maximum_letters = maximum_letters

    def take(self, note: Note) -> Overloaded | None:
        """Take the room that `note` needs, or say why there is none."""
        count, size = self._used.get(note.tenant, (0, 0))
        if self._letters >= self._maximum_letters or self._bytes + note.size > self._maximum_bytes:
            return _full("the queue of deferred requests is full")
        over = count >= self._maximum_letters * TENANT_SHARE
        if over or size + note.size > self._maximum_bytes * TENANT_SHARE:
            return _full("your organisation's share of the queue of deferred requests is full")
        self._used[note.tenant] = (count + 1, size + note.size)
        self._letters += 1
        self._bytes += note.size
        return None


def _full(message: str) -> Overloaded:
    return Overloaded(message, code="deferred_queue_full", retry_after=FULL_WAIT)
