"""A config server on a real database, without HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from moonpool.adapters.database.sqlite import SqliteDatabase
from moonpool.configserver.hub import Hub
from moonpool.configserver.judging import Judge
from moonpool.configserver.service import ConfigService
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.wire import Snapshot
from moonpool.core.clock import ManualClock
from moonpool.wiring.adapters import CONFIG_MIGRATIONS

Open = Callable[..., Awaitable["Server"]]


class Server:
    def __init__(self, service: ConfigService, hub: Hub, kept: list[Snapshot], clock: ManualClock) -> None:
        self.service = service
        self.hub = hub
        self.kept = kept
        self.clock = clock


@pytest.fixture
async def open_server(tmp_path: Path) -> AsyncIterator[Open]:
    """`await open_server(given=…)`: called again it opens the same data, as a restarted server would."""
    async with AsyncExitStack() as stack:

        async def open_(
            kinds: Kinds | None = None, environ: dict[str, str] | None = None, **more: Any
        ) -> Server:
            hub, kept, clock = Hub(beat=0.05), [], ManualClock()
            service = ConfigService(
                database=more.pop("database", None)
                or SqliteDatabase(tmp_path / "config.db", CONFIG_MIGRATIONS),
                judge=Judge(kinds or Kinds([PLATFORM]), environ or {}),
                hub=hub,
                clock=clock,
                log=structlog.get_logger(),
                keep=kept.append,
                **more,
            )
            await service.start()
            stack.push_async_callback(service.stop)
            return Server(service, hub, kept, clock)

        yield open_
