"""Where instances live: a number among all of their module, a socket of their own, a log.

The supervisor owns every listening socket (docs/adr/0002): the public ones for as long as it runs, an
instance's own for as long as its place is taken.
"""

import socket
from pathlib import Path

from msgspec.structs import astuple

from moonpool.contracts.releases import FIRST, CommandSource, EndpointSource, Release, prices_of
from moonpool.wiring.foreign import PORT, listens_itself
from moonpool.wiring.keeper import Probe, Slot
from moonpool.wiring.layout import Layout
from moonpool.wiring.listening import bind_unix, remove_sockets, socket_folder
from moonpool.wiring.registry import Module

MOST = 64
"""Instances of one module at the same time: beyond, it is a mistake."""


class Places:
    """`public` are the TCP sockets of the module that clients reach, at `url`. A release's own
    `drain_timeout` stands for both of the platform's."""

    def __init__(
        self,
        layout: Layout,
        names: tuple[str, ...],
        *,
        public: list[socket.socket],
        url: str,
        drain_timeout: float,
        replaced_drain_timeout: float = 0.0,
    ) -> None:
        """Raises StartupError when there is no folder for sockets."""
        self._layout = layout
        self._public = public
        self._url = url
        self._drain_timeouts = drain_timeout, replaced_drain_timeout
        longest = max((socket_name(name, MOST) for name in names), key=len, default="")
        self._folder = socket_folder(layout, longest)
        self._taken: dict[tuple[str, int], Slot] = {}

    def path(self, file: str) -> Path:
        """Where a socket of that name goes."""
        return self._folder / file

    def log(self, service: str, label: str) -> Path:
        return self._layout.log(service if label == FIRST else f"{service}@{label}")

    def take(self, module: Module, release: Release) -> Slot:
        """Raises StartupError when nothing can listen there."""
        name, source = module.name, release.source
        number = next(n for n in range(MOST * 4) if (name, n) not in self._taken)
        path = self._folder / socket_name(name, number)
        own, endpoint, probe = [], f"unix:{path}", Probe(endpoint=f"unix:{path}")
        if isinstance(source, EndpointSource):
            endpoint, probe = source.url, Probe(endpoint=source.url, ours=False)
        else:
            if isinstance(source, CommandSource):
                if any(PORT in word for word in source.argv):
                    endpoint = f"http://127.0.0.1:{_free_port()}"
                ready = source.ready_path
                probe = Probe(endpoint=endpoint, live=ready, ready=ready, ours=False)
            if not (isinstance(source, CommandSource) and listens_itself(source)):
                own = [bind_unix(path)]
            if module.public:
                endpoint = self._url
        overridden = release.overrides.drain_timeout
        soon, replaced = self._drain_timeouts if overridden is None else (overridden, overridden)
        slot = Slot(
            name=name,
            release=release.label,
            number=number,
            endpoint=endpoint,
            probe=probe,
            sockets=(*own, *self._public) if module.public else tuple(own),
            log=self.log(name, release.label),
            drain_timeout=soon,
            replaced_drain_timeout=replaced,
            prices={alias: astuple(price) for alias, price in prices_of(release).items()},
        )
        self._taken[name, number] = slot
        return slot

    def give_back(self, slot: Slot) -> None:
        """Its instance has ended, and nobody may be called there any more."""
        self._taken.pop((slot.name, slot.number), None)
        self._close(slot)

    def _close(self, slot: Slot) -> None:
        (self._folder / socket_name(slot.name, slot.number)).unlink(missing_ok=True)
        for sock in slot.sockets:
            if sock not in self._public:
                sock.close()

    def close(self) -> None:
        for slot in self._taken.values():
            self._close(slot)
        self._taken.clear()
        for sock in self._public:
            sock.close()
        remove_sockets(self._layout, self._folder)


def socket_name(name: str, number: int) -> str:
    """The file of an instance's own socket: the place's, whichever process is in it."""
    return f"{name}-{number}.sock"


def _free_port() -> int:
    """One that is free now: for programs that can be told a port and nothing else."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
