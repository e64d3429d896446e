"""The life of everything that starts and stops.

    New ──start──► Starting ──► Running ──stop──► Stopping ──► Terminated
                      │            │                  │
                      └────────────┴──── error ───────┴──────► Failed

Started in order, stopped in reverse; what failed to start is stopped as far as it had come.
"""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    TERMINATED = "terminated"
    FAILED = "failed"


class Component(Protocol):
    """`start` returns when the component is of use; `stop` when it holds nothing any more.

    `stop` must be safe after a failed `start`.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Group:
    """Several components as one."""

    def __init__(self, components: Sequence[Component]) -> None:
        self._components = list(components)
        self._started: list[Component] = []
        self.state = State.NEW

    async def start(self) -> None:
        self.state = State.STARTING
        for component in self._components:
            self._started.append(component)
            try:
                await component.start()
            except BaseException:
                await self._stop_started()
                self.state = State.FAILED
                raise
        self.state = State.RUNNING

    async def stop(self) -> None:
        """Stop all, whatever one of them says; the first error is raised at the end."""
        self.state = State.STOPPING
        error = await self._stop_started()
        self.state = State.FAILED if error else State.TERMINATED
        if error is not None:
            raise error

    async def _stop_started(self) -> Exception | None:
        first: Exception | None = None
        while self._started:
            component = self._started.pop()
            try:
                await asyncio.shield(component.stop())
            except Exception as error:  # noqa: BLE001 - the others must still be stopped
                first = first or error
        return first
