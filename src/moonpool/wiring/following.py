"""What a process follows while it runs: the topology, the catalogue of models, revoked keys.

Each keeps its last good state when its source is away, and never stops the process.
"""

import asyncio
import os
import time
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.contracts.auth import REVOCATIONS
from moonpool.contracts.catalogue import Catalogue, CatalogueClient
from moonpool.core.errors import MoonpoolError
from moonpool.middleware.authentication import KeyCache
from moonpool.ports.discovery import Discovery
from moonpool.ports.events import EventLog

POLL = 1.0
"""Seconds between looks at the catalogue as long as there is nothing new."""
HURRY = 0.05
"""Seconds between looks as long as there is no catalogue at all."""


STEADY = 10.0
"""Seconds after which following counts as having worked: the pause is short again."""


class TopologyFollower:
    """Keeps the pools in step with the topology."""

    def __init__(self, discovery: Discovery, pools: Pools) -> None:
        self._discovery = discovery
        self._pools = pools

    async def start(self) -> None:
        self._discovery.subscribe(self._pools.update)
        await self._discovery.start()
        self._pools.update(self._discovery.current)

    async def stop(self) -> None:
        await self._discovery.stop()


class Follower:
    """A task that is restarted after errors, with a pause that grows."""

    def __init__(self, name: str, log: FilteringBoundLogger) -> None:
        self._name = name
        self._log = log
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def follow(self) -> None:
        """Runs until it fails or is cancelled."""
        raise NotImplementedError

    async def _run(self) -> None:
        pause = HURRY
        while True:
            began = time.monotonic()
            try:
                await self.follow()
            except MoonpoolError as error:
                level = self._log.debug if pause < 1.0 else self._log.warning
                level("cannot follow", source=self._name, reason=error.detail)
            except Exception as error:  # noqa: BLE001 - the task's boundary: following must go on
                self._log.error("cannot follow", source=self._name, exc_info=error)
            if time.monotonic() - began > STEADY:
                pause = HURRY
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2.0)


class CatalogueFollower(Follower):
    """Waits at the model service for news; what came last is on disk, so that a process can start while that
    service is away."""

    def __init__(
        self, client: CatalogueClient, models: Models, snapshot: Path, log: FilteringBoundLogger
    ) -> None:
        super().__init__("catalogue", log)
        self._client = client
        self._models = models
        self._snapshot = snapshot

    async def start(self) -> None:
        try:
            self._models.update(msgspec.json.decode(self._snapshot.read_bytes(), type=Catalogue))
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, ValueError) as error:
            self._log.warning("no last known catalogue", path=str(self._snapshot), reason=str(error))
        await super().start()

    async def follow(self) -> None:
        fresh = False
        while True:
            asked = time.monotonic()
            catalogue = await self._client.catalogue(self._models.version if fresh else None)
            if not fresh or catalogue.version != self._models.version:
                fresh = True
                self._models.update(catalogue)
                self._keep(catalogue)
            else:  # a service that does not wait must not be asked without end
                await asyncio.sleep(max(0.0, POLL - (time.monotonic() - asked)))

    def _keep(self, catalogue: Catalogue) -> None:
        temporary = self._snapshot.with_suffix(f".{os.getpid()}.new")  # several gateways keep the same
        try:
            temporary.write_bytes(msgspec.json.encode(catalogue))
            temporary.replace(self._snapshot)
        except OSError as error:
            self._log.warning("catalogue not kept", path=str(self._snapshot), reason=str(error))


class RevocationFollower(Follower):
    """Forgets keys as soon as the auth service says that they were revoked."""

    def __init__(self, events: EventLog, cache: KeyCache, group: str, log: FilteringBoundLogger) -> None:
        super().__init__("revocations", log)
        self._events = events
        self._cache = cache
        self._group = group

    async def follow(self) -> None:
        async with self._events.consumer(REVOCATIONS, self._group, from_end=True) as consumer:
            while True:
                for delivered in await consumer.poll(wait=5.0):
                    self._cache.revoke(delivered.event.key)
                await consumer.commit()
