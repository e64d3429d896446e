"""Nothing runs below without a valid context."""

import msgspec
import pytest

from moonpool.asgi.caller import SCOPE_KEY, CallerMiddleware
from moonpool.contracts.context import HEADER, LIFETIME, SKEW, sign
from moonpool.core.clock import ManualClock
from moonpool.core.principal import Principal

KEY = b"k" * 32
WHO = Principal(user="u", tenant="t")


class App:
    def __init__(self) -> None:
        self.scopes: list[dict] = []

    async def __call__(self, scope, receive, send) -> None:
        self.scopes.append(scope)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ask(app, clock):
    layer = CallerMiddleware(app, key=KEY, audience="chat", clock=clock)

    async def call(headers: list[tuple[bytes, bytes]], path: str = "/x", type: str = "http") -> list[dict]:
        sent: list[dict] = []

        async def send(message) -> None:
            sent.append(message)

        scope = (
            {"type": type}
            if type == "lifespan"
            else {"type": type, "method": "GET", "path": path, "headers": headers}
        )
        await layer(scope, None, send)  # type: ignore[arg-type]
        return sent

    return call


def signed(clock, audience: str = "chat", key: bytes = KEY) -> bytes:
    return sign(key, issuer="gateway", audience=audience, principal=WHO, now=clock.time())


async def test_the_caller_is_told(app, ask, clock) -> None:
    assert await ask([(HEADER, signed(clock)), (b"x-request-id", b"req_1")]) == []
    caller = app.scopes[0][SCOPE_KEY]
    assert (caller.principal, caller.issuer, caller.request_id) == (WHO, "gateway", "req_1")


@pytest.mark.parametrize("kind", ["missing", "empty", "tampered", "other audience", "other key", "expired"])
async def test_refused(app, ask, clock, kind: str) -> None:
    good = signed(clock)
    headers = {
        "missing": [],
        "empty": [(HEADER, b"")],
        "tampered": [(HEADER, good[:10] + b"A" + good[11:] if good[10:11] != b"A" else b"B" + good[1:])],
        "other audience": [(HEADER, signed(clock, audience="auth"))],
        "other key": [(HEADER, signed(clock, key=b"j" * 32))],
        "expired": [(HEADER, good)],
    }[kind]
    if kind == "expired":
        clock.advance(LIFETIME + SKEW + 1)
    start, body = await ask(headers)
    assert app.scopes == []
    assert start["status"] == 401
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])
    assert msgspec.json.decode(body["body"])["error"]["code"] == "invalid_context"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_are_open(app, ask, path: str) -> None:
    assert await ask([], path) == []
    assert SCOPE_KEY not in app.scopes[0]


@pytest.mark.parametrize("path", ["/livez/", "//livez", "/livez/x", "/LIVEZ", "/internal/openapi.json", ""])
async def test_nothing_else_is(app, ask, path: str) -> None:
    assert (await ask([], path))[0]["status"] == 401


async def test_the_lifespan_passes_and_websockets_do_not(app, ask, clock) -> None:
    assert await ask([], type="lifespan") == []
    assert len(app.scopes) == 1
    (sent,) = await ask([(HEADER, signed(clock))], type="websocket")
    assert sent["type"] == "websocket.close"
    assert len(app.scopes) == 1
