import pytest

from moonpool.contracts.manifest import Remember, Route
from moonpool.core.body import Stream
from moonpool.core.errors import ConnectionReset
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.middleware.last_known import MAX_AGE, LastKnownMemory

MINE = Principal(user="u1", tenant="t1", key="k1", role=Role.MEMBER)
PATH = "/api/users/me"


def route(remember: Remember = Remember.CALLER) -> Route:
    return Route(method="GET", path=PATH, remember=remember)


@pytest.fixture
def memory(clock) -> LastKnownMemory:
    return LastKnownMemory(clock)


def answer(body: bytes = b'{"name":"x"}') -> Response:
    return Response(200, [(b"content-type", b"application/json"), (b"x-request-id", b"r")], body)


def test_one_s_own_answer_comes_back(memory, make_ctx, clock) -> None:
    ctx = make_ctx(route=route(), principal=MINE)
    memory.learn(ctx, Request("GET", PATH, "a=1"), answer())
    known = memory.get(ctx, Request("GET", PATH, "a=1"))
    assert known.body == b'{"name":"x"}'
    assert known.headers == [(b"content-type", b"application/json")]
    assert known.at == clock.time()
    assert memory.get(ctx, Request("GET", PATH, "a=2")) is None
    assert memory.latest(ctx, PATH) is known


@pytest.mark.parametrize(
    "other",
    [
        Principal(user="u1", tenant="t2", key="k1", role=Role.MEMBER),
        Principal(user="u2", tenant="t1", key="k1", role=Role.MEMBER),
        Principal(user="u1", tenant="t1", key="k2", role=Role.MEMBER),
        Principal(user="u1", tenant="t1", key="k1", role=Role.VIEWER),
        Principal(user="u1", tenant="t1", key="k1", role=Role.MEMBER, scopes=("files",)),
        Principal(),
        Principal(service="chat"),
    ],
)
def test_nobody_gets_what_was_said_to_another(memory, make_ctx, other) -> None:
    memory.learn(make_ctx(route=route(), principal=MINE), Request("GET", PATH), answer())
    ctx = make_ctx(route=route(), principal=other)
    assert memory.get(ctx, Request("GET", PATH)) is None
    assert memory.latest(ctx, PATH) is None


def test_what_is_said_to_nobody_in_particular_is_kept_for_nobody(memory, make_ctx) -> None:
    ctx = make_ctx(route=route(), principal=Principal())
    memory.learn(ctx, Request("GET", PATH), answer())
    assert memory.get(ctx, Request("GET", PATH)) is None


def test_what_is_the_same_for_everyone(memory, make_ctx) -> None:
    memory.learn(make_ctx(route=route(Remember.EVERYONE), principal=MINE), Request("GET", PATH), answer())
    ctx = make_ctx(route=route(Remember.EVERYONE), principal=Principal())
    assert memory.get(ctx, Request("GET", PATH)) is not None
    assert memory.latest(ctx, PATH) is not None


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (Request("HEAD", PATH), answer(b"")),
        (Request("GET", PATH, "", {b"range": b"bytes=0-1"}), answer()),
        (Request("GET", PATH, "", {b"if-none-match": b'"x"'}), answer()),
        (Request("GET", PATH), Response(404, [], b"{}")),
        (Request("GET", PATH), Response(206, [], b"{}")),
        (Request("GET", PATH), answer(b"x" * 600_000)),
    ],
)
def test_what_is_not_kept(memory, make_ctx, request_, response) -> None:
    ctx = make_ctx(route=route(), principal=MINE)
    memory.learn(ctx, request_, response)
    assert memory.get(ctx, Request("GET", PATH)) is None


@pytest.mark.parametrize(("ending", "kept"), [("finish", True), ("fail", False), ("cancel", False)])
def test_a_stream_is_kept_when_it_is_complete(memory, make_ctx, sink, ending, kept) -> None:
    ctx = make_ctx(route=route(), principal=MINE)
    stream = Stream()
    memory.learn(ctx, Request("GET", PATH), Response(200, [], stream))
    stream.connect(sink)
    stream.feed(b"ab")
    stream.feed(b"cd")
    assert memory.get(ctx, Request("GET", PATH)) is None
    stream.fail(ConnectionReset("x")) if ending == "fail" else getattr(stream, ending)()
    known = memory.get(ctx, Request("GET", PATH))
    assert (known is not None and known.body == b"abcd") is kept
    assert sink.data == b"abcd"


def test_a_long_stream_is_let_go(make_ctx, clock, sink) -> None:
    memory = LastKnownMemory(clock, largest=3)
    ctx = make_ctx(route=route(), principal=MINE)
    stream = Stream()
    memory.learn(ctx, Request("GET", PATH), Response(200, [], stream))
    stream.connect(sink)
    for _ in range(3):
        stream.feed(b"ab")
    stream.finish()
    assert memory.get(ctx, Request("GET", PATH)) is None
    assert sink.data == b"ababab"


def test_a_write_forgets_also_what_was_asked_before_it_and_came_after(memory, make_ctx, sink) -> None:
    ctx = make_ctx(route=route(), principal=MINE)
    stream = Stream()
    memory.learn(ctx, Request("GET", PATH), Response(200, [], stream))
    memory.changed(ctx, Request("PATCH", PATH))
    stream.connect(sink)
    stream.finish()
    assert memory.get(ctx, Request("GET", PATH)) is None
    memory.learn(ctx, Request("GET", PATH), answer())
    assert memory.get(ctx, Request("GET", PATH)) is not None


def test_what_was_just_remembered_is_remembered_anew_only_after_a_write_or_a_second(
    memory, make_ctx, clock
) -> None:
    ctx = make_ctx(route=route(), principal=MINE)

    def learnt(body: bytes) -> bytes:
        memory.learn(ctx, Request("GET", PATH), answer(body))
        return memory.get(ctx, Request("GET", PATH)).body

    assert [learnt(b"1"), learnt(b"2")] == [b"1", b"1"]
    memory.changed(ctx, Request("PATCH", PATH))
    assert learnt(b"3") == b"3"
    clock.advance(1.0)
    assert learnt(b"4") == b"4"


def test_bounds(make_ctx, clock) -> None:
    memory = LastKnownMemory(clock, capacity=3000)
    ctx = make_ctx(route=route(), principal=MINE)
    for n in range(6):
        memory.learn(ctx, Request("GET", f"/{n}"), answer(b"x" * 400))
    assert [n for n in range(6) if memory.latest(ctx, f"/{n}")] == [3, 4, 5]
    clock.advance(MAX_AGE + 1)
    assert memory.get(ctx, Request("GET", "/5")) is None
