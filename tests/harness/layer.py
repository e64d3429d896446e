"""The layer between real sockets, in one process: the edge, failover, hedge, retry and breakers, the client,
and a handful of endpoints. Breakers and budgets go by a clock that is moved by hand; what waits for a socket
waits for real."""

import asyncio
import json
import socket
from collections import Counter
from random import Random
from typing import Any

import httpx

from moonpool.balancing.inference import InferenceBalancer
from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.manifest import BalancerKind, Manifest, Route, Timeouts
from moonpool.contracts.resilience import BreakerPolicy, HedgePolicy, RetryPolicy
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.gateway.app import Gateway
from moonpool.http.client import Client
from moonpool.http.server import Server
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.failover import Failover, TierTable
from moonpool.middleware.hedge import Hedge
from moonpool.middleware.inference import InferenceUpstream
from moonpool.middleware.metering import Metering
from moonpool.middleware.migration import Migration
from moonpool.middleware.resolution import Resolution
from moonpool.middleware.retry import Retry
from moonpool.middleware.retry_budget import RetryBudget
from moonpool.middleware.signing import ContextSigner
from moonpool.openai.errors import render_error, render_stream_error
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest

ROUTE = Route(
    method="POST",
    path="/v1/chat/completions",
    balancer=BalancerKind.INFERENCE,
    metered=True,
    timeouts=Timeouts(total=60.0, connect=2.0, first_byte=30.0, between_bytes=20.0),
)
PATIENCE = 0.2
"""Seconds after which a second attempt is made: longer than any stream takes to begin on a slow machine."""
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


class Endpoint:
    """A model on a port of its own, which answers with its name. While it is `down` it closes connections
    unanswered; at the `gate` it waits with the content of a stream whose head it has sent."""

    def __init__(self, name: str, gate: "Gate") -> None:
        self.name, self.gate = name, gate
        self.down = False
        self.refuses: dict[str, Any] | None = None
        """The error that is told in the place of a stream's first event."""
        self._serving: list[asyncio.Task[None]] = []
        self.left = asyncio.Event()
        """Somebody has gone before the answer was whole."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.down:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-len"))
                asked = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
                if self.down:
                    break
                if asked["stream"]:
                    await self._stream(reader, writer)
                    break
                self._whole(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _whole(self, writer: asyncio.StreamWriter) -> None:
        message = {"message": {"role": "assistant", "content": self.name}, "finish_reason": "stop"}
        body = json.dumps({"id": "1", "choices": [message], "usage": USAGE}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        opened = asyncio.ensure_future(self.gate.passes())
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([opened, gone], return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            opened.cancel()
            self.left.set()
            return
        if self.refuses is not None:
            self._write(writer, {"error": self.refuses})
            gone.cancel()
            return
        choice = {"index": 0, "delta": {"content": self.name}, "finish_reason": "stop"}
        for data in ({"choices": [choice]}, {"choices": [], "usage": USAGE}):
            self._write(writer, {"id": "1", **data})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        gone.cancel()

    def _write(self, writer: asyncio.StreamWriter, data: dict[str, Any]) -> None:
        event = b"data: " + json.dumps(data).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))


class Gate:
    """Lets streams begin in the order that a test wants. Their places are counted from 0."""

    def __init__(self) -> None:
        self.held: dict[int, asyncio.Event] = {}
        """What those of these places wait for."""
        self.opens: dict[int, asyncio.Event] = {}
        """What the coming of those of these places sets."""
        self.came = 0

    async def passes(self) -> None:
        place, self.came = self.came, self.came + 1
        if place in self.opens:
            self.opens[place].set()
        if place in self.held:
            await self.held[place].wait()


class Journal:
    healthy = True

    def __init__(self) -> None:
        self.closed: list[dict[str, Any]] = []

    def open(self, id: str, value: bytes) -> None: ...
    def progress(self, id: str, count: int) -> None: ...

    def close(self, id: str, value: bytes) -> None:
        self.closed.append(json.loads(value))


class Named:
    """In the place of tracing, authentication and validation; keeps the contexts."""

    def __init__(self) -> None:
        self.seen: list[Context] = []

    def applies(self, route: Route) -> bool:
        return True

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        self.seen.append(ctx)
        ctx.request_id = f"req_{len(self.seen)}"
        assert isinstance(request.body, bytes)
        ctx.payload = parse(ChatCompletionRequest, request.body)
        return await next(ctx, request)


class House:
    """The gateway on a port, before `endpoints`, the last of which is a reserve."""

    def __init__(self, endpoints: list[Endpoint], reserves: int) -> None:
        self.endpoints, self.clock, chance = endpoints, ManualClock(), Random(7)
        self.named, self.journal, self.client = Named(), Journal(), Client()
        models = self.models = Models(Pools())
        first = len(endpoints) - reserves
        targets = tuple(
            Target(id=each.name, url=each.url, priority=int(place >= first))
            for place, each in enumerate(endpoints)
        )
        models.update(Catalogue(1, (Model(id="m", targets=targets),)))
        policy = RetryPolicy(budget_share=1.0, backoff_base=0.001)
        self.breakers = Breakers(BreakerPolicy(consecutive_failures=1, jitter=0.0), chance.random)
        budget = RetryBudget(policy)
        attempts = Attempts(self.client, self.breakers)
        upstream = InferenceUpstream(
            balancer=InferenceBalancer(self.clock, chance),
            attempts=attempts,
            signer=ContextSigner("gateway", {}, self.clock),
            migration=Migration(models, attempts, self.breakers, budget),
            first_token=lambda tokens: 20.0,
        )
        gateway = Gateway(
            manifests=[Manifest(service="inference", summary="", routes=(ROUTE,))],
            filters=[
                self.named,
                Resolution(models),
                Metering(self.journal),
                Failover(TierTable(Services(Pools()), models), self.breakers, budget, chance),
                Hedge(HedgePolicy(enabled=True, at_least=PATIENCE), budget),
                Retry(policy, budget, self.breakers, chance.random),
            ],
            upstream=lambda service, route: upstream,
            own=[],
            clock=self.clock,
        )
        self.server = Server(
            gateway.handle,
            render_error=render_error,
            render_stream_error=render_stream_error,
            body_policy=gateway.body_policy,
        )

    async def start(self) -> None:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        await self.server.start([listening])
        port = listening.getsockname()[1]
        listening.close()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)

    async def stop(self) -> None:
        await self.http.aclose()
        await self.server.drain(1.0)
        await self.client.aclose()

    async def ask(self, *, stream: bool = False, status: int = 200) -> httpx.Response:
        body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Who are you?"}]}
        answer = await self.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == status, answer.text
        return answer

    async def told(self, requests: int) -> Counter[str]:
        """Who answered, and "moved" for each that says so."""
        found: Counter[str] = Counter()
        for _ in range(requests):
            answer = await self.ask()
            found[answer.json()["choices"][0]["message"]["content"]] += 1
            found["moved"] += answer.headers.get("x-moonpool-fallback") == "failover"
        return found

    def decided(self, who: str) -> list[str]:
        """Of the last request."""
        return [decision.verdict for decision in self.named.seen[-1].trace() if decision.filter == who]

    def held(self) -> list[str]:
        """Whose load is not given back."""
        return [tier.name for tier in self.models.tiers("m") for c in tier.candidates if c.endpoint.active]
