"""What the filters' tests share: a context on a clock that is moved by hand, and stand-ins for the parts
below them that record what they were asked."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from moonpool.contracts.manifest import Access, Route
from moonpool.core.body import Stream
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role


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
