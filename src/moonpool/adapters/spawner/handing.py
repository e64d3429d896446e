"""What a process is handed that is about to become another program: descriptors that outlive exec(2), and
secrets that neither its arguments nor its environment show."""

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def readable(data: bytes) -> int:
    """A descriptor that gives `data`, from the beginning, and is nobody else's: no file has its name."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("told", 0)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.set_inheritable(fd, True)
    with os.fdopen(os.dup(fd), "wb") as out:
        out.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def death_follows() -> Callable[[], None]:
    """To call in a child between fork and exec: the kernel kills it when its parent ends, however that
    ended. Does nothing where the system (macOS) has no such thing. Made before the fork: after it nothing
    may be loaded."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

    return ask
