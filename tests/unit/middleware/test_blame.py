"""Who is named for a refusal, in chains of the real filters."""

import pytest

from moonpool.contracts.manifest import Access, BodyKind, Route
from moonpool.core.errors import BadRequest, CircuitOpen, MoonpoolError, NotFound, Unavailable
from moonpool.core.handler import chain
from moonpool.core.message import Request, Response
from moonpool.gateway.app import _refuse
from moonpool.middleware.blame import raised_by, tell
from moonpool.middleware.health import HealthGate
from moonpool.middleware.idempotency import Idempotency
from moonpool.middleware.switched_off import SwitchedOff
from moonpool.middleware.validation import Validation

ROUTE = Route(method="POST", path="/v1/x", access=Access.KEY, body=BodyKind.BUFFERED, repeatable=True)


@pytest.fixture
def refusal(make_ctx, clock, log):
    """Send a request through these filters to an end; who is told of its refusal, and how."""

    async def run(filters, end=_refuse, *, body=b"{}", **headers):
        ctx = make_ctx(route=ROUTE, service="chat")
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        request = Request("POST", "/v1/x", "", named, body)
        with pytest.raises(MoonpoolError) as caught:
            await chain(filters, end)(ctx, request)
        tell(ctx, caught.value)
        return [entry[:3] for entry in ctx.trace()]

    return run


async def passes(ctx, request, next):
    """A filter of no module of ours."""
    return await next(ctx, request)


@pytest.fixture
def once(clock, log):
    return Idempotency(object(), clock, log)


async def test_the_filter_that_refused_is_named(refusal, once) -> None:
    (told,) = await refusal([passes, Validation({}), once], body=b"{")
    assert told[:2] == ("validation", "refuse")
    assert "JSON" in told[2]
    (told,) = await refusal([passes, Validation({}), once], idempotency_key=b"a b")
    assert told[:2] == ("idempotency", "refuse")


async def test_a_path_that_nobody_has_is_refused_by_the_gateway(refusal, once) -> None:
    (told,) = await refusal([once, Validation({})])
    assert told == ("gateway", "refuse", "Unknown request URL: POST /v1/x")


async def test_who_has_said_so_is_not_told_again(refusal) -> None:
    gate = HealthGate(lambda: 0, 10)
    gate.draining = True
    assert await refusal([gate]) == [("health", "refuse", "draining")]
    assert [told[:2] for told in await refusal([SwitchedOff()])] == [("switched off", "refuse")]


async def test_what_an_earlier_one_has_said_hides_nobody(refusal, make_ctx) -> None:
    ctx = make_ctx()
    ctx.decide("validation", "refuse", "something else")
    tell(ctx, NotFound("gone"))
    assert ctx.trace()[-1][:3] == ("tracing", "error", "gone")


def test_failures_are_no_refusals_and_are_told_in_full(make_ctx) -> None:
    ctx = make_ctx()
    tell(ctx, CircuitOpen("all failed", detail="every instance of m/0 failed"))
    assert ctx.trace()[-1][:3] == ("tracing", "error", "every instance of m/0 failed")
    for error in (BadRequest("x"), Unavailable("x")):
        assert raised_by(error) == "tracing"


async def test_an_answer_is_nobody_s_refusal(make_ctx) -> None:
    async def end(ctx, request):
        return Response(400)

    response = await chain([Validation({})], end)(make_ctx(route=ROUTE), Request("POST", "/"))
    assert response.status == 400
