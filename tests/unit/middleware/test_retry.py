"""Which failures are tried again, where, when and how often: through all that stands below the filter."""

import asyncio

import pytest
from msgspec import structs

from moonpool.balancing.services import Services
from moonpool.contracts.catalogue import Model, Target
from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.contracts.resilience import RetryPolicy
from moonpool.core.body import Stream
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    ConnectFailed,
    ConnectionReset,
    DeadlineExceeded,
    FirstByteTimeout,
    MoonpoolError,
    StreamStalled,
    StreamTruncated,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.message import Request, Response
from moonpool.middleware.retry import Retry
from moonpool.openai.errors import render_error

BASE = RetryPolicy().backoff_base


class Case:
    """One kind of request, asked of some instances."""

    def __init__(self, layer, said, kind: str, place: str) -> None:
        self.layer, self.kind = layer, kind
        service = "inference" if kind == "model" else "chat"
        others = {"alone": [], "other": ["1@v1"], "tier": ["1@v2"]}[place]
        layer.run(*(f"{service}-{instance}" for instance in ["0@v1", *others]))
        layer.client.answer = said.answer()
        layer.offer(Model(id="m", targets=(Target(id="local"),)))
        fields = {"release_wanted": "v1"}
        method = "GET" if kind == "read" else "PUT" if kind == "upload" else "POST"
        self.ctx = layer.model_ctx(**fields) if kind == "model" else layer.service_ctx(method, **fields)

    async def ask(self) -> Response:
        """What the client gets."""
        try:
            if self.kind == "model":
                return await self.layer.model(self.ctx)
            return await self.layer.service(self.ctx, Stream() if self.kind == "upload" else b"x")
        except MoonpoolError as error:
            return render_error(error)

    @property
    def asked(self) -> int:
        return len(self.layer.client.sent)


@pytest.fixture
def case(layer, said):
    return lambda kind, place: Case(layer, said, kind, place)


def refused(status: int, wait: bool = False):
    headers = [(b"content-type", b"application/json"), *([(b"retry-after", b"2")] if wait else [])]
    return lambda: Response(status, headers.copy(), b'{"error": {"message": "no"}}')


# kind of request:  read     a GET of a service           repeatable
#                   write    a POST to a service          not repeatable
#                   upload   a PUT with a streamed body   gone after the first try
#                   model    a POST to a model            repeatable
# where else:       other    an instance in the tier · tier  another tier · alone  nobody
EVERYWHERE = {"other", "tier", "alone"}
ELSEWHERE = {"other", "tier"}
FAILURES = {
    "connect": (lambda: ConnectFailed("x"), {"read", "write", "model"}, EVERYWHERE),
    "connect, streamed": (lambda: ConnectFailed("x"), {"upload"}, {"tier"}),  # nothing of it was read yet
    "reset": (lambda: ConnectionReset("x"), {"read", "model"}, EVERYWHERE),
    "malformed": (lambda: UpstreamMalformed("x"), {"read", "model"}, EVERYWHERE),
    "truncated": (lambda: StreamTruncated("x"), {"read", "model"}, EVERYWHERE),
    "first byte": (lambda: FirstByteTimeout("x"), {"read", "model"}, ELSEWHERE),
    "stall": (lambda: StreamStalled("x"), {"read", "model"}, ELSEWHERE),
    "500": (refused(500), {"read", "model"}, EVERYWHERE),
    "502": (refused(502), {"read", "model"}, EVERYWHERE),
    "503": (refused(503), {"read", "model"}, EVERYWHERE),
    "504": (refused(504), {"read", "model"}, EVERYWHERE),
    "503, later": (refused(503, wait=True), {"read", "model"}, EVERYWHERE),
    "503, later, not done": (refused(503, wait=True), {"write"}, EVERYWHERE),  # it says it did nothing
    "408": (refused(408), {"model"}, EVERYWHERE),
    "429": (refused(429), {"model"}, EVERYWHERE),
    "429, later": (refused(429, wait=True), {"model"}, EVERYWHERE),
    "our key": (refused(401), {"model"}, ELSEWHERE),  # whoever refuses it would again
    "501": (refused(501), {"model"}, {"tier"}),
    "400": (refused(400), set(), set()),
    "404": (refused(404), set(), set()),
    "409": (refused(409), set(), set()),
    "422": (refused(422), set(), set()),
}
CASES = [
    pytest.param(make, kind, place, kind in kinds and place in places, id=f"{name}-{kind}-{place}")
    for name, (make, kinds, places) in FAILURES.items()
    for kind in ("read", "write", "upload", "model")
    for place in ("other", "tier", "alone")
    # Where two rows are about the same failure each has its own kinds of request.
    if not (name == "connect" and kind == "upload")
    and not (name == "connect, streamed" and kind != "upload")
    and not (name == "503, later" and kind == "write")
    and not (name == "503, later, not done" and kind != "write")
]


