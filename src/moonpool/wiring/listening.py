"""The listening sockets, all owned by the supervisor and inherited by its children.

A socket outlives every process that accepts on it: what arrives while an instance is away waits in the
kernel's queue for its successor, so a crash or an upgrade refuses nobody. When the platform ends there is no
successor, and they are refused.
"""

import contextlib
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from moonpool.core.errors import StartupError
from moonpool.wiring.layout import Layout

BACKLOG = 4096
"""Linux' default bound (net.core.somaxconn) since 5.4: as many connections as can wait."""
PATH_LIMIT = 100
"""Bytes. A Unix socket's address holds 108 on Linux and 104 on macOS, its last byte a NUL (unix(7))."""

HEARD = 0.25
"""Seconds in which a process has heard that it is to end, and accepts nobody any more."""


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`; port 0 takes a free one, the same on all.

    Raises StartupError that says who has the port, where that can be known.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except socket.gaierror as error:
        raise StartupError(
            f"is no address of this machine: {error.strerror}",
            where=f"host {host}",
            hint="Use --host 127.0.0.1 for this machine only, or --host 0.0.0.0 for everyone.",
        ) from error
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound.append(_bind_one(family, kind, protocol, (address[0], port, *address[2:])))
            port = bound[0].getsockname()[1]
    except OSError as error:
        for sock in bound:
            sock.close()
        raise _refused(error, host, port) from error
    return bound


def _bind_one(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _refused(error: OSError, host: str, port: int) -> StartupError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        owner = port_owner(port)
        return StartupError(
            f"the port is taken{f' by {owner}' if owner else ''}",
            where=where,
            hint="Choose another one with --port PORT (0: any free one).",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartupError(
            "this user may not listen there",
            where=where,
            hint="Ports below 1024 are root's: use --port 8080.",
        )
    return StartupError(
        f"cannot listen: {(error.strerror or str(error)).lower()}",
        where=where,
        hint="Use --host 127.0.0.1 for this machine only, or --host 0.0.0.0 for everyone.",
    )


def port_owner(port: int) -> str:
    """Name and pid of the process that listens on `port`; "" when the system does not tell."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or connection.pid is None:
                continue
            if connection.laddr[1:] == (port,):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def bind_unix(path: Path) -> socket.socket:
    """Listen on `path`, in place of whatever an earlier supervisor left there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StartupError(
            f"cannot listen: {(error.strerror or str(error)).lower()}",
            where=str(path),
            hint="Choose a folder on a local disk with --data DIR.",
        ) from error
    return sock


def turn_away(sockets: Iterable[socket.socket]) -> int:
    """Close what waits on the Unix sockets among them; how many connections that was.

    For a socket on which nobody will accept for a while: who waits there would be served when it has given up
    long ago, and has perhaps asked somebody else.
    """
    count = 0
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            continue  # clients' own connections: they wait for any gateway
        with contextlib.suppress(OSError):  # BlockingIOError: nobody is left
            while True:
                connection, _ = sock.accept()
                connection.close()
                count += 1
    return count


def refuse(sockets: Iterable[socket.socket]) -> None:
    """Listen no more, in whichever process has them: the kernel refuses who connects from now on, who would
    wait in its queue for somebody who never accepts. What waits there is reset.

    On macOS it changes nothing: they wait until the last process that has the socket has ended.
    """
    for sock in sockets:
        turn_away([sock])  # of a Unix socket's queue the kernel resets nobody
        with contextlib.suppress(OSError):  # closed already, or ENOTCONN on macOS
            sock.shutdown(socket.SHUT_RDWR)


def in_use(path: Path) -> bool:
    """Whether some process accepts on the Unix socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def socket_folder(layout: Layout, longest: str) -> Path:
    """Where Unix sockets go: `run/`, or, when `longest` (a file name) would not fit into an address
    there, a private folder below the system's temporary one, recorded in `run/sockets`."""
    if len(os.fsencode(layout.run / longest)) <= PATH_LIMIT:
        return layout.run
    record = layout.run / "sockets"
    with contextlib.suppress(FileNotFoundError):
        earlier = Path(record.read_text())
        if _is_private(earlier):
            return earlier
    folder = Path(tempfile.mkdtemp(prefix="moonpool-"))
    record.write_text(str(folder))
    return folder


def remove_sockets(layout: Layout, folder: Path) -> None:
    """When the supervisor ends; its children have ended before."""
    for path in folder.glob("*.sock"):
        path.unlink(missing_ok=True)
    if folder != layout.run:
        with contextlib.suppress(OSError):
            folder.rmdir()
        (layout.run / "sockets").unlink(missing_ok=True)


def _is_private(folder: Path) -> bool:
    """A real folder that only this user can enter: the temporary one is everybody's."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
