"""A real OpenAI-compatible endpoint that misbehaves on the wire when told to. Its own process, plain sockets.

    python tests/chaos/faulty.py --port 9100 --control 9101
    curl -X POST localhost:9101/_fault -d '{"model": "m", "kind": "reset", "after": 3, "share": 0.5}'

A fault belongs to the `model` that requests name ("*": all others), so that one process can fail in many
ways at once. `GET /_stats` counts, `GET /_log?model=M` tells what arrived, `POST /_listen` opens one more
port, `POST /_close_idle` ends the connections that carry no request, `POST /_seen` tells that the client of
`prompt` has seen the beginning of its answer, `POST /_clear` mends everything.
Times in the log are of the system's monotonic clock, which processes share.
"""

import argparse
import asyncio
import json
import random
import signal
import socket
import sys
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faulty_answers import answer, encode, error, models, prompted
from faulty_faults import KINDS, Fault, perform
from faulty_wire import Connection, Gone, Request

LOGGED = 20_000
HEAD_LIMIT = 64 * 1024


@dataclass
class Model:
    """A model's fault, and what was counted of its requests."""

    fault: Fault = field(default_factory=Fault)
    chance: random.Random = field(default_factory=random.Random)
    requests: int = 0
    faulted: int = 0
    active: int = 0
    peak: int = 0
    left: int | None = None

    def set(self, fault: Fault) -> None:
        self.fault, self.left = fault, fault.times
        self.chance = random.Random(fault.seed)

    def draw(self) -> Fault:
        """What happens to the next request."""
        hit = self.chance.random() < self.fault.share and self.left != 0
        if not hit or self.fault.kind == "normal":
            return Fault(delay=self.fault.delay if hit else 0.0)
        self.faulted += 1
        if self.left is not None:
            self.left -= 1
        return self.fault


class Listener:
    """A port. While it refuses, the port stays bound, so that nobody else gets it."""

    def __init__(self, injector: "Injector", port: int) -> None:
        self._injector = injector
        self._server: asyncio.Server | None = None
        self._socket = self._bind(port)
        self.port: int = self._socket.getsockname()[1]

    def _bind(self, port: int) -> socket.socket:
        bound = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves Nagle on
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                lambda reader, writer: self._injector.serve(self.port, reader, writer),
                sock=self._socket,
                limit=HEAD_LIMIT,
                backlog=1024,
            )

    def refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = self._bind(self.port)
            self._injector.kill(self.port)


class Injector:
    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._listeners: dict[int, Listener] = {}
        self._connections: set[Connection] = set()
        self._log: deque[dict[str, Any]] = deque(maxlen=LOGGED)
        self._seen: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._accepted = 0

    async def listen(self, port: int) -> int:
        listener = Listener(self, port)
        await listener.open()
        self._listeners[listener.port] = listener
        return listener.port

    def kill(self, port: int) -> None:
        for connection in [each for each in self._connections if each.port == port]:
            connection.kill()

    async def serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(port, reader, writer)
        self._accepted += 1
        self._connections.add(connection)
        try:
            while (request := await connection.request()) is not None:
                await self._handle(connection, request)
                connection.busy = False
                if request.headers.get("connection", "").lower() == "close":
                    break
        except Gone:
            pass
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _handle(self, connection: Connection, request: Request) -> None:
        address = urlsplit(request.target)
        try:
            if address.path.startswith("/_"):
                said = await self._control(request, address.path, parse_qs(address.query))
                await connection.reply(200, encode(said))
            elif address.path.endswith("/models"):
                await connection.reply(200, models(sorted(self._models)))
            else:
                await self._answer(connection, request, address.path)
        except (ValueError, KeyError, TypeError, LookupError) as wrong:
            await connection.reply(400, error(400, f"{type(wrong).__name__}: {wrong}"))

    async def _answer(self, connection: Connection, request: Request, path: str) -> None:
        body = request.json()
        good = answer(path, body)
        if good is None:
            await connection.reply(404, error(404, f"no {path} here"))
            return
        name = str(body.get("model", ""))
        model = self._models.setdefault(name, Model())
        chosen = model if model.fault.kind != "normal" or model.fault.delay else self._models.get("*", model)
        fault = chosen.draw()
        model.requests += 1
        model.active += 1
        model.peak = max(model.peak, model.active)
        came = {"at": time.monotonic(), "model": name, "path": path, "headers": request.headers, "body": body}
        self._log.append(came | {"fault": fault.kind, "port": connection.port})
        try:
            if fault.delay:
                await connection.wait(fault.delay)
            seen = self._seen[prompted(body)] if fault.when_seen else asyncio.Event()
            await perform(connection, fault, good, seen)
        finally:
            model.active -= 1

    async def _control(self, request: Request, path: str, query: dict[str, list[str]]) -> object:
        match request.method, path:
            case "GET", "/_stats":
                return self._stats()
            case "GET", "/_log":
                wanted = query.get("model", [""])[0]
                return [seen for seen in self._log if wanted in ("", seen["model"])]
            case "POST", "/_fault":
                await self._set(request.json())
            case "POST", "/_listen":
                return {"port": await self.listen(int(request.json().get("port", 0)))}
            case "POST", "/_close_idle":
                for connection in [each for each in self._connections if not each.busy]:
                    connection.close()
            case "POST", "/_seen":
                self._seen[str(request.json()["prompt"])].set()
            case "POST", "/_clear":
                self._models.clear()
                self._log.clear()
                self._seen.clear()
                for listener in self._listeners.values():
                    await listener.open()
            case _:
                raise LookupError(f"no {request.method} {path}")
        return {"ok": True}

    async def _set(self, wish: dict[str, Any]) -> None:
        name, port = wish.pop("model", "*"), wish.pop("port", None)
        fault = Fault(**wish)
        if fault.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        listeners = [self._listeners[port]] if port is not None else list(self._listeners.values())
        if fault.kind == "refuse":
            for listener in listeners:
                listener.refuse()
            return
        for listener in listeners if fault.kind == "normal" else ():
            await listener.open()
        if port is None:
            self._models.setdefault(name, Model()).set(fault)

    def _stats(self) -> dict[str, object]:
        """The connections that ask for this are not counted."""
        at_data = [each for each in self._connections if each.port in self._listeners]
        counted = ("requests", "faulted", "active", "peak")
        by_model = {name: {each: getattr(m, each) for each in counted} for name, m in self._models.items()}
        return {
            "connections": len(at_data),
            "active": sum(model.active for model in self._models.values()),
            "accepted": self._accepted,
            "models": by_model,
        }


async def run(port: int, control: int) -> None:
    injector = Injector()
    data = await injector.listen(port)
    door = Listener(injector, control)
    await door.open()
    print(json.dumps({"port": data, "control": door.port}), flush=True)
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await over.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="where models are asked (0: any free one)")
    parser.add_argument("--control", type=int, default=0, help="where it is told what to do")
    parser.epilog = f"Faults:\n\n{Fault.__doc__}"
    wanted = parser.parse_args()
    asyncio.run(run(wanted.port, wanted.control))
    return 0


if __name__ == "__main__":
    sys.exit(main())