@pytest.mark.parametrize(("make", "kind", "place", "again"), CASES)
async def test_what_is_tried_again(case, layer, make, kind: str, place: str, again: bool) -> None:
    asked = case(kind, place)
    layer.client.first = [make()]
    response = await asked.ask()
    assert asked.asked == (2 if again else 1)
    assert (response.status == 200) == again
    if again and place != "alone":
        assert len(set(layer.client.asked_of)) == 2
        assert layer.waits == []
    if again and place == "alone":
        asks_pause = (make().header(b"retry-after") if isinstance(make(), Response) else None) is not None
        assert layer.waits == [2.0 if asks_pause else BASE]
    assert (response.header(b"x-moonpool-fallback") == b"failover") == (again and place == "tier")
    assert layer.idle


async def test_each_attempt_has_a_span_of_its_own(case, layer) -> None:
    asked = case("read", "other")
    layer.client.first = [ConnectionReset("x")]
    await asked.ask()
    first, second = (request.headers[b"traceparent"] for _, request, _ in layer.client.sent)
    assert first != second


@pytest.mark.parametrize("kind", ["read", "model"])
async def test_no_more_attempts_than_the_policy_allows(case, layer, kind: str) -> None:
    asked = case(kind, "alone")
    layer.run(*(f"{'chat' if kind == 'read' else 'inference'}-{n}" for n in range(1, 6)))
    layer.client.answer = ConnectionReset("x")
    assert (await asked.ask()).status == 502
    assert len(set(layer.client.asked_of)) == 3
    assert asked.asked == len(asked.ctx.attempts) == 3
    assert Flag.RETRIES_EXHAUSTED in asked.ctx.flags
    assert layer.idle


async def test_the_same_one_is_asked_at_growing_intervals(case, layer) -> None:
    asked = case("read", "alone")
    layer.policy, layer.jitter = RetryPolicy(attempts=5), 0.99
    layer.client.answer = ConnectionReset("x")
    await asked.ask()
    assert asked.asked == 5
    first, second, third, fourth = layer.waits
    assert BASE <= first < second < third < fourth


async def test_all_are_asked_before_one_is_asked_again(case, layer) -> None:
    asked = case("read", "other")
    layer.client.answer = ConnectionReset("x")
    await asked.ask()
    assert asked.asked == 3
    assert len(set(layer.client.asked_of[:2])) == 2
    assert layer.waits == [BASE]


@pytest.mark.parametrize(("wanted", "made"), [(1, 1), (2, 2), (5, 5), (0, 3)])
async def test_a_route_may_have_its_own_number(case, layer, wanted: int, made: int) -> None:
    asked = case("read", "alone")
    asked.ctx.route = structs.replace(asked.ctx.route, attempts=wanted)
    layer.client.answer = ConnectionReset("x")
    await asked.ask()
    assert asked.asked == made


async def test_a_request_keeps_the_policy_that_it_began_with(layer) -> None:
    layer.run("chat-0")
    retry = Retry(RetryPolicy(attempts=2), layer.budget, layer.breakers, lambda: 0.0)
    asked = []

    async def fails(ctx, request):
        asked.append(ctx)
        retry.update(RetryPolicy(attempts=4, statuses=frozenset()))
        raise ConnectionReset("x")

    for attempts in (2, 4):
        asked.clear()
        ctx = layer.service_ctx()
        (ctx.tier,), ctx.last_tier = Services(layer.pools).tiers("chat"), True
        with pytest.raises(ConnectionReset):
            await retry(ctx, Request("GET", "/api/x"), fails)
        assert len(asked) == attempts


@pytest.mark.parametrize("kind", ["read", "model"])
async def test_one_that_is_not_ready_is_no_other(case, layer, kind: str) -> None:
    asked = case(kind, "alone")
    name = layer.endpoints[0].instance.removesuffix("-0")
    layer.run(f"{name}-1", state="starting")
    layer.client.first = [ConnectionReset("x")]
    assert (await asked.ask()).status == 200
    assert layer.client.asked_of == [f"{name}-0", f"{name}-0"]
    assert layer.waits == [BASE]


