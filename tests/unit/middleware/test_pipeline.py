from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.pipeline import build, ordered


class Layer:
    def __init__(self, name: str, methods: tuple[str, ...] = ("GET", "POST")) -> None:
        self.name, self.methods = name, methods

    def applies(self, route: Route) -> bool:
        return route.method in self.methods

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        ctx.decide(self.name, "in")
        return await next(ctx, request)


async def answer(ctx: Context, request: Request) -> Response:
    return Response(200)


async def order(method: str) -> list[str]:
    filters = ordered(
        metering=Layer("metering", ("POST",)),
        tokens=Layer("tokens", ("POST",)),
        idempotency=Layer("idempotency", ("POST",)),
        validation=Layer("validation", ("POST",)),
        requests=Layer("requests"),
        authentication=Layer("authentication"),
        health=Layer("health"),
        tracing=Layer("tracing"),
    )
    ctx = Context()
    await build(filters, Route(method=method, path="/"), answer)(ctx, Request(method, "/"))
    return [decision.filter for decision in ctx.trace()]


async def test_the_order_is_the_list_s_not_the_caller_s() -> None:
    assert await order("POST") == [
        "tracing",
        "health",
        "authentication",
        "requests",
        "validation",
        "idempotency",
        "tokens",
        "metering",
    ]


async def test_what_does_not_apply_is_not_there() -> None:
    assert await order("GET") == ["tracing", "health", "authentication", "requests"]


def test_a_route_without_filters_is_its_handler() -> None:
    assert build([Layer("x", ())], Route(method="GET", path="/"), answer) is answer
