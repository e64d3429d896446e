"""A service's application: every refusal an OpenAI object, probes, and the caller handed in."""

from typing import Annotated, Any

import httpx
import msgspec
import pytest
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from moonpool.asgi.app import create_app
from moonpool.asgi.caller import Caller
from moonpool.contracts import context
from moonpool.contracts.route_policy import BUFFERED_MOST
from moonpool.core.errors import PaymentRequired, RateLimited, Unavailable
from moonpool.core.principal import Principal

Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    word: Annotated[str, msgspec.Meta(max_length=3)] = ""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    inner: list[Inner] = []
    anything: object = None


class Text(msgspec.Struct):
    text: str


@get("/who")
async def who(caller: NamedDependency[Caller]) -> dict[str, str]:
    return {"user": caller.principal.user, "issuer": caller.issuer, "request": caller.request_id}


@get("/items/{number:int}")
async def item(number: FromPath[int]) -> dict[str, int]:
    return {"number": number}


@get("/items")
async def items(number: FromQuery[int], limit: Limit = 20) -> dict[str, int]:
    return {"number": number, "limit": limit}


@post("/items", status_code=200)
async def add(data: JSONBody[Body]) -> dict[str, int]:
    return {"number": data.number}


@post("/texts", status_code=200)
async def measure(data: JSONBody[Text]) -> dict[str, int]:
    return {"length": len(data.text)}


@get("/ours/{kind:str}")
async def ours(kind: FromPath[str]) -> None:
    errors = {
        "pay": PaymentRequired("no money left"),
        "slow": RateLimited("too many", retry_after=1.2),
        "bug": ZeroDivisionError("secret detail"),
    }
    raise errors[kind]


@pytest.fixture
async def parts(make_parts):
    return await make_parts("auth")


@pytest.fixture
async def call(parts):
    checks: dict[str, Exception] = {}

    async def optional() -> None:
        if "optional" in checks:
            raise checks["optional"]

    async def required() -> None:
        if "required" in checks:
            raise checks["required"]

    app = create_app(
        parts,
        [who, item, items, add, ours, measure],
        required={"model": required},
        optional={"disk": optional},
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:

        async def ask(method: str, path: str, *, signed: bool = True, **arguments: Any) -> httpx.Response:
            headers = {"x-request-id": "req_1"}
            if signed:
                value = context.sign(
                    parts.context_key,
                    issuer="gateway",
                    audience="auth",
                    principal=Principal(user="u"),
                    now=parts.clock.time(),
                )
                headers[context.HEADER.decode()] = value.decode()
            return await client.request(method, path, headers=headers, **arguments)

        ask.checks = checks  # type: ignore[attr-defined]
        yield ask


async def test_the_caller_is_handed_in(call) -> None:
    assert (await call("GET", "/who")).json() == {"user": "u", "issuer": "gateway", "request": "req_1"}


async def test_unsigned_calls_are_refused(call) -> None:
    answer = await call("GET", "/who", signed=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_context")


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("GET", "/items/x", {}, 404, "not_found"),
        ("DELETE", "/who", {}, 405, "method_not_allowed"),
        ("POST", "/items", {"content": b"{"}, 400, "invalid_json"),
        ("POST", "/items", {"json": {"number": "x"}}, 400, "invalid_type"),
        ("POST", "/items", {"json": {}}, 400, "missing_required_parameter"),
        ("POST", "/items", {}, 400, "missing_body"),
        ("GET", "/items", {}, 400, "missing_required_parameter"),
        ("GET", "/ours/pay", {}, 402, "insufficient_balance"),
        ("GET", "/ours/slow", {}, 429, "rate_limit_exceeded"),
        ("GET", "/ours/bug", {}, 500, "internal_error"),
    ],
)
async def test_every_refusal_is_an_error_object(call, method, path, arguments, status, code) -> None:
    answer = await call(method, path, **arguments)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if code is not None:
        assert error["code"] == code
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


async def test_an_unknown_field_is_named_and_not_the_body_around_it(call) -> None:
    error = (await call("POST", "/items", json={"number": 1, "nmber": 2})).json()["error"]
    assert (error["param"], error["code"]) == ("nmber", "unknown_parameter")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"number": 1.5}', "invalid_type", "number"),
        (b'{"number": "1"}', "invalid_type", "number"),
        (b'{"number": 1e999}', "invalid_json", None),
        (b'{"number": 1, "number": 2}', "duplicate_key", "number"),
        (b'{"number": 1, "inner": [{"word": "long"}]}', "invalid_value", "inner[0].word"),
        (b'{"number": 1, "inner": [{"world": ""}]}', "unknown_parameter", "inner[0].world"),
        (b'{"number": 1, "anything": ' + b"[" * 64 + b"]" * 64 + b"}", "nesting_too_deep", None),
        (b'{"bogus": ' + b"[" * 3000 + b"]" * 3000 + b"}", "nesting_too_deep", None),
        (b'{"number": "\xff"}', "invalid_encoding", None),
        (b"[]", "invalid_type", None),
    ],
)
async def test_a_body_is_read_as_strictly_as_models_requests_are(call, body, code, param) -> None:
    answer = await call("POST", "/items", content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("", "missing_required_parameter", "number"),
        ("number=x", "invalid_type", "number"),
        ("number=1&limit=0", "invalid_value", "limit"),
        ("number=1&limit=101", "invalid_value", "limit"),
        ("number=1&limit=" + "9" * 5000, "invalid_value", "limit"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_named(call, query, code, param) -> None:
    answer = await call("GET", f"/items?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert error["message"].startswith(("Invalid value for 'l", "Invalid value for 'n", "Missing required"))


async def test_what_else_a_refusal_says(call) -> None:
    assert "GET" in (await call("DELETE", "/who")).headers["allow"]
    assert (await call("GET", "/ours/slow")).headers["retry-after"] == "2"


async def test_probes(call, parts) -> None:
    assert (await call("GET", "/livez", signed=False)).json() == {"status": "ok"}
    ready = await call("GET", "/readyz", signed=False)
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["checks"]) == {"database", "events", "model", "disk"}
    call.checks["optional"] = Unavailable("full")
    degraded = await call("GET", "/readyz", signed=False)
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    call.checks["required"] = Unavailable("gone")
    unready = await call("GET", "/readyz", signed=False)
    assert (unready.status_code, unready.json()["status"]) == (503, "unready")
    assert (await call("GET", "/livez", signed=False)).status_code == 200


async def test_the_event_log_is_of_use_but_not_needed(call, parts) -> None:
    parts.events.away = True
    answer = await call("GET", "/readyz", signed=False)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


async def test_metrics_and_description(call) -> None:
    assert (await call("GET", "/metrics", signed=False)).status_code == 200
    described = (await call("GET", "/internal/openapi.json")).json()
    assert "/who" in described["paths"]
    assert "/livez" not in described["paths"]


async def test_a_body_may_be_as_long_as_an_operator_may_allow(call):
    """The manifest's limit and the configuration's are kept by the gateway."""
    answer = await call("POST", "/texts", json={"text": "x" * 12_000_000})
    assert (answer.status_code, answer.json()) == (200, {"length": 12_000_000})


async def test_a_body_has_an_end_all_the_same(call):
    answer = await call("POST", "/texts", content=b"x" * (BUFFERED_MOST + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
