"""The supervisor's releases are those of the config server's documents, and it never waits for them.

    config server ──pushes──► list.json (shelf.py) ──► what can be started here
    list.json ──a module without a document, once──► config server

What was pushed last stands on the disk and is all that a start needs. When one of the two was killed between
document and file, the next connection finds the difference: it begins with everything.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from moonpool.adapters.config.beginning import Beginning
from moonpool.adapters.config.server import ServerConfig
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.sparse import sparse
from moonpool.contracts.documents.wire import Kept, Stored
from moonpool.contracts.releases import MODULES, ServiceReleases
from moonpool.core.errors import MoonpoolError, StartupError, Unavailable, Unprocessable
from moonpool.upgrade.release_documents import SUPERVISOR, document_name, first_document
from moonpool.wiring.release_files import RELEASES
from moonpool.wiring.shelf import Shelf


class Link(Protocol):
    """To the config server. Both raise MoonpoolError."""

    def connect(self, since: str) -> AsyncIterator[bytes]:
        """The chunks of the watch, as adapters.config.server has it."""

    async def first(self, name: str, content: object, reason: str) -> None:
        """Write a document if there is none of that name."""


class ReleaseFollower:
    """A component. `look` is to be called now and then: for what had to wait."""

    def __init__(self, shelf: Shelf, link: Link, log: FilteringBoundLogger) -> None:
        self._shelf = shelf
        self._link = link
        self._log = log
        self._taken: dict[str, Stored] = {}
        self._told: dict[str, str] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None
        self._refused: dict[str, ServiceReleases] = {}
        self._heard = False
        # Its own files are its snapshot: from "snapshot" on, a server without its database has nothing newer.
        self._source = ServerConfig(
            instance=SUPERVISOR,
            kinds=Kinds([RELEASES]),
            beginning=Beginning(PlatformConfig(), "snapshot"),
            connect=link.connect,
            keep=self._hear,
            environ={},
            log=log,
        )

    async def start(self) -> None:
        self._sweep()
        await self._source.start()

    async def stop(self) -> None:
        await self._source.stop()
        tasks = [task for task in (self._handing, self._sweeping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """What ran when it was removed may have ended, a disk may have room again, a server may take more."""
        if self._source.standing.live and self._heard:
            self._follow()

    def _hear(self, kept: Kept) -> None:
        if kept.live and kept.snapshot.epoch:
            self._heard = True
            self._follow()

    def _follow(self) -> None:
        missing = []
        for service in MODULES:
            stored = self._source.stored(document_name(service))
            if stored is None:
                missing.append(service)
            elif self._taken.get(service) != stored:
                self._take(service, stored)
        if missing and (self._handing is None or self._handing.done()):
            self._handing = asyncio.create_task(self._hand_over(missing), name="releases handed over")

    def _take(self, service: str, stored: Stored) -> None:
        document = self._source.find(RELEASES, stored.name)
        if document is None:
            return  # refused, and told in the log
        try:
            held = self._shelf.follow(service, document.releases.values(), stored.at)
        except (Unavailable, StartupError) as error:
            self._say(service, f"not kept: {error}")
            return
        if held:
            self._say(service, f"still used here, whatever the document says: {', '.join(held)}")
        else:
            self._taken[service] = stored
            self._told.pop(service, None)
            self._sweep()

    async def _hand_over(self, services: list[str]) -> None:
        """Releases that were added before there were documents of them are the first ones."""
        try:
            known = self._shelf.releases()
            used = {service: self._shelf.in_use(service) for service in services}
        except StartupError as error:
            self._say("", str(error))
            return
        for service in services:
            document = first_document(service, known, used[service])
            if not document.releases or document == self._refused.get(service):
                continue
            name = document_name(service)
            try:
                await self._link.first(name, sparse(document), "what was added before")
            except Unprocessable as error:
                self._refused[service] = document  # else it would be refused, and noted, for ever
                self._say(service, f"refused by the config server: {error}")
            except MoonpoolError as error:
                self._say(service, f"not handed over to the config server: {error}")
            else:
                self._log.info("releases handed over", document=name, releases=sorted(document.releases))

    def _say(self, service: str, reason: str) -> None:
        """Once, and not at every look."""
        if self._told.get(service) != reason:
            self._told[service] = reason
            self._log.warning("releases differ from their document", service=service, reason=reason)

    def _sweep(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(asyncio.to_thread(self._shelf.sweep), name="sweep releases")
