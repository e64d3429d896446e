"""Which paths were written to since when, so that remembered answers about them are no longer used. Pure.

A write to a path makes untrue what was known of the path itself, of its parents (lists) and of what is below
it. Both sides cost as many look-ups as a path has segments, however much is remembered.
"""

from collections import OrderedDict

CAPACITY = 10_000


class Changes:
    """Counts instead of telling time: `now` is taken when an answer is asked for, and what has a number
    not above that of a related write is too old. Beyond its capacity it errs to the safe side: what was
    remembered before the newest write that it forgot counts as changed."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._floor = 0
        self._written: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._below: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.now = 1

    def write(self, tenant: str, path: str) -> None:
        self._note(self._written, (tenant, path))
        for prefix in _prefixes(path):
            self._note(self._below, (tenant, prefix))
        self.now += 1

    def since(self, tenant: str, path: str, remembered: int) -> bool:
        """Whether something related to `path` was written at or after `remembered`."""
        last = max(self._floor, self._below.get((tenant, path), 0))
        for prefix in _prefixes(path):
            last = max(last, self._written.get((tenant, prefix), 0))
        return last >= remembered

    def _note(self, where: OrderedDict[tuple[str, str], int], key: tuple[str, str]) -> None:
        where[key] = self.now
        where.move_to_end(key)
        if len(where) > self._capacity:
            self._floor = max(self._floor, where.popitem(last=False)[1])


def _prefixes(path: str) -> list[str]:
    """`path` and all above it but the root."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
