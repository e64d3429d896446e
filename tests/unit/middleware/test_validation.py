import pytest

from moonpool.contracts.manifest import BodyKind, Route
from moonpool.core.body import Stream
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest
from moonpool.core.message import Request, Response
from moonpool.middleware.validation import Validation

WITH, WITHOUT = Route(method="POST", path="/", schema="s"), Route(method="POST", path="/")


class Parsing:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, body: bytes) -> object:
        self.bodies.append(body)
        if body == b"bad":
            raise BadRequest("not that", param="x")
        return {"parsed": body}


@pytest.fixture
def parse() -> Parsing:
    return Parsing()


async def ask(
    parse: Parsing, body: bytes, headers: dict[bytes, bytes] | None = None, route: Route = WITH
) -> tuple[Context, list[Request]]:
    ctx, passed = Context(), []
    ctx.route = route

    async def next(ctx: Context, request: Request) -> Response:
        passed.append(request)
        return Response(200)

    await Validation({"s": parse})(ctx, Request("POST", "/", headers=headers or {}, body=body), next)
    return ctx, passed


def test_for_every_route_that_takes_a_body() -> None:
    assert Validation({"s": Parsing()}).applies(WITH)
    assert Validation({}).applies(WITHOUT)
    assert not Validation({}).applies(Route(method="GET", path="/", body=BodyKind.NONE))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"bogus":' + b"[" * 3000 + b"]" * 3000 + b"}", "nesting_too_deep"),
        (b"[" * 65 + b"]" * 65, "nesting_too_deep"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b"{", "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'"\xff"', "invalid_encoding"),
    ],
)
async def test_a_body_without_a_schema_is_well_formed_or_goes_no_further(
    parse: Parsing, body: bytes, code: str
) -> None:
    with pytest.raises(BadRequest) as raised:
        await ask(parse, body, route=WITHOUT)
    assert raised.value.code == code


@pytest.mark.parametrize("body", [b"", b"{}", b'{"a": [1, {"b": null}]}', b"7"])
async def test_the_rest_of_it_is_the_service_s(parse: Parsing, body: bytes) -> None:
    ctx, (passed,) = await ask(parse, body, route=WITHOUT)
    assert (passed.body, ctx.payload, parse.bodies) == (body, None, [])


@pytest.mark.parametrize("route", [WITH, WITHOUT])
@pytest.mark.parametrize(
    ("encoding", "taken"), [(b"identity", True), (b"Identity", True), (b"gzip", False), (b"br, gzip", False)]
)
async def test_encoded_bodies(parse: Parsing, route: Route, encoding: bytes, taken: bool) -> None:
    headers = {b"content-encoding": encoding}
    if taken:
        await ask(parse, b"{}", headers, route)
    else:
        with pytest.raises(BadRequest) as raised:
            await ask(parse, b"\x1f\x8b", headers, route)
        assert raised.value.code == "unsupported_content_encoding"


def test_an_unknown_schema_is_told_when_the_chain_is_built() -> None:
    with pytest.raises(ValueError, match="unknown schema"):
        Validation({}).applies(WITH)


async def test_one_parse_and_the_client_s_own_bytes_go_on(parse: Parsing) -> None:
    ctx, (passed,) = await ask(parse, b'{ "a":1 }')
    assert parse.bodies == [b'{ "a":1 }']
    assert passed.body == b'{ "a":1 }'
    assert ctx.payload == {"parsed": b'{ "a":1 }'}


async def test_what_does_not_fit_goes_no_further(parse: Parsing) -> None:
    with pytest.raises(BadRequest) as raised:
        await ask(parse, b"bad")
    assert raised.value.param == "x"


async def test_no_body(parse: Parsing) -> None:
    with pytest.raises(BadRequest) as raised:
        await ask(parse, b"")
    assert raised.value.code == "missing_body"
    assert parse.bodies == []


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        (None, True),
        (b"application/json", True),
        (b"application/json; charset=utf-8", True),
        (b"Application/JSON", True),
        (b"application/merge-patch+json", True),
        (b"text/plain", False),
        (b"multipart/form-data; boundary=x", False),
        (b"", False),
    ],
)
async def test_content_types(parse: Parsing, content_type: bytes | None, taken: bool) -> None:
    headers = {} if content_type is None else {b"content-type": content_type}
    if taken:
        await ask(parse, b"{}", headers)
    else:
        with pytest.raises(BadRequest) as raised:
            await ask(parse, b"{}", headers)
        assert raised.value.code == "unsupported_content_type"
        assert parse.bodies == []


async def test_a_file_passes_as_it_arrives() -> None:
    upload, passed = Request("POST", "/", headers={b"content-type": b"multipart/form-data"}), []
    upload.body = Stream()
    ctx = Context()
    ctx.route = Route(method="POST", path="/", body=BodyKind.STREAMED)

    async def next(ctx: Context, request: Request) -> Response:
        passed.append(request)
        return Response(200)

    await Validation({})(ctx, upload, next)
    assert passed == [upload]
