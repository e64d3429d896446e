import msgspec
import pytest

from moonpool.contracts.manifest import Degraded, Remember, Route
from moonpool.core.body import Stream
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    BadRequest,
    ConnectFailed,
    DeadlineExceeded,
    FirstByteTimeout,
    PlatformError,
    RateLimited,
    Unavailable,
)
from moonpool.core.message import Request, Response
from moonpool.middleware.causes import Causes
from moonpool.middleware.fallback import HEADER, FallbackFilter
from moonpool.middleware.last_known import LastKnownMemory

JSON = (b"content-type", b"application/json")


class Twin:
    def __init__(self) -> None:
        self.half: Response | Exception | None = None
        self.object: Response | None = None
        self.causes: list[PlatformError] = []

    async def answer(self, ctx, request, cause):
        self.causes.append(cause)
        if isinstance(self.half, Exception):
            raise self.half
        return self.half

    def degraded(self, ctx, request, cause):
        return self.object


class House:
    def __init__(self, clock, log, make_ctx) -> None:
        self.twin, self.causes = Twin(), Causes(clock)
        self.known = LastKnownMemory(clock)
        self.filter = FallbackFilter({"inference": self.twin}, self.known, self.causes, log)
        self.make_ctx = make_ctx
        self.below: Response | Exception = Response(200, [JSON], b"{}")
        self.ctx = make_ctx()

    async def ask(self, *, method: str = "POST", headers=None, **fields) -> Response:
        async def below(ctx, request):
            if isinstance(self.below, Exception):
                raise self.below
            return self.below

        for name, value in fields.items():
            setattr(self.ctx, name, value)
        return await self.filter(self.ctx, Request(method, "/x", "", headers or {}), below)


@pytest.fixture
def house(clock, log, make_ctx) -> House:
    return House(clock, log, make_ctx)


def error_of(response: Response) -> dict:
    return msgspec.json.decode(response.body)["error"]


async def test_the_order_stale_service_degraded_503(house) -> None:
    house.below = ConnectFailed("no connection")
    house.twin.half = Response(200, [], b"half")
    house.twin.object = Response(200, [], b"object")
    route = Route(method="POST", path="/x", degraded=Degraded.OBJECT)

    stale = await house.ask(
        route=route, stale=lambda: Response(200, [(b"x-moonpool-cache", b"stale")], b"old")
    )
    assert (stale.body, stale.header(HEADER), house.ctx.fallback) == (b"old", b"stale", "stale")
    assert house.twin.causes == []
    assert house.ctx.stale is None

    half = await house.ask()
    assert (half.body, half.header(HEADER)) == (b"half", b"service")

    house.twin.half = None
    degraded = await house.ask()
    assert (degraded.body, degraded.header(HEADER)) == (b"object", b"degraded")

    house.twin.object = None
    refused = await house.ask()
    assert (refused.status, refused.header(HEADER), refused.header(b"retry-after")) == (
        503,
        b"degraded",
        b"5",
    )
    assert error_of(refused)["code"] == "upstream_connect_failed"
    assert house.ctx.flags == [Flag.STALE, Flag.DEGRADED, Flag.DEGRADED, Flag.DEGRADED]


async def test_cause_is_decided_logged_and_counted(house, log) -> None:
    house.below = FirstByteTimeout("no first byte after 30 s")
    await house.ask()
    decision = house.ctx.trace()[-1]
    assert (decision.filter, decision.verdict) == ("fallback", "degraded")
    assert decision.reason == "upstream_first_byte_timeout: no first byte after 30 s"
    (ranked,) = house.causes.top()
    assert (ranked.kind, ranked.service, ranked.cause, ranked.request_id) == (
        "degraded", "inference", "upstream_first_byte_timeout", "req_1",
    )  # fmt: skip
    assert log.lines[-1][:2] == ("warning", "fallback")
    assert log.lines[-1][2]["cause"] == "upstream_first_byte_timeout"


@pytest.mark.parametrize("error", [BadRequest("no"), RateLimited("slow down", retry_after=3.0)])
async def test_a_client_s_error_is_never_covered(house, error) -> None:
    house.below = error
    with pytest.raises(type(error)):
        await house.ask(stale=lambda: Response(200))
    assert house.ctx.fallback == ""


@pytest.mark.parametrize("status", [200, 404, 409, 422, 429])
async def test_answers_below_500_pass(house, status) -> None:
    house.below = Response(status, [JSON], b'{"error":{}}')
    assert (await house.ask()) is house.below
    assert house.below.header(HEADER) is None


async def test_a_begun_stream_passes(house) -> None:
    house.below = Response(200, [], Stream())
    assert (await house.ask()).body is house.below.body
    assert house.below.body.outcome is None


