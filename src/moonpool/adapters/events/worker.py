"""The one thread of a process that speaks to the log's file."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import structlog

from moonpool.adapters.database.sqlite_errors import translate
from moonpool.core.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

_log = structlog.get_logger(__name__)


class Worker:
    """Calls run in order of arrival; SQLite's errors come back as the platform's."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="event-log")

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A call that has begun is finished also when the caller is cancelled."""
        if self._thread is None:
            raise Unavailable("The event log is closed.", retry_after=1.0)
        try:
            return await asyncio.wrap_future(self._thread.submit(call, *args, **kwargs))
        except sqlite3.Error as error:
            _log.error("event log error", error=str(error), call=call.__name__)
            raise translate(error, "the event log") from error

    async def close(self) -> None:
        """Returns when all calls have ended."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
