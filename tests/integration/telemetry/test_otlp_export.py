"""Spans through the real SDK to a real receiver: one trace, from the gateway's request to the service's.

The receiver is a process that decodes OTLP's protobuf (collector.py)."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from litestar import Litestar, get
from litestar.params import FromPath

from moonpool.adapters.telemetry.otlp import OtlpSpans
from moonpool.asgi.tracing import SpanMiddleware
from moonpool.contracts.manifest import Access, Route
from moonpool.contracts.usage import Usage
from moonpool.core.body import Outcome
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.context import Attempt, Context
from moonpool.core.trace import child_id, render
from moonpool.middleware.recorder import Finished
from moonpool.middleware.spans import SpanExport

COLLECTOR = Path(__file__).with_name("collector.py")
TRACE, ROOT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, CLIENT = 2, 3


class Collector:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    async def request(self) -> dict[str, Any]:
        """The next export that it got."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 20)
        told: dict[str, Any] = json.loads(line)
        return told

    async def spans(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.request())["spans"]
        return found


Start = Callable[..., Awaitable[Collector]]


@pytest.fixture
async def start_collector() -> AsyncIterator[Start]:
    running: list[asyncio.subprocess.Process] = []

    async def start(status: int = 200) -> Collector:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(COLLECTOR), str(status), stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        return Collector(process, int(await asyncio.wait_for(process.stdout.readline(), 20)))

    yield start
    for process in running:
        process.kill()
        await process.wait()


def exporter(url: str, name: str) -> OtlpSpans:
    return OtlpSpans(url, {"service.name": name, "service.instance.id": f"{name}-0"}, structlog.get_logger())


def request(flags: int = 1) -> Finished:
    """A request that failed at its first endpoint."""
    ctx = Context()
    ctx.request_id = "req_1"
    ctx.route = Route(method="POST", path="/v1/chat/completions", access=Access.KEY)
    ctx.trace_id, ctx.parent_id, ctx.span_id, ctx.trace_flags = TRACE, "1" * 16, ROOT, flags
    ctx.model = "smollm2"
    ctx.decide("authentication", "allow", "key_1")
    for endpoint, status, error in (("inference-0", None, "connection refused"), ("inference-1", 200, None)):
        attempt = Attempt(endpoint, "v1", ctx.clock.monotonic())
        attempt.status, attempt.error = status, error
        attempt.ended = ctx.clock.monotonic()
        ctx.attempts.append(attempt)
    ctx.usage = Usage(prompt_tokens=11, completion_tokens=5)
    return Finished(ctx, "POST", "", 200, 10, None, ctx.clock.monotonic() + 0.01, Outcome.COMPLETED)


async def call_service(spans: OtlpSpans, traceparent: bytes) -> None:
    """What the inference service's process does with the second attempt."""

    @get("/v1/models/{name:str}")
    async def handler(name: FromPath[str]) -> dict[str, str]:
        return {"name": name}

    app = SpanMiddleware(Litestar([handler], logging_config=None), spans=spans, clock=SYSTEM_CLOCK)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/models/x",
        "raw_path": b"/v1/models/x",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("service", 80),
        "client": None,
        "headers": [(b"traceparent", traceparent), (b"host", b"service")],
        "state": {},
        "extensions": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None: ...

    await app(scope, receive, send)  # type: ignore[arg-type]


async def test_one_trace_joins_gateway_and_service(start_collector: Start) -> None:
    collector = await start_collector()
    gateway, service = (
        exporter(collector.url, "moonpool-gateway"),
        exporter(collector.url, "moonpool-inference"),
    )
    # The second attempt's traceparent, as middleware/upstream.py makes it: number 1 below the request.
    await call_service(service, render(TRACE, child_id(ROOT, 1), 1))
    SpanExport(gateway, SYSTEM_CLOCK)([request()])
    spans = await collector.spans(4)
    await asyncio.gather(gateway.stop(), service.stop())
    assert {span["trace"] for span in spans} == {TRACE}
    by_parent = {span["parent"]: span for span in spans if span["parent"] != ROOT}
    root = by_parent["1" * 16]
    assert (root["id"], root["kind"], root["service"]) == (ROOT, SERVER, "moonpool-gateway")
    assert root["name"] == "POST /v1/chat/completions"
    assert root["events"] == ["authentication"]
    assert root["attributes"]["gen_ai.usage.input_tokens"] == 11
    first, second = sorted(
        (span for span in spans if span["parent"] == ROOT),
        key=lambda span: span["attributes"]["moonpool.endpoint"],
    )
    assert (first["kind"], first["status"], first["message"]) == (CLIENT, 2, "connection refused")
    assert (second["kind"], second["status"]) == (CLIENT, 0)
    served = by_parent[second["id"]]
    assert (served["service"], served["kind"]) == ("moonpool-inference", SERVER)
    assert served["name"] == "GET /v1/models/{name}"
    assert served["attributes"]["http.response.status_code"] == 200
    assert (gateway.exported, service.exported) == (3, 1)


async def test_what_the_standard_variables_say_is_heeded(start_collector: Start, monkeypatch) -> None:
    collector = await start_collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{collector.url}/base")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=sea")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    spans = exporter("", "moonpool-gateway")
    SpanExport(spans, SYSTEM_CLOCK)([request()])
    told = await collector.request()
    await spans.stop()
    assert told["path"] == "/base/v1/traces"
    assert told["headers"]["x-team"] == "sea"
    assert told["headers"]["content-type"] == "application/x-protobuf"
    resource = told["spans"][0]["resource"]
    assert resource["service.name"] == "moonpool-gateway"
    assert resource["deployment.environment.name"] == "test"


async def test_a_collector_that_refuses_costs_spans_and_nothing_else(start_collector: Start) -> None:
    collector = await start_collector(400)
    spans = exporter(collector.url, "moonpool-gateway")
    SpanExport(spans, SYSTEM_CLOCK)([request()])
    await collector.request()
    await spans.stop()
    assert (spans.exported, spans.dropped) == (0, 3)
