"""Which waiting letters are sent now. Pure.

A service that is away is left alone, without costing its letters attempts. One that failed is tried with one
letter at a time, after pauses that double, until one succeeds: what waits must not be a herd on recovery.
"""

from collections.abc import Collection, Sequence

from moonpool.ports.dead_letters import Note

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
CONCURRENCY = 4
"""Letters under way at a time, over all services."""


class Schedule:
    def __init__(self, concurrency: int = CONCURRENCY) -> None:
        self._concurrency = concurrency
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self._away: frozenset[str] = frozenset()

    def returned(self, away: Collection[str]) -> list[str]:
        """Services that were away at the last call and are not any more."""
        before, self._away = self._away, frozenset(away)
        back = sorted(before - self._away)
        for service in back:
            self.succeeded(service)
        return back

    def held(self, now: float) -> frozenset[str]:
        """Services of which nothing is sent now."""
        return self._away | {service for service, until in self._until.items() if until > now}

    def choose(self, due: Sequence[Note], working: Collection[Note], now: float) -> list[Note]:
        """Of `due` (the longest due first), given what is under way."""
        free = self._concurrency - len(working)
        held = self.held(now)
        busy = {note.service for note in working}
        known = {note.id for note in working}
        chosen: list[Note] = []
        for note in due:
            if len(chosen) >= free:
                break
            doubtful = note.service in self._failures
            if note.id in known or note.service in held or (doubtful and note.service in busy):
                continue
            chosen.append(note)
            busy.add(note.service)
        return chosen

    def failed(self, service: str, now: float) -> None:
        failures = self._failures.get(service, 0) + 1
        self._failures[service] = failures
        self._until[service] = now + min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)

    def succeeded(self, service: str) -> None:
        self._failures.pop(service, None)
        self._until.pop(service, None)
