"""What the fork server's child runs for a release whose program is not this package.

    HostedMain    becomes the Python of another virtual environment, with that one's package (hosted.py)
    ProgramMain   looks after any other program (adapters/spawner/warden.py)

Both are pickled on their way to the child. Secrets go on by an unnamed file, never by arguments or
environment.
"""

import contextlib
import os
import socket
import sys
from pathlib import Path

import msgspec

from moonpool.adapters.spawner.handing import readable
from moonpool.adapters.spawner.local import Inherited
from moonpool.adapters.spawner.warden import run_program
from moonpool.contracts.releases import CommandSource, EnvironmentSource
from moonpool.http.address import Address
from moonpool.wiring.hosted import MODULE, Handed
from moonpool.wiring.runner import EX_CONFIG, become_child
from moonpool.wiring.settings import ModuleSettings

SOCKET, PORT = "{socket}", "{port}"
"""In a command's arguments: where a program listens that cannot be handed a listening socket."""
SECRETS_FD = "MOONPOOL_SECRETS_FD"
"""Names a descriptor to read a JSON object from: `context` verifies the signed contexts of calls, `calls`
signs those of calls to other services; keys are base64."""


class HostedMain:
    def __init__(
        self, source: EnvironmentSource, settings: ModuleSettings, log: Path, instances_lock: Inherited
    ) -> None:
        self._source = source
        self._settings = settings
        self._log = log
        self._instances_lock = instances_lock

    def __call__(self, sockets: list[socket.socket], lifeline: Inherited, status: Inherited) -> None:
        become_child(self._settings.name, self._log)
        handed = Handed(
            sockets=tuple(sock.detach() for sock in sockets),
            lifeline=lifeline.fd,
            status=status.fd,
            told=readable(msgspec.json.encode(self._settings)),
        )
        for fd in (*handed.sockets, handed.lifeline, handed.status, self._instances_lock.fd):
            os.set_inheritable(fd, True)
        python = str(Path(self._source.path) / "bin" / "python")
        environment = {**os.environ, **self._settings.overrides.environment}
        try:
            # -I: neither PYTHONPATH nor the current folder may put another package before its own.
            argv = [python, "-I", "-m", MODULE, msgspec.json.encode(handed).decode()]
            os.execve(python, argv, environment)  # noqa: S606 - a program of ours
        except OSError as error:
            _cannot_run(python, error, status.fd)


class ProgramMain:
    def __init__(
        self, source: CommandSource, settings: ModuleSettings, log: Path, instances_lock: Inherited
    ) -> None:
        self._source = source
        self._settings = settings
        self._log = log
        self._instances_lock = instances_lock
        address = Address.parse(settings.endpoint)
        self._socket_path = address.socket_path
        self._port = address.port

    def __call__(self, sockets: list[socket.socket], lifeline: Inherited, status: Inherited) -> None:
        settings = self._settings
        become_child(settings.name, self._log)
        environment = {**os.environ, **settings.overrides.environment, **self._told()}
        try:
            os.chdir(self._source.folder or settings.data)
        except OSError as error:
            _cannot_run(self._source.folder, error, status.fd)
        if self._socket_path and listens_itself(self._source):
            Path(self._socket_path).unlink(missing_ok=True)  # its predecessor's
        for fd in (lifeline.fd, status.fd, self._instances_lock.fd):
            os.set_inheritable(fd, False)
        secrets = readable(msgspec.json.encode(settings.secrets))
        code = run_program(
            [self._filled(word) for word in self._source.argv],
            environment,
            [sock.detach() for sock in sockets],
            kept={SECRETS_FD: secrets},
            lifeline=lifeline.fd,
            status=status.fd,
            drain_timeout=settings.drain_timeout,
            replaced_drain_timeout=settings.replaced_drain_timeout,
        )
        sys.exit(code if code >= 0 else 128 - code)  # as shells tell of a signal

    def _told(self) -> dict[str, str]:
        settings = self._settings
        return {
            "MOONPOOL_SERVICE": settings.name,
            "MOONPOOL_RELEASE": settings.release,
            "MOONPOOL_INSTANCE": settings.instance,
            "MOONPOOL_SOCKET": self._socket_path,
            "MOONPOOL_DRAIN_SECONDS": f"{settings.drain_timeout:g}",
            "MOONPOOL_REPLACED_DRAIN_SECONDS": f"{settings.replaced_drain_timeout:g}",
        }

    def _filled(self, word: str) -> str:
        return word.replace(SOCKET, self._socket_path).replace(PORT, str(self._port))


def listens_itself(source: CommandSource) -> bool:
    return any(SOCKET in word or PORT in word for word in source.argv)


def _cannot_run(what: str, error: OSError, status: int) -> None:
    """Told as a StartupError is. Never returns."""
    with contextlib.suppress(OSError):
        os.write(status, f"cannot be run: {what}: {error.strerror}".encode()[:4096])
    sys.exit(EX_CONFIG)
