"""The inside of a module's process: event loop, signals, logging, exit codes.

    child_main   in a child of the supervisor: one module, ended by its lifeline or SIGTERM
    run_module   the same for one module in whatever event loop is there (`moonpool serve`)

Exit codes: 0 drained, 78 (EX_CONFIG of sysexits.h) a person has to mend something, 1 a fault of ours.
"""

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
import uvloop

from moonpool.adapters.spawner import tracker
from moonpool.adapters.spawner.local import Inherited
from moonpool.adapters.spawner.status import TELL_EVERY, note
from moonpool.asgi.shutdown import Shutdown
from moonpool.core.errors import StartupError
from moonpool.wiring import logging as logs
from moonpool.wiring.registry import EntryPoint, Module
from moonpool.wiring.settings import ModuleSettings

EX_CONFIG = 78
GRACE = 5.0
"""Seconds beyond its drain time-out after which the kernel ends a process that still has not ended."""


class ChildMain:
    """What the fork server's child runs. Pickled on its way there, hence a class and not a closure.

    `instances_lock` is held for as long as the child lives.
    """

    def __init__(
        self, module: Module, settings: ModuleSettings, log: Path, instances_lock: Inherited
    ) -> None:
        self._module = module
        self._settings = settings
        self._log = log
        self._instances_lock = instances_lock

    def __call__(self, sockets: list[socket.socket], lifeline: Inherited, status: Inherited) -> None:
        become_child(self._settings.name, self._log)
        os.environ.update(self._settings.overrides.environment)
        # Here: the supervisor has this module, and no use for a database's driver.
        from moonpool.wiring.migrating import migrate_apart

        migrate_apart(self._settings)
        sys.exit(run_child(self._module, self._settings, sockets, lifeline.fd, status.fd))


def run_child(
    module: Module, settings: ModuleSettings, sockets: list[socket.socket], lifeline: int, status: int
) -> int:
    """Run the module until it is told to end; the exit code. A StartupError's text goes to `status`."""
    log = logs.set_up(module=settings.name, instance=settings.instance, level=settings.log_level)
    try:
        manifest = module.load_manifest()
        if manifest is not None and manifest.nice:
            os.nice(manifest.nice)  # before there are other threads: on Linux each has its own
        entry = module.load_entry()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_told(entry, settings, sockets, lifeline, status))
    except StartupError as error:
        log.error("cannot start", error=str(error))
        with contextlib.suppress(OSError):
            os.write(status, str(error).encode()[:4096])
        return EX_CONFIG
    except Exception as error:
        log.critical("fell", exc_info=error, error=f"{type(error).__name__}: {error}")
        return 1
    log.info("ended")
    return 0


async def _until_told(
    entry: EntryPoint, settings: ModuleSettings, sockets: list[socket.socket], lifeline: int, status: int
) -> None:
    """A byte on the lifeline: a successor serves, end what is under way. Its end, or SIGTERM: end soon."""
    stop = Shutdown()
    loop = asyncio.get_running_loop()

    def told(seconds: float) -> None:
        _end_at_the_latest(seconds + GRACE)
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is ending anyway
            loop.call_soon_threadsafe(stop.begin, seconds)

    end, replaced = partial(told, settings.drain_timeout), partial(told, settings.replaced_drain_timeout)
    loop.add_signal_handler(signal.SIGTERM, end)
    threading.Thread(target=_watch, args=(lifeline, replaced, end), name="lifeline", daemon=True).start()
    telling = asyncio.create_task(_tell(stop, status)) if settings.replaced_drain_timeout else None
    try:
        await run_module(entry, settings, sockets, stop)
    finally:
        if telling is not None:
            telling.cancel()


async def _tell(stop: Shutdown, status: int) -> None:
    """That this process knows what it means to be replaced; then, as long as it drains, what it still has."""
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(status, note(0))
        await stop.wait()
        while True:
            os.write(status, note(stop.under_way()))
            await asyncio.sleep(TELL_EVERY)


async def run_module(
    entry: EntryPoint,
    settings: ModuleSettings,
    sockets: list[socket.socket],
    stop: Shutdown,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """One module's life, told in the log."""
    structlog.contextvars.bind_contextvars(module=settings.name, instance=settings.instance)
    log = structlog.get_logger()
    started = time.monotonic()

    def ready() -> None:
        log.info("serving", after_ms=round((time.monotonic() - started) * 1000), endpoint=settings.endpoint)
        on_ready()

    await entry(settings.name, settings, sockets, stop, ready)


def _watch(lifeline: int, replaced: Callable[[], None], end: Callable[[], None]) -> None:
    """In a thread, since it must work in a process whose event loop is stuck."""
    while os.read(lifeline, 1):
        replaced()
    end()


def _end_at_the_latest(seconds: float) -> None:
    """SIGALRM's default action ends the process, whatever its threads and its loop are doing."""
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, min(left, seconds) if left else seconds)


def become_child(name: str, log: Path) -> None:
    """Leave everything behind that the fork server, and through it the terminal, has given."""
    gc.enable()
    tracker.forget_none()
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    faulthandler.enable()
    with contextlib.suppress(OSError):  # Linux: what ps and top show; at most 15 bytes (prctl(2))
        Path("/proc/self/comm").write_text(f"mp-{name}"[:15])
