"""What the filters' tests share: a context on a clock that is moved by hand, stand-ins for the parts
below them that record what they were asked, and all that stands between a request and its endpoints."""

import asyncio
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.inference import InferenceBalancer
from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services
from moonpool.contracts.catalogue import Catalogue, Model
from moonpool.contracts.manifest import Access, BalancerKind, Route, Timeouts
from moonpool.contracts.resilience import BreakerPolicy, RetryPolicy
from moonpool.core.body import Stream
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.handler import chain
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import Verdict
from moonpool.middleware.failover import Failover, TierTable
from moonpool.middleware.inference import InferenceUpstream
from moonpool.middleware.migration import Migration
from moonpool.middleware.resolution import Resolution
from moonpool.middleware.retry import Retry
from moonpool.middleware.retry_budget import RetryBudget
from moonpool.middleware.signing import ContextSigner
from moonpool.middleware.upstream import ServiceUpstream
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest
from moonpool.ports.discovery import Instance, Topology

TIMEOUTS = Timeouts(total=60.0, connect=2.0, first_byte=30.0, between_bytes=20.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_ctx(clock: ManualClock) -> Callable[..., Context]:
    def make(**fields: Any) -> Context:
        ctx = Context(clock)
        ctx.request_id = "req_1"
        ctx.route = Route(method="POST", path="/v1/chat/completions", access=Access.KEY)
        ctx.service = "inference"
        ctx.principal = Principal(user="user_1", tenant="org_1", key="key_1", role=Role.MEMBER)
        ctx.trace_id, ctx.span_id = "a" * 32, "b" * 16
        for name, value in fields.items():
            setattr(ctx, name, value)
        return ctx

    return make


class Journal:
    """Keeps the calls; the values decoded."""

    def __init__(self) -> None:
        self.opened: dict[str, bytes] = {}
        self.marks: list[tuple[str, int]] = []
        self.closed: list[tuple[str, bytes]] = []
        self.healthy = True

    def open(self, id: str, value: bytes) -> None:
        assert id not in self.opened
        self.opened[id] = value

    def progress(self, id: str, count: int) -> None:
        self.marks.append((id, count))

    def close(self, id: str, value: bytes) -> None:
        self.closed.append((id, value))


@pytest.fixture
def journal() -> Journal:
    return Journal()


class Collected:
    """A sink that remembers, or pauses and cancels as told."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended: object = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.ended = "close"

    def abort(self, error: Exception) -> None:
        self.ended = error


@pytest.fixture
def sink() -> Collected:
    return Collected()


class UpstreamClient:
    """In the place of http.client.Client: answers, raises or hangs as it was told."""

    def __init__(self) -> None:
        self.answer: Response | Exception | None = Response(200, [], b"{}")
        self.sent: list[tuple[Any, Request, dict[str, float]]] = []
        self.asked = asyncio.Event()

    async def send(self, address: Any, request: Request, **timeouts: float) -> Response:
        self.sent.append((address, request, timeouts))
        self.asked.set()
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    def stream(self, *, status: int = 200, content_type: bytes = b"text/event-stream") -> Stream:
        """Answer with a stream, which is returned to be fed."""
        stream = Stream()
        self.answer = Response(status, [(b"content-type", content_type)], stream)
        return stream


@pytest.fixture
def client() -> UpstreamClient:
    return UpstreamClient()


class Scripted(UpstreamClient):
    """As UpstreamClient; `first` has what comes before `answer`, whoever is asked. `script` has the answers
    of single endpoints, by the last part of their address, in the order in which they are given (the last
    one again and again)."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[Response | Exception] = []
        self.script: dict[str, list[Response | Exception | None]] = {}

    @property
    def asked_of(self) -> list[str]:
        """Who was asked, in order."""
        return [name_of(address) for address, _, _ in self.sent]

    async def send(self, address: Any, request: Request, **timeouts: float) -> Response:
        default, answers = self.answer, self.script.get(name_of(address))
        if self.first:
            self.answer = self.first.pop(0)
        elif answers is not None:
            self.answer = answers.pop(0) if len(answers) > 1 else answers[0]
        try:
            return await super().send(address, request, **timeouts)
        finally:
            self.answer = default


def name_of(address: Any) -> str:
    """`unix:/run/chat-0` and `https://b.example/v1` are "chat-0" and "b"."""
    return str(address).removesuffix("/v1").removesuffix(".example").rpartition("/")[2]


class Chance(Random):
    """Gives 0.5 until it is told otherwise, for whoever asks about a share."""

    value = 0.5

    def random(self) -> float:
        return self.value


CHAT_BODY = {"model": "m", "messages": [{"role": "user", "content": "0123456789abcdef"}]}


class Layer:
    """Failover, retry and what is below them, above a client that is told what to answer. Waiting takes no
    time: it moves the clock, and is written down in `waits`."""

    def __init__(self, client: Scripted, clock: ManualClock, make_ctx: Callable[..., Context]) -> None:
        self.client, self.clock, self.make_ctx = client, clock, make_ctx
        self.pools = Pools()
        self.chance = Chance()
        self.policy = RetryPolicy()
        self.models = Models(self.pools)
        self.breakers = Breakers(BreakerPolicy(jitter=0.0), lambda: 0.5)
        self.budget = RetryBudget(self.policy)
        self.attempts = Attempts(client, self.breakers)  # type: ignore[arg-type]
        self.environment = {"KEY": "sk-target"}
        self.signer = ContextSigner("gateway", {"chat": b"k" * 32, "inference": b"k" * 32}, clock)
        self.waits: list[float] = []
        self.jitter = 0.0
        self._modules: tuple[Instance, ...] = ()

    @property
    def filters(self) -> list[Any]:
        table = TierTable(Services(self.pools), self.models)
        return [
            Failover(table, self.breakers, self.budget, self.chance),
            Retry(self.policy, self.budget, self.breakers, lambda: self.jitter),
        ]

    def run(self, *modules: str, state: str = "ready") -> None:
        """`chat-0@v1` beside what runs already."""
        for module in modules:
            instance, _, release = module.partition("@")
            self._modules += (
                Instance(
                    name=instance.partition("-")[0],
                    release=release or "v1",
                    instance=instance,
                    pid=1,
                    state=state,
                    endpoint=f"unix:/run/{instance}",
                ),
            )
        self.pools.update(Topology(1, self._modules))

    def offer(self, *models: Model) -> None:
        self.models.update(Catalogue(1, models))

    def service_ctx(self, method: str = "GET", **fields: Any) -> Context:
        route = Route(method=method, path="/api/x", timeouts=TIMEOUTS)
        return self.make_ctx(**{"service": "chat", "route": route, **fields})

    async def service(self, ctx: Context | None = None, body: bytes | Stream = b"") -> Response:
        """Ask chat; the method is the route's."""
        ctx = ctx or self.service_ctx()
        upstream = ServiceUpstream(
            "chat", balancer=ApiBalancer(self.clock, Random(1)), attempts=self.attempts, signer=self.signer
        )
        return await chain(self.filters, upstream)(ctx, Request(ctx.route.method, "/api/x", body=body))

    def model_ctx(self, **fields: Any) -> Context:
        route = Route(
            method="POST", path="/v1/chat/completions", balancer=BalancerKind.INFERENCE, timeouts=TIMEOUTS
        )
        return self.make_ctx(**{"route": route, **fields})

    async def model(self, ctx: Context | None = None, **fields: Any) -> Response:
        """Ask for a completion; `fields` are the body's, beside a prompt."""
        ctx = ctx or self.model_ctx()
        body = msgspec.json.encode(CHAT_BODY | fields)
        ctx.payload = parse(ChatCompletionRequest, body)
        request = Request("POST", "/v1/chat/completions", headers={b"authorization": b"mine"}, body=body)
        return await chain([Resolution(self.models), *self.filters], self.inference())(ctx, request)

    def inference(self) -> InferenceUpstream:
        return InferenceUpstream(
            balancer=InferenceBalancer(self.clock, Random(1)),
            attempts=self.attempts,
            signer=self.signer,
            first_token=lambda tokens: 5.0,
            environment=self.environment,
            migration=Migration(self.models, self.attempts, self.breakers, self.budget),
        )

    def open(self, instance: str) -> None:
        """Let the circuit breaker of `instance` open."""
        named = next(endpoint for endpoint in self.endpoints if endpoint.instance == instance)
        while (permit := self.breakers.of(named).permit(self.clock.monotonic())) is not None:
            permit.failed(self.clock.monotonic(), Verdict.RESET)

    @property
    def endpoints(self) -> list[Endpoint]:
        own = [e for name in ("chat", "inference") for e in self.pools.endpoints(name)]
        return own + list(self.models._external.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is held of any endpoint: no lease, no probe."""
        loads = [(e.active, e.tokens, e.queued_tokens) for e in self.endpoints]
        probes = [self.breakers.of(e).probes_in_flight(self.clock.monotonic()) for e in self.endpoints]
        return all(load == (0, 0, 0) for load in loads) and not any(probes)

    def spend_budget(self) -> None:
        while self.budget.withdraw(self.clock.monotonic()):
            pass


@pytest.fixture
def layer(clock: ManualClock, make_ctx: Callable[..., Context], monkeypatch: Any) -> Layer:
    layer = Layer(Scripted(), clock, make_ctx)
    turn = asyncio.sleep

    async def sleep(seconds: float) -> None:
        layer.waits.append(seconds)
        await turn(0)
        clock.advance(seconds)

    monkeypatch.setattr("moonpool.middleware.retry.asyncio", SimpleNamespace(sleep=sleep))
    return layer


def answer(text: str = "hi") -> Response:
    """A model's whole answer."""
    body = msgspec.json.encode({"id": "1", "choices": [{"message": {"content": text}}]})
    return Response(200, [(b"content-type", b"application/json")], body)


def refusal(status: int, **error: Any) -> Response:
    """An endpoint's refusal, `retry_after` seconds among its headers."""
    headers = [(b"content-type", b"application/json")]
    if "retry_after" in error:
        headers.append((b"retry-after", b"%d" % error.pop("retry_after")))
    body = msgspec.json.encode({"error": {"message": f"no: {status}", "type": "t", **error}})
    return Response(status, headers, body)


def streaming(*pieces: bytes, fails: Exception | None = None, ends: bool = False) -> Response:
    """A model's stream, of which `pieces` have come."""
    stream = Stream()
    for piece in pieces:
        stream.feed(piece)
    if fails is not None:
        stream.fail(fails)
    elif ends:
        stream.finish()
    return Response(200, [(b"content-type", b"text/event-stream")], stream)


@pytest.fixture
def said() -> SimpleNamespace:
    """What endpoints say: `said.answer()`, `said.refusal(503)`, `said.streaming(said.ROLE)`."""
    return SimpleNamespace(
        answer=answer,
        refusal=refusal,
        streaming=streaming,
        COMMENT=b": keep-alive\n\n",
        ROLE=b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        TEXT=b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
        DONE=b"data: [DONE]\n\n",
    )


class Log:
    """In the place of structlog: keeps (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        if level.startswith("_"):
            raise AttributeError(level)
        return lambda event, **fields: self.lines.append((level, event, fields))


@pytest.fixture
def log() -> Log:
    return Log()