async def test_one_whose_breaker_is_open_is_no_other(case, layer) -> None:
    """The one that failed is asked again, hence not at once."""
    asked = case("read", "other")
    layer.open("chat-1")
    layer.client.first = [ConnectionReset("x")]
    assert (await asked.ask()).status == 200
    assert layer.client.asked_of == ["chat-0", "chat-0"]
    assert layer.waits == [BASE]


async def test_a_silent_one_is_not_asked_again_because_its_neighbour_s_breaker_is_open(case, layer) -> None:
    asked = case("read", "other")
    layer.open("chat-1")
    layer.client.first = [FirstByteTimeout("x")]
    assert (await asked.ask()).status == 504
    assert layer.client.asked_of == ["chat-0"]


@pytest.mark.parametrize("kind", ["read", "model"])
@pytest.mark.parametrize(("left", "obeyed"), [(2.5, True), (2.0, False), (1.0, False)])
async def test_the_pause_that_an_endpoint_asks_for_is_kept_within_the_deadline(
    case, layer, clock, kind: str, left: float, obeyed: bool
) -> None:
    asked = case(kind, "alone")
    asked.ctx.deadline = Deadline.after(clock.monotonic(), left)
    layer.client.first = [refused(503, wait=True)()]
    response = await asked.ask()
    assert layer.waits == ([2.0] if obeyed else [])
    assert response.status == (200 if obeyed else 503)
    if not obeyed:
        assert response.header(b"retry-after") == b"2"
        assert ("retry", "no time") in [entry[:2] for entry in asked.ctx.trace()]
    assert layer.idle


async def test_an_external_endpoint_s_pause_and_its_breaker_s_end_together(layer, said, clock) -> None:
    layer.offer(Model(id="m", targets=(Target(id="a", url="https://a.example/v1"),)))
    layer.client.first = [said.refusal(429, retry_after=7)]
    layer.client.answer = said.answer()
    ctx = layer.model_ctx(deadline=Deadline.after(clock.monotonic(), 60.0))
    assert (await layer.model(ctx)).status == 200
    assert layer.waits == [7.0]
    assert layer.idle


async def test_a_probe_s_429_is_waited_for_as_long_as_it_asks(layer, said, clock) -> None:
    layer.offer(Model(id="m", targets=(Target(id="a", url="https://a.example/v1"),)))
    layer.open(layer.endpoints[0].instance)
    clock.advance(5.0)
    layer.client.first = [said.refusal(429, retry_after=1)]
    layer.client.answer = said.answer()
    ctx = layer.model_ctx(deadline=Deadline.after(clock.monotonic(), 60.0))
    assert (await layer.model(ctx)).status == 200
    assert layer.waits == [1.0]
    assert layer.idle


async def test_nobody_waits_for_an_endpoint_that_is_left_alone_for_longer(layer, said, clock) -> None:
    layer.offer(Model(id="m", targets=(Target(id="a", url="https://a.example/v1"),)))
    layer.open(layer.endpoints[0].instance)
    clock.advance(5.0)
    layer.client.answer = said.refusal(503, retry_after=1)
    ctx = layer.model_ctx(deadline=Deadline.after(clock.monotonic(), 60.0))
    assert (await layer.model(ctx)).status == 503
    assert layer.waits == []
    assert ("retry", "no use") in [entry[:2] for entry in ctx.trace()]


async def test_a_spent_budget_is_told_to_the_sdks_too(case, layer) -> None:
    asked = case("read", "other")
    layer.spend_budget()
    layer.client.answer = ConnectionReset("x")
    response = await asked.ask()
    assert asked.asked == 1
    assert response.header(b"x-should-retry") == b"false"
    assert asked.ctx.flags.count(Flag.BUDGET_DENIED) == 1
    assert ("retry", "denied") in [entry[:2] for entry in asked.ctx.trace()]
    assert layer.idle


@pytest.mark.parametrize("kind", ["read", "model"])
async def test_a_spent_budget_is_told_with_an_endpoint_s_own_words(case, layer, said, kind: str) -> None:
    asked = case(kind, "other")
    layer.spend_budget()
    layer.client.answer = said.refusal(503)
    response = await asked.ask()
    assert (asked.asked, response.status) == (1, 503)
    assert response.header(b"x-should-retry") == b"false"
    assert b"no: 503" in response.body


async def test_what_is_not_tried_again_costs_no_budget(case, layer) -> None:
    asked = case("write", "other")
    before = layer.budget.available(layer.clock.monotonic())
    layer.client.answer = ConnectionReset("x")
    await asked.ask()
    assert layer.budget.available(layer.clock.monotonic()) >= before


