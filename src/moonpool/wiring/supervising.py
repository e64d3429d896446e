"""A supervisor's whole process in the background: what it is told, and where its reports go.

Its output is `logs/supervisor.log` already (daemon.py).
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import msgspec

from moonpool.core.errors import StartupError
from moonpool.wiring import logging as logs
from moonpool.wiring.launch import Failed, Report, run_platform
from moonpool.wiring.layout import Layout
from moonpool.wiring.secrets import SECRET_ENV
from moonpool.wiring.supervisor import Plan

_encoder = msgspec.json.Encoder()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """`path` is the starter's `sys.path`, `secret` its `$MOONPOOL_SECRET` ("" without)."""

    root: str
    plan: Plan
    path: tuple[str, ...]
    secret: str


def supervise(document: int, reports: int) -> int:
    """`document` is the number of a descriptor that gives `Told`, `reports` of the pipe that takes the
    reports, a line each, for as long as the starter listens. The exit code."""
    with os.fdopen(document, "rb") as file:
        told = msgspec.json.decode(file.read(), type=Told)
    os.set_inheritable(reports, False)
    sys.path[:] = told.path
    if told.secret:
        os.environ[SECRET_ENV] = told.secret
    logs.set_up(module="supervisor", instance=f"supervisor-{os.getpid()}", level=told.plan.log_level)
    pipe = _Pipe(reports)
    try:
        return asyncio.run(run_platform(Layout(Path(told.root)), told.plan, pipe.report))
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
