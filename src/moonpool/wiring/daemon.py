"""A platform in the background: it outlives the terminal that started it.

The child reports through a pipe for as long as the starter listens; its output goes to
`logs/supervisor.log`.
"""

import asyncio
import contextlib
import os
import sys
import traceback

import msgspec

from moonpool.core.errors import StartupError
from moonpool.wiring import logging as logs
from moonpool.wiring.launch import Failed, Report, run_platform
from moonpool.wiring.layout import Layout
from moonpool.wiring.supervisor import Plan

_encoder = msgspec.json.Encoder()


def start_in_background(layout: Layout, plan: Plan) -> int:
    """Fork the supervisor; the pipe's end to read its reports from. No thread may run yet."""
    layout.create()
    read, write = os.pipe()
    first = os.fork()
    if first == 0:
        _fall_apart(layout, plan, read, write)
    os.close(write)
    os.waitpid(first, 0)
    return read


def _fall_apart(layout: Layout, plan: Plan, read: int, write: int) -> None:
    """In the fork: a session of its own, then fork again to be nobody's child (daemon(7)). Never returns."""
    code = 1
    try:
        os.close(read)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        code = _run(layout, plan, write)
    except BaseException:  # noqa: BLE001 - the process's boundary: told in the log, never the caller's stack
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(layout: Layout, plan: Plan, write: int) -> int:
    _redirect(layout)
    logs.set_up(module="supervisor", instance=f"supervisor-{os.getpid()}", level=plan.log_level)
    pipe = _Pipe(write)
    try:
        return asyncio.run(run_platform(layout, plan, pipe.report))
    except StartupError as error:
        pipe.report(Failed(str(error)))
        return 1


class _Pipe:
    """Reports go nowhere once the starter has left."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        os.set_blocking(fd, False)

    def report(self, report: Report) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, _encoder.encode(report) + b"\n")
        except BlockingIOError:  # the starter is stopped (Ctrl-Z): it will see the topology file
            return
        except OSError:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None


def _redirect(layout: Layout) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(layout.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
