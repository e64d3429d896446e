"""Starts a platform in the background: it outlives the terminal that started it.

    command line ──fork──► session of its own ──fork──► exec: background.py, the supervisor
         ◄───────────────────── reports, for as long as it listens ─────────────────┘

The supervisor runs for weeks, and is executed anew so that it does not keep what the command line needed
to understand its arguments (20 MB of typer, rich and pydantic).
"""

import os
import subprocess
import sys
import traceback
from typing import NoReturn

import msgspec

from moonpool.adapters.spawner.handing import readable
from moonpool.wiring.background import MODULE
from moonpool.wiring.layout import Layout
from moonpool.wiring.secrets import take_given
from moonpool.wiring.supervising import Told
from moonpool.wiring.supervisor import Plan


def start_in_background(layout: Layout, plan: Plan) -> int:
    """Start the supervisor; the pipe's end to read its reports from. No thread may run yet."""
    layout.create()
    told = Told(root=str(layout.root), plan=plan, path=tuple(sys.path), secret=take_given())
    read, write = os.pipe()
    first = os.fork()
    if first == 0:
        _fall_apart(layout, told, read, write)
    os.close(write)
    os.waitpid(first, 0)
    return read


def _fall_apart(layout: Layout, told: Told, read: int, write: int) -> NoReturn:
    """In the fork: a session of its own, then fork again to be nobody's child (daemon(7))."""
    try:
        os.close(read)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _redirect(layout)
        _execute(told, write)
    except BaseException:  # noqa: BLE001 - the process's boundary: told in the log, never the caller's stack
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


def _execute(told: Told, write: int) -> NoReturn:
    """What it is told goes through a descriptor: the secret is nobody else's, and paths may be long."""
    os.set_inheritable(write, True)
    document = readable(msgspec.json.encode(told))
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # -P: a file in the folder where it was started is none of its modules. The data folder is for ps.
    words = [sys.executable, *flags, "-P", "-m", MODULE, told.root, f"{document}", f"{write}"]
    os.execv(sys.executable, words)  # noqa: S606 - no shell is wanted


def _redirect(layout: Layout) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(layout.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
