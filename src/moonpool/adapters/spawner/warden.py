"""Runs any program as an instance, in its place: the program knows nothing of lifelines.

    supervisor ──lifeline──► warden (a child of the fork server) ──SIGTERM, at last SIGKILL──► program
               ◄──status────            ends as the program ended ◄──────────────────────────────┘

The program is given its listening sockets as systemd gives them (sd_listen_fds(3): LISTEN_FDS, from
descriptor 3 on) or a path to listen on itself. It is told to end by SIGTERM to its process group, be it
replaced or not, and what is left of the group after its end, or its time, is killed. When the warden is
killed the kernel kills the program with it.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

from moonpool.adapters.spawner.handing import death_follows
from moonpool.adapters.spawner.status import note

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
CANNOT_RUN = 78
"""EX_CONFIG: a person has to mend something."""


def run_program(
    argv: Sequence[str],
    environment: Mapping[str, str],
    sockets: Sequence[int],
    *,
    kept: Mapping[str, int],
    lifeline: int,
    status: int,
    drain_timeout: float,
    replaced_drain_timeout: float = 0.0,
) -> int:
    """The program's exit code (negative: the signal).

    `kept` are further descriptors for it; each is named to it by an environment variable. With a
    `replaced_drain_timeout` it may be told that it was replaced (status.py).
    Single-threaded: it forks.
    """
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(ended, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    follow = death_follows()
    pid = os.fork()
    if pid == 0:
        _become(argv, environment, sockets, kept, status, follow)
    for fd in (*sockets, *kept.values()):
        os.close(fd)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # by both: whoever comes first
    if replaced_drain_timeout:
        with contextlib.suppress(OSError):
            os.write(status, note())
    code = _watch(pid, lifeline, ended, drain_timeout, replaced_drain_timeout)
    _signal(pid, signal.SIGKILL)  # what it may have left behind
    return code


def _watch(pid: int, lifeline: int, ended: int, drain_timeout: float, replaced_drain_timeout: float) -> int:
    """Until it has ended; the exit code."""
    listening, patience = [lifeline, ended], cast(float | None, None)
    while True:
        done, state = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(state)
        left = None if patience is None else patience - time.monotonic()
        if left is not None and left <= 0:
            _signal(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        heard = select.select(listening, [], [], left)[0]
        if ended in heard:
            with contextlib.suppress(BlockingIOError):
                os.read(ended, 512)
        if lifeline in heard:
            replaced = bool(os.read(lifeline, 1))
            if not replaced:
                listening.remove(lifeline)
            if patience is None:
                _signal(pid, signal.SIGTERM)
            until = time.monotonic() + (replaced_drain_timeout if replaced else drain_timeout)
            patience = until if patience is None else min(patience, until)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _become(
    argv: Sequence[str],
    environment: Mapping[str, str],
    sockets: Sequence[int],
    kept: Mapping[str, int],
    status: int,
    follow: object,
) -> NoReturn:
    """In the fork: arrange the descriptors and become the program."""
    try:
        assert callable(follow)
        follow()
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        # First out of the way of 3, 4, …, then into place: no target may still be somebody's source.
        beyond = FIRST_FD + len(sockets) + len(kept)
        lifted = [_above(fd, beyond) for fd in (*sockets, *kept.values())]
        for place, fd in enumerate(lifted, FIRST_FD):
            os.dup2(fd, place, inheritable=True)
        env = dict(environment)
        if sockets:
            env |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": str(os.getpid())}
        for place, name in enumerate(kept, FIRST_FD + len(sockets)):
            env[name] = str(place)
        os.execvpe(argv[0], list(argv), env)  # noqa: S606 - what the operator has registered
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(status, f"cannot be run: {argv[0]}: {error.strerror}".encode()[:4096])
    finally:
        os._exit(CANNOT_RUN)


def _above(fd: int, least: int) -> int:
    """A duplicate of `fd` from `least` on; it ends with exec."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
