"""What a measurement needs of a server under test."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.machine import Cores, confined
from bench.requests import Site


@dataclass(frozen=True)
class Peer:
    """`plain` leads to the stub that answers at once, `streaming` to the one that streams. `pids` do the
    relaying and are alone on their core; `beside` are the rest of its processes."""

    name: str
    version: str
    plain: Site
    streaming: Site
    pids: tuple[int, ...] = ()
    beside: Callable[[], list[int]] = list


@dataclass(frozen=True)
class Setting:
    """Where a peer finds its upstreams (ports), a folder for its files, its cores, and who ends it."""

    plain: int
    streaming: int
    folder: Path
    cores: Cores
    stack: ExitStack


def launch(
    command: list[str],
    log: Path,
    cores: frozenset[int],
    stack: ExitStack,
    environment: dict[str, str] | None = None,
) -> int:
    """Start a server on these cores; it is ended, and waited for, when `stack` is left. Returns its pid."""
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        preexec_fn=confined(cores),
    )
    stack.callback(_end, process)
    return process.pid


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
