from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.pipeline import REPLAYED, build, ordered


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


EVERYTHING = [
    "tracing",
    "health",
    "authentication",
    "switched_off",
    "router",
    "requests",
    "validation",
    "resolution",
    "idempotency",
    "cache",
    "tokens",
    "money",
    "dead_letter",
    "fallback",
    "metering",
    "mirror",
    "failover",
    "hedge",
    "retry",
]
ON_ALL = {"tracing", "health", "authentication", "router", "requests", "fallback", "failover", "retry"}


async def order(method: str) -> list[str]:
    layers = {
        name: Layer(name) if name in ON_ALL else Layer(name, ("POST",)) for name in reversed(EVERYTHING)
    }
    ctx = Context()
    await build(ordered(**layers), Route(method=method, path="/"), answer)(ctx, Request(method, "/"))
    return [decision.filter for decision in ctx.trace()]


async def test_the_order_is_the_list_s_not_the_caller_s() -> None:
    assert await order("POST") == EVERYTHING


async def test_what_does_not_apply_is_not_there() -> None:
    assert await order("GET") == [name for name in EVERYTHING if name in ON_ALL]


def test_what_a_dead_letter_passes_is_part_of_the_layer_in_its_order() -> None:
    assert list(REPLAYED) == [name for name in EVERYTHING if name in REPLAYED]


def test_a_route_without_filters_is_its_handler() -> None:
    assert build([Layer("x", ())], Route(method="GET", path="/"), answer) is answer
