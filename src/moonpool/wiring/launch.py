"""A platform's whole life as `moonpool up` sees it, told as reports.

    Listening → Changed… → Ready → Changed… → Stopping → Stopped
    anything but a good start: Failed

In the foreground the command line shows the reports itself; in the background they come through a pipe.
"""

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from moonpool.core.errors import StartupError
from moonpool.ports.discovery import Instance
from moonpool.wiring.layout import Layout
from moonpool.wiring.supervisor import Plan, Supervisor

DESCRIPTORS = 65536
"""Open files that a process of ours may want: two sockets a request, and some."""


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    url: str
    pid: int
    modules: tuple[str, ...]


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    instance: Instance


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """`seconds` since the start; `admin_key` is "" when there is none (the file says who)."""

    url: str
    pid: int
    seconds: float
    admin_key: str
    admin_key_file: str
    modules: tuple[Instance, ...]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    message: str


class Stopping(msgspec.Struct, frozen=True, tag="stopping"):
    pass


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    pass


Report = Listening | Changed | Ready | Failed | Stopping | Stopped
Reporter = Callable[[Report], None]


async def run_platform(layout: Layout, plan: Plan, report: Reporter) -> int:
    """Run until a signal ends it; the exit code."""
    started = time.monotonic()
    report = _logged(report)
    _raise_descriptor_limit()
    supervisor = Supervisor(layout, plan)
    told = _Signals(supervisor)
    try:
        if not await told.unless_told(supervisor.prepare()):
            report(Stopped())
            return 0
    except StartupError as error:
        report(Failed(str(error)))
        return 1
    failure = ""
    try:
        names = tuple(module.name for module in plan.modules)
        report(Listening(supervisor.url, os.getpid(), names))
        supervisor.observe(lambda instance: report(Changed(instance)))
        await supervisor.start()
        if await told.unless_told(supervisor.wait_ready()):
            report(_ready(layout, supervisor, time.monotonic() - started))
            await told.stop.wait()
        report(Stopping())
    except StartupError as error:
        failure = str(error)
    finally:
        await supervisor.stop()
    report(Failed(failure) if failure else Stopped())
    return 1 if failure else 0


def _logged(report: Reporter) -> Reporter:
    """The reports with a line each in the supervisor's own log (an instance's changes have theirs)."""
    log = structlog.get_logger()

    def both(said: Report) -> None:
        match said:
            case Listening(url):
                log.info("listening", url=url)
            case Ready(seconds=seconds):
                log.info("ready", seconds=seconds)
            case Failed(message):
                log.error("cannot start", error=message)
            case Stopping() | Stopped():
                log.info(type(said).__name__.lower())
        with contextlib.suppress(OSError):  # the terminal is gone, or who read our output: we go on
            report(said)

    return both


class _Signals:
    """The first SIGINT, SIGTERM or SIGHUP drains; the next one does not wait any more."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.stop = asyncio.Event()
        self._supervisor = supervisor
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._told)

    def _told(self) -> None:
        if self.stop.is_set():
            self._supervisor.kill()
        self.stop.set()

    async def unless_told(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether `work` came to its end before a signal did; it is cancelled otherwise."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if working.done():
            working.result()
            return True
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        return False


def _ready(layout: Layout, supervisor: Supervisor, seconds: float) -> Ready:
    try:
        key = layout.admin_key.read_text().strip()
    except OSError:
        key = ""
    return Ready(
        url=supervisor.url,
        pid=os.getpid(),
        seconds=round(seconds, 2),
        admin_key=key,
        admin_key_file=str(layout.admin_key),
        modules=supervisor.instances,
    )


def _raise_descriptor_limit() -> None:
    """As far as the system lets us; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
