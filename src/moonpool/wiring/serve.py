"""Modules in one foreground process, without a supervisor: `moonpool serve`, what a container runs.

Where everyone is stands in a topology file of this process's own: its targets as they come up, the
peers it was told of, and for the rest the sockets that `serve` uses on the same data by default. How the
others are it asks them (peers.py).
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from moonpool.asgi.shutdown import Shutdown
from moonpool.contracts.releases import FIRST
from moonpool.core.errors import StartupError
from moonpool.ports.discovery import Instance
from moonpool.wiring import logging as logs
from moonpool.wiring.layout import Layout
from moonpool.wiring.listening import HEARD, bind_tcp, bind_unix, in_use, refuse, socket_folder
from moonpool.wiring.peers import UNKNOWN, watch_peers
from moonpool.wiring.places import socket_name
from moonpool.wiring.registry import REGISTRY, Module, find, secrets_of
from moonpool.wiring.runner import run_module
from moonpool.wiring.secrets import load_root, take_given
from moonpool.wiring.settings import ModuleSettings
from moonpool.wiring.topology import TopologyFile


class ServePlan(msgspec.Struct, frozen=True, kw_only=True):
    """`listen` and `peers` are addresses by module: `unix:PATH` or `http://HOST:PORT`.

    `public` is where the gateway listens when `listen` does not say.
    """

    targets: tuple[str, ...]
    listen: dict[str, str] = {}
    peers: dict[str, str] = {}
    public: str = "http://127.0.0.1:8080"
    config: str = ""
    drain_timeout: float = 30.0
    log_level: str = "info"
    registry: tuple[Module, ...] = REGISTRY


def serve(layout: Layout, plan: ServePlan) -> int:
    """Run until SIGTERM or Ctrl-C; the exit code. Raises StartupError."""
    os.umask(0o077)
    layout.create()
    logs.set_up(module="serve", instance=f"serve-{os.getpid()}", level=plan.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Serving(layout, plan).run())
    return 0


class _Serving:
    def __init__(self, layout: Layout, plan: ServePlan) -> None:
        self._layout = layout
        self._plan = plan
        self._modules = find(plan.targets, plan.registry)
        _check_names((*plan.listen, *plan.peers), plan.registry)
        self._topology = TopologyFile(layout.run / f"serve-{'+'.join(plan.targets)[:80]}.json")
        self._instances: dict[str, Instance] = {}
        self._stop = Shutdown()

    async def run(self) -> None:
        root = load_root(self._layout.root_key, take_given())
        listening = self._listen()
        self._hear_signals()
        self._introduce({name: endpoint for name, (endpoint, _) in listening.items()})
        others = {n: one.endpoint for n, one in self._instances.items() if n not in listening}
        bound = [sock for _, sockets in listening.values() for sock in sockets]
        loop = asyncio.get_running_loop()

        def told() -> None:
            loop.call_later(HEARD, refuse, bound)

        self._stop.on_begin(told)
        watching = asyncio.create_task(watch_peers(others, self._tell), name="peers")
        tasks = []
        for module in self._modules:
            endpoint, sockets = listening[module.name]
            tasks.append(asyncio.create_task(self._run_one(module, root, endpoint, sockets)))
        # Whichever ends first ends all: a container is restarted as a whole.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._stop.begin(self._plan.drain_timeout)
        watching.cancel()
        await asyncio.wait({watching})
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _run_one(
        self, module: Module, root: bytes, endpoint: str, sockets: list[socket.socket]
    ) -> None:
        settings = ModuleSettings(
            name=module.name,
            release=FIRST,
            instance=self._instances[module.name].instance,
            endpoint=endpoint,
            data=str(self._layout.root),
            config=self._plan.config,
            topology=str(self._topology.path),
            secrets=secrets_of(module, root),
            drain_timeout=self._plan.drain_timeout,
            log_level=self._plan.log_level,
        )
        await run_module(
            module.load_entry(), settings, sockets, self._stop, lambda: self._tell(module.name, "ready")
        )

    def _listen(self) -> dict[str, tuple[str, list[socket.socket]]]:
        """Where each target is reached, and the sockets for it."""
        bound: dict[str, tuple[str, list[socket.socket]]] = {}
        try:
            for module in self._modules:
                bound[module.name] = _bind(self._address(module))
        except StartupError:
            for _, sockets in bound.values():
                for sock in sockets:
                    sock.close()
            raise
        return bound

    def _address(self, module: Module) -> str:
        given = self._plan.listen.get(module.name)
        return given or (self._plan.public if module.public else self._default(module.name))

    def _default(self, name: str) -> str:
        file = socket_name(name, 0)
        return f"unix:{socket_folder(self._layout, file) / file}"

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told)

    def _told(self) -> None:
        if self._stop.begun:
            os._exit(130)  # told twice: nobody is waited for
        self._stop.begin(self._plan.drain_timeout)
        for name in self._plan.targets:
            self._tell(name, "draining")

    def _introduce(self, endpoints: Mapping[str, str]) -> None:
        for module in self._plan.registry:
            name = module.name
            mine = name in endpoints
            self._instances[name] = Instance(
                name=name,
                release=FIRST,
                instance=f"{name}-serve-{os.getpid()}" if mine else f"{name}-peer",
                pid=os.getpid() if mine else 0,
                state="starting" if mine else UNKNOWN,
                endpoint=endpoints.get(name) or self._plan.peers.get(name) or self._default(name),
            )
        self._topology.publish(tuple(self._instances.values()))

    def _tell(self, name: str, state: str, reason: str = "") -> None:
        before = self._instances[name]
        if (before.state, before.reason) == (state, reason):
            return
        self._instances[name] = msgspec.structs.replace(before, state=state, reason=reason)
        self._topology.publish(tuple(self._instances.values()))


def _check_names(names: Sequence[str], registry: Sequence[Module]) -> None:
    find(names, registry)


def _bind(address: str) -> tuple[str, list[socket.socket]]:
    """The endpoint to tell others, and the sockets."""
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:")).absolute()
        if in_use(path):
            raise StartupError(
                "another process serves there", where=str(path), hint="Stop it, or choose --listen elsewhere."
            )
        return f"unix:{path}", [bind_unix(path)]
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number
        host, port = None, None
    if parts.scheme not in ("http", "https") or host is None or port is None:
        raise StartupError(
            "is no address to listen on",
            where=f"--listen {address}",
            hint="Write http://HOST:PORT or unix:PATH.",
        )
    sockets = bind_tcp(host, port)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{sockets[0].getsockname()[1]}", sockets
