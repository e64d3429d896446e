"""The manifests of releases that run beside this package's own: each is asked once for what it declares."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.balancing.pools import Pools
from moonpool.contracts.manifest import Manifest
from moonpool.core.errors import MoonpoolError
from moonpool.wiring.clients import ServiceCaller

PATH = "/internal/manifest"
AGAIN = 2.0
"""Seconds after which a release that did not tell is asked again."""
TIMES = 5

Key = tuple[str, str]
"""Service and label."""


class ReleaseManifests:
    """`changed` is told of those that differ from `own`, which the gateway's table was made of. A program
    that has none to tell is taken to keep to `own`."""

    def __init__(
        self,
        own: Mapping[str, Manifest],
        pools: Pools,
        caller: ServiceCaller,
        log: FilteringBoundLogger,
        changed: Callable[[Mapping[Key, Manifest]], None],
    ) -> None:
        self._own = own
        self._pools = pools
        self._caller = caller
        self._log = log
        self._changed = changed
        self._known: dict[Key, Manifest | None] = {}
        self._asking: dict[Key, asyncio.Task[None]] = {}
        pools.on_update(self._look)

    async def start(self) -> None:
        self._look()

    async def stop(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        there: set[Key] = set()
        for service in self._own:
            ready = {e.release for e in self._pools.endpoints(service) if e.internal and e.ready}
            if len({e.release for e in self._pools.endpoints(service)}) < 2:
                continue  # the only one there is what the table is made of, or takes its place unasked
            there |= {(service, label) for label in ready}
        for key in there - self._known.keys() - self._asking.keys():
            self._asking[key] = asyncio.create_task(self._ask(key), name=f"manifest {key[0]}@{key[1]}")
        running = {(s, e.release) for s in self._own for e in self._pools.endpoints(s)}
        gone = [key for key in self._known if key not in running]
        for key in gone:
            del self._known[key]
        if gone:
            self._tell()

    async def _ask(self, key: Key) -> None:
        service, label = key
        try:
            for _ in range(TIMES):
                try:
                    body = await self._caller.call(service, "GET", PATH, release=label)
                    manifest = msgspec.json.decode(body, type=Manifest)
                except (MoonpoolError, msgspec.DecodeError) as error:
                    self._log.info("no manifest told", service=service, release=label, reason=str(error))
                    await asyncio.sleep(AGAIN)
                    continue
                self._known[key] = manifest if manifest != self._own[service] else None
                self._tell()
                return
            self._known[key] = None
        finally:
            self._asking.pop(key, None)

    def _tell(self) -> None:
        self._changed({key: manifest for key, manifest in self._known.items() if manifest is not None})