@pytest.mark.parametrize(
    ("status", "body", "covered", "cause"),
    [
        (500, b"", True, "status_500"),
        (502, b"<html>Bad Gateway</html>", True, "status_502"),
        (503, b'{"error":{"message":"busy","code":"server_is_overloaded"}}', True, "server_is_overloaded"),
        (500, b'{"error":{"message":"x","code":"a code with blanks"}}', True, "status_500"),
        (500, b'{"error":{"message":"x","code":42}}', True, "42"),
        (500, b'{"detail":"Internal Server Error"}', True, "status_500"),
        (500, b"[" * 5000, True, "status_500"),
        (503, b'{"status":"degraded","checks":{"a":"down"}}', False, ""),
    ],
)
async def test_5xx_without_a_usable_body(house, status, body, covered, cause) -> None:
    house.below = Response(status, [JSON], body)
    response = await house.ask()
    if covered:
        assert (response.status, response.header(HEADER)) == (503, b"degraded")
        assert house.causes.top()[0].cause == cause
    else:
        assert (response.status, response.body, response.header(HEADER)) == (status, body, None)


async def test_the_failed_answer_s_own_words_and_wait_are_kept(house) -> None:
    house.below = Response(
        500, [JSON, (b"retry-after", b"17")], b'{"error":{"message":"the disk is full","code":"disk"}}'
    )
    response = await house.ask()
    assert (response.status, response.header(b"retry-after")) == (503, b"17")
    assert error_of(response)["message"] == "the disk is full"


async def test_a_failed_answer_that_breaks_or_never_ends_is_covered(house, sink) -> None:
    house.twin.half = Response(200, [], b"half")
    stream = Stream()
    stream.feed(b"x" * 70_000)
    house.below = Response(500, [], stream)
    assert (await house.ask()).body == b"half"
    assert stream.outcome is not None
    broken = Stream()
    broken.fail(ConnectFailed("gone"))
    house.below = Response(502, [], broken)
    assert (await house.ask()).body == b"half"


async def test_the_twin_may_say_it_better(house) -> None:
    house.below = DeadlineExceeded("too late")
    house.twin.half = Unavailable("profiles are read-only", code="read_only", retry_after=9.0)
    response = await house.ask()
    assert (response.status, response.header(b"retry-after")) == (503, b"9")
    assert error_of(response)["code"] == "read_only"
    assert house.causes.top()[0].cause == "deadline_exceeded"


async def test_the_twin_refuses_what_the_service_would_have_refused(house) -> None:
    house.below = ConnectFailed("no")
    house.twin.half = BadRequest("not a job")
    with pytest.raises(BadRequest):
        await house.ask()


async def test_a_twin_that_crashes_costs_nobody_the_answer(house, log) -> None:
    house.below = ConnectFailed("no")
    house.twin.half = ZeroDivisionError()
    response = await house.ask()
    assert (response.status, response.header(HEADER)) == (503, b"degraded")
    assert any(line[1] == "a fallback crashed" for line in log.lines)


@pytest.mark.parametrize(
    ("policy", "prefer", "status"),
    [
        (Degraded.RETRY_LATER, None, 503),
        (Degraded.OBJECT, None, 200),
        (Degraded.RETRY_LATER, b"handling=lenient", 200),
        (Degraded.OBJECT, b"handling=strict", 503),
    ],
)
async def test_object_or_503(house, policy, prefer, status) -> None:
    house.below = ConnectFailed("no")
    house.twin.object = Response(200, [], b"{}")
    route = Route(method="POST", path="/x", degraded=policy)
    response = await house.ask(route=route, headers={b"prefer": prefer} if prefer else {})
    assert (response.status, response.header(HEADER)) == (status, b"degraded")


async def test_an_operator_may_want_nobody_to_stand_in(house) -> None:
    house.below = ConnectFailed("no")
    house.twin.half = house.twin.object = Response(200, [], b"{}")
    route = Route(method="POST", path="/x", degraded=Degraded.OBJECT, fallback=False)
    stale = {"stale": lambda: Response(200, [], b"old")}
    response = await house.ask(route=route, headers={b"prefer": b"handling=lenient"}, **stale)
    assert (response.status, response.header(HEADER)) == (503, b"degraded")
    assert error_of(response)["message"] == "no"
    assert response.header(b"retry-after")
    house.below = Response(500, [], b"")
    assert (await house.ask(route=route)).status == 503
    assert house.twin.causes == []


async def test_the_gateway_s_own_routes_have_no_twin(house) -> None:
    house.below = ConnectFailed("no")
    with pytest.raises(ConnectFailed):
        await house.ask(service="")
    house.below = Response(503, [], b"")
    assert (await house.ask(service="")).header(HEADER) is None


async def test_a_service_without_a_twin(house) -> None:
    house.below = ConnectFailed("no")
    assert (await house.ask(service="other")).status == 503


async def test_good_reads_are_learnt_and_writes_make_them_old(house) -> None:
    read = Route(method="GET", path="/x", remember=Remember.CALLER)
    await house.ask(method="GET", route=read)
    assert house.known.get(house.ctx, Request("GET", "/x")) is not None
    house.below = Response(500, [], b"")
    await house.ask(route=Route(method="POST", path="/x"))
    assert house.known.latest(house.ctx, "/x") is not None
    house.below = Response(201, [], b"{}")
    await house.ask(route=Route(method="POST", path="/x"))
    assert house.known.latest(house.ctx, "/x") is None


def test_where_it_applies(house) -> None:
    assert house.filter.applies(Route(method="GET", path="/x"))
    assert not house.filter.applies(Route(method="GET", path="/livez", quiet=True))
    assert house.filter.applies(Route(method="GET", path="/h", quiet=True, remember=Remember.CALLER))
