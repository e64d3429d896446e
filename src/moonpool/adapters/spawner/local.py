"""Runs instances as processes of this machine, forked from one warm fork server.

    supervisor ──(request, sockets)──► fork server (libraries loaded, no threads) ──fork──► child
         ▲  └────────── lifeline: a byte tells the child that it is replaced, its end to end soon ┘ │
         └───────────── status: its end tells that the child has ended ◄────────────────────────┘

The fork server is the standard library's. The libraries it has loaded are shared by all children, which
makes a child cheap to start and small. Nothing here goes by process ids, which may be reused: a child is
asked to end by closing its lifeline, is known to have ended by the end of its status pipe, and is killed
through a pidfd where the system has them. When the supervisor is killed, all lifelines end at once.
When the fork server is killed, its children live on and the next spawn starts another one.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerProcess
from typing import Protocol, TypeVar

from moonpool.adapters.spawner import tracker
from moonpool.adapters.spawner.status import Said
from moonpool.core.errors import Unavailable
from moonpool.ports.spawner import Draining, Spec

T = TypeVar("T")

SPAWN_ATTEMPTS = 3
"""A fork server that was killed is noticed by the failure of the next request, which is then repeated."""
REAP_SECONDS = 2.0
"""How long after a child's end the fork server is waited for to tell the exit code."""
UNKNOWN_EXIT = -signal.SIGKILL
"""What is reported when nobody could tell: the child ended without a word, and so did its parent."""


class Inherited:
    """A file descriptor on its way to a child: pickling it while a process starts passes it on."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[object, ...]:
        return _receive, (reduction.DupFd(self.fd),)


class _Duplicate(Protocol):
    def detach(self) -> int: ...


def _receive(duplicate: _Duplicate) -> Inherited:
    return Inherited(duplicate.detach())


ChildMain = Callable[[list[socket.socket], Inherited, Inherited], None]
"""Runs in the child with its sockets, the lifeline to read and the status pipe to write; picklable."""


class LocalProcess:
    """One child. The supervisor's ends of its two pipes are closed when it has ended."""

    def __init__(self, process: ForkServerProcess, lifeline: int, status: int) -> None:
        assert process.pid is not None
        self.pid: int = process.pid
        self._process = process
        self._lifeline: int | None = lifeline
        self._status = status
        self._pidfd = _pidfd(self.pid)
        self._said = Said()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        os.set_blocking(status, False)
        asyncio.get_running_loop().add_reader(status, self._on_status)
        self._reaper: asyncio.Task[None] | None = None

    @property
    def failure(self) -> str:
        return self._said.text

    @property
    def draining(self) -> Draining:
        return Draining(notes=self._said.notes, tells=self._said.tells, under_way=self._said.under_way)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def retire(self) -> bool:
        if not self._said.notes or self._lifeline is None:
            return False
        try:
            os.write(self._lifeline, b"\n")
        except OSError:  # it has just ended
            return False
        return True

    def terminate(self) -> None:
        if self._lifeline is not None:
            lifeline, self._lifeline = self._lifeline, None
            os.close(lifeline)

    def kill(self) -> None:
        if self._code.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def _on_status(self) -> None:
        try:
            data = os.read(self._status, 65536)
        except BlockingIOError:
            return
        if data:
            self._said.feed(data)
            return
        asyncio.get_running_loop().remove_reader(self._status)
        os.close(self._status)
        self.terminate()
        self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        code = await asyncio.to_thread(self._exit_code)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self._code.set_result(code)

    def _exit_code(self) -> int:
        """From the fork server; from the kernel when that is gone and the child has become ours."""
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        self._process.join(REAP_SECONDS)
        code = self._process.exitcode
        return UNKNOWN_EXIT if code is None or code == 255 else code


class LocalSpawner:
    """`main_for` makes what the child of a spec runs; `preload` names modules the fork server loads."""

    def __init__(self, main_for: Callable[[Spec], ChildMain], *, preload: Sequence[str] = ()) -> None:
        self._main_for = main_for
        self._preload = list(preload)
        self._context = multiprocessing.get_context("forkserver")
        # One thread: the fork server takes one request at a time, and `_without_main` is process-wide.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spawner")
        self._running: set[LocalProcess] = set()

    async def start(self) -> None:
        """Start loading in the background: the first spawn waits for it, this does not."""
        await self._call(self._start_fork_server)

    async def stop(self) -> None:
        """End at once what still runs, then the fork server."""
        for process in self._running:
            process.kill()
        for process in list(self._running):
            await process.wait()
        await self._call(_stop_fork_server)
        self._thread.shutdown()

    async def spawn(self, spec: Spec, sockets: Sequence[socket.socket]) -> LocalProcess:
        lifeline_read, lifeline = os.pipe()
        status, status_write = os.pipe()
        main = self._main_for(spec)
        arguments = (list(sockets), Inherited(lifeline_read), Inherited(status_write))
        try:
            child = await self._call(lambda: self._start_child(spec.instance, main, arguments))
        except (OSError, EOFError) as error:
            os.close(lifeline)
            os.close(status)
            raise Unavailable(f"no process could be started: {error}") from error
        finally:
            os.close(lifeline_read)
            os.close(status_write)
        process = LocalProcess(child, lifeline, status)
        self._running.add(process)
        process._code.add_done_callback(lambda _: self._running.discard(process))
        return process

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _start_fork_server(self) -> None:
        self._context.set_forkserver_preload(self._preload)
        tracker.start_none()
        with _without_main():
            forkserver.ensure_running()

    def _start_child(
        self, name: str, main: ChildMain, arguments: tuple[list[socket.socket], Inherited, Inherited]
    ) -> ForkServerProcess:
        for attempt in range(1, SPAWN_ATTEMPTS + 1):
            process = self._context.Process(target=main, args=arguments, name=name)
            try:
                with _without_main():
                    process.start()
            except (OSError, EOFError):
                if attempt == SPAWN_ATTEMPTS:
                    raise
            else:
                return process
        raise AssertionError("the loop returns or raises")


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Children need nothing of `__main__` (the command line), and the standard library would run it
    again in each of them to be able to unpickle what it defines."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _pidfd(pid: int) -> int | None:
    """None where the system has none (macOS), or when the process is gone already."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _stop_fork_server() -> None:
    """There is no public way. It would end by itself when nobody holds its pipe any more, but a process
    that a child has forked may hold that for long; it has nothing to lose, and is ours until reaped."""
    server = forkserver._forkserver
    pid: int | None = server._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # reaped by the process's own SIGCHLD settings
        server._stop()  # type: ignore[attr-defined]
