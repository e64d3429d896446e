"""Which core does what, and what a server under test costs: the only place that looks into /proc."""

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Cores:
    """`gateway` holds nothing but the server under test; the load and the stub share the others."""

    gateway: int
    others: frozenset[int]


def cores() -> Cores:
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        raise SystemExit("bench needs two cores: one for the server under test, one for the load.")
    return Cores(gateway=mine[-1], others=frozenset(mine[:-1]))


def worst_pause(core: int, seconds: float = 1.0) -> float:
    """The longest time, in seconds, for which a busy program on this core was not run: what other programs
    or the host under a virtual machine take, and what no server can be blamed for."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    end = last = time.perf_counter()
    end, worst = end + seconds, 0.0
    while last < end:
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    os.sched_setaffinity(0, mine)
    return worst


def confined(to: frozenset[int]) -> Callable[[], None]:
    """For `preexec_fn`: run on these cores only, and end when the benchmark ends, however it ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        os.sched_setaffinity(0, to)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare


def pin(pid: int, to: frozenset[int]) -> None:
    """Move a running process with all its threads (psutil's cpu_affinity moves the first one only)."""
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, to)


def yield_to_load(pids: list[int]) -> None:
    """Let the load and the stub go first where they share a core with these: a load that has to wait for a
    time slice would charge milliseconds to the server under test. A nice value would not do: whoever is woken
    still waits until a running program of lower priority has used up its slice (2.8 ms)."""
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            os.sched_setscheduler(thread.id, os.SCHED_IDLE, os.sched_param(0))


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that these processes have used, all threads, in steps of 10 ms."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def memory(pids: list[int]) -> int:
    """Proportional set size in bytes: pages shared with others count in part."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_port(port: int, seconds: float = 15.0) -> None:
    """Raises TimeoutError when nothing accepts there in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port} after {seconds:g} s")
