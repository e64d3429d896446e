import pytest

from moonpool.core.context import Context
from moonpool.core.errors import BadRequest
from moonpool.core.handler import Handler, chain
from moonpool.core.message import Request, Response

REQUEST = Request("GET", "/")


async def answer(ctx: Context, request: Request) -> Response:
    ctx.decide("handler", "answered")
    return Response(200)


def named(name: str):
    async def layer(ctx: Context, request: Request, next: Handler) -> Response:
        ctx.decide(name, "in")
        response = await next(ctx, request)
        ctx.decide(name, "out")
        return response

    return layer


async def test_the_first_filter_is_the_outermost() -> None:
    ctx = Context()
    await chain([named("a"), named("b")], answer)(ctx, REQUEST)
    told = [(decision.filter, decision.verdict) for decision in ctx.trace()]
    assert told == [("a", "in"), ("b", "in"), ("handler", "answered"), ("b", "out"), ("a", "out")]


async def test_no_filters_is_the_handler_itself() -> None:
    assert chain([], answer) is answer


async def test_a_filter_may_refuse_without_asking_further() -> None:
    async def refuse(ctx: Context, request: Request, next: Handler) -> Response:
        raise BadRequest("no")

    ctx = Context()
    with pytest.raises(BadRequest):
        await chain([named("a"), refuse, named("b")], answer)(ctx, REQUEST)
    assert [decision.filter for decision in ctx.trace()] == ["a"]


async def test_a_chain_serves_many_requests() -> None:
    handler = chain([named("a")], answer)
    assert [(await handler(Context(), REQUEST)).status for _ in range(3)] == [200, 200, 200]
