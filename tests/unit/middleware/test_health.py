import pytest

from moonpool.contracts.manifest import Route
from moonpool.core.decisions import Flag
from moonpool.core.errors import Overloaded, Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.health import HealthGate

REQUEST = Request("GET", "/")


async def answer(ctx, request) -> Response:
    return Response(200)


@pytest.mark.parametrize(
    ("priority", "active", "passes"),
    [
        (0, 100, True),
        (0, 101, False),
        (1, 95, True),
        (1, 96, False),
        (2, 80, True),
        (2, 81, False),
        (9, 80, True),
        (9, 81, False),
    ],
)
async def test_the_less_important_is_shed_first(make_ctx, priority: int, active: int, passes: bool) -> None:
    gate = HealthGate(lambda: active, 100)
    ctx = make_ctx(route=Route(method="GET", path="/", priority=priority))
    if passes:
        assert (await gate(ctx, REQUEST, answer)).status == 200
        assert ctx.flags == []
    else:
        with pytest.raises(Overloaded) as raised:
            await gate(ctx, REQUEST, answer)
        assert raised.value.retry_after is not None
        assert ctx.flags == [Flag.OVERFLOW]
        assert ctx.trace()[0].verdict == "shed"


@pytest.mark.parametrize("priority", [0, 1, 2])
async def test_the_smallest_bound_still_serves_one(make_ctx, priority: int) -> None:
    gate = HealthGate(lambda: 1, 1)
    assert (
        await gate(make_ctx(route=Route(method="GET", path="/", priority=priority)), REQUEST, answer)
    ).status


async def test_draining_refuses_everything(make_ctx) -> None:
    gate = HealthGate(lambda: 0, 100)
    gate.draining = True
    with pytest.raises(Unavailable) as raised:
        await gate(make_ctx(route=Route(method="GET", path="/", priority=0)), REQUEST, answer)
    assert (raised.value.code, raised.value.retry_after) == ("draining", 1.0)


def test_probes_are_not_shed() -> None:
    gate = HealthGate(lambda: 0, 100)
    assert not gate.applies(Route(method="GET", path="/livez", quiet=True))
    assert gate.applies(Route(method="GET", path="/"))


async def test_another_bound_holds_from_then_on(make_ctx) -> None:
    gate = HealthGate(lambda: 50, 100)
    route = Route(method="GET", path="/")
    await gate(make_ctx(route=route), REQUEST, answer)
    gate.update(10)
    with pytest.raises(Overloaded):
        await gate(make_ctx(route=route), REQUEST, answer)
    gate.update(1000)
    await gate(make_ctx(route=route), REQUEST, answer)