async def test_the_words_of_an_endpoint_say_more_than_that_its_breaker_opened(case, layer, said) -> None:
    asked = case("model", "alone")
    layer.client.answer = said.refusal(500, code="out_of_memory")
    for _ in range(4):
        permit = layer.breakers.of(layer.endpoints[0]).permit(layer.clock.monotonic())
        permit.failed(layer.clock.monotonic(), "reset")
    response = await asked.ask()
    assert asked.asked == 1
    assert response.status == 500
    assert b"out_of_memory" in response.body


@pytest.mark.parametrize("begun", ["nothing", "comments", "role", "both"])
@pytest.mark.parametrize(
    "broken",
    [ConnectionReset("x"), StreamTruncated("x"), StreamStalled("x"), None],
    ids=lambda e: type(e).__name__,
)
async def test_a_stream_that_breaks_before_its_content_is_had_from_another(
    case, layer, said, sink, begun: str, broken
) -> None:
    asked = case("model", "other")
    pieces = {
        "nothing": [],
        "comments": [said.COMMENT, said.COMMENT],
        "role": [said.ROLE],
        "both": [said.COMMENT, said.ROLE],
    }[begun]
    layer.client.first = [said.streaming(*pieces, fails=broken, ends=broken is None)]
    layer.client.answer = said.streaming(said.ROLE, said.TEXT, said.DONE, ends=True)
    response = await layer.model(asked.ctx, stream=True)
    assert len(set(layer.client.asked_of)) == 2
    response.body.connect(sink)
    assert sink.data == said.ROLE + said.TEXT + said.DONE  # and nothing of the first one
    assert sink.ended == "close"
    assert layer.idle


@pytest.mark.parametrize("place", ["alone", "other"])
async def test_a_stream_that_breaks_after_content_is_not_tried_again(
    case, layer, said, sink, place: str
) -> None:
    """It may only be continued, by somebody who is told what the client has."""
    asked = case("model", place)
    error = ConnectionReset("x")
    layer.client.answer = said.streaming(said.ROLE, said.TEXT, fails=error)
    response = await layer.model(asked.ctx, stream=True)
    assert asked.asked == 1
    response.body.connect(sink)
    async with asyncio.timeout(1):
        while sink.ended is None:
            await asyncio.sleep(0)
    assert layer.waits == []
    assert layer.client.asked_of.count(layer.client.asked_of[0]) == 1
    assert all(b"x-moonpool-continue" in request.headers for _, request, _ in layer.client.sent[1:])
    assert sink.data.startswith(said.ROLE + said.TEXT)
    assert sink.data.count(said.TEXT) == 1
    assert sink.ended is error
    assert layer.idle


async def test_a_whole_answer_that_breaks_off_is_had_from_another(case, layer, said) -> None:
    asked = case("model", "other")
    body = Stream()
    body.feed(b'{"choices"')
    body.fail(StreamTruncated("x"))
    layer.client.first = [Response(200, [(b"content-type", b"application/json")], body)]
    assert (await asked.ask()).body == said.answer().body
    assert asked.asked == 2
    assert layer.idle


@pytest.mark.parametrize("place", ["first", "second", "pause"])
async def test_a_client_that_leaves_leaks_nothing(case, layer, monkeypatch, place: str) -> None:
    asked = case("read", "alone" if place == "pause" else "other")
    layer.client.first = [] if place == "first" else [ConnectionReset("x")]
    layer.client.answer = None  # hangs
    waiting = asyncio.Event()
    if place == "pause":

        async def sleep(seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        monkeypatch.setattr("moonpool.middleware.retry.asyncio.sleep", sleep)
    task = asyncio.create_task(asked.ask())
    if place == "pause":
        await waiting.wait()
    else:
        while asked.asked < (1 if place == "first" else 2):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert layer.idle
    assert asked.asked == (2 if place == "second" else 1)


async def test_no_attempt_begins_after_the_deadline(case, layer, clock) -> None:
    asked = case("read", "other")
    asked.ctx.deadline = Deadline(clock.monotonic() + 1.0)
    send = layer.client.send

    async def slow(*arguments, **timeouts) -> Response:
        clock.advance(1.0)
        return await send(*arguments, **timeouts)

    layer.client.send = slow
    layer.client.answer = FirstByteTimeout("x")
    with pytest.raises((DeadlineExceeded, UpstreamError)):
        await layer.service(asked.ctx)
    assert asked.asked == 1
    assert layer.idle


@pytest.mark.parametrize("kind", BalancerKind)
def test_where_it_applies(layer, kind) -> None:
    route = Route(method="GET", path="/", balancer=kind)
    assert all(layer_.applies(route) == (kind is not BalancerKind.NONE) for layer_ in layer.filters)
