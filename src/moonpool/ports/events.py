"""A durable log of events: topics, partitions by key, consumer groups, at-least-once.

Order holds within a partition, and equal keys share one. A consumer commits after it has done the
work, so whoever dies in between makes the next one see the event again: consumers are idempotent.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class Event(msgspec.Struct, frozen=True):
    """What a producer gives. `id` is the producer's own, for consumers to recognise repetitions."""

    id: str
    key: str
    value: bytes


class Delivered(msgspec.Struct, frozen=True):
    """What a consumer gets. `at` is Unix seconds of the append."""

    topic: str
    partition: int
    offset: int
    at: float
    event: Event


class Consumer(Protocol):
    """One member of a consumer group; partitions are shared out among the members that are alive."""

    async def poll(self, *, limit: int = 500, wait: float = 1.0) -> Sequence[Delivered]:
        """The next events after the last committed or polled, empty after `wait` seconds without any."""

    async def commit(self) -> None:
        """All that was polled is done."""


class EventLog(Protocol):
    """Raises core.errors.Unavailable when the log is away."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def append(self, topic: str, events: Sequence[Event]) -> None:
        """Returns when all events are durable (all of them or none)."""

    def consumer(
        self, topic: str, group: str, *, from_end: bool = False
    ) -> AbstractAsyncContextManager[Consumer]:
        """Join `group`; a new group starts at the beginning, or at the end with `from_end`."""

    async def lag(self, topic: str, group: str) -> int:
        """Events appended and not yet committed by `group`."""

    async def ping(self) -> None: ...
