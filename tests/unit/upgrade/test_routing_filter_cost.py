"""What the version router costs a request in the chain: the fastest of many rounds, less what is below it."""

from random import Random
from timeit import repeat

import pytest

from moonpool.contracts.manifest import Route
from moonpool.contracts.routing import Cohort, Pins, Routing, Share, Unit, everything_to
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.message import Request
from moonpool.core.principal import Principal, Role
from moonpool.upgrade.routing_filter import ReleaseRoutes, VersionRouter

BOUND = 2e-6
"""Seconds, on a machine that takes REFERENCE for what `reference` does; in proportion on a slower one."""
REFERENCE = 0.9e-6
CALLS, ROUNDS = 1000, 100
SHARES = (Share(release="v1"), Share(release="v2", weight=2_500))
ROUTINGS = {
    "nothing is routed": None,
    "one release": everything_to("chat", "v1"),
    "a split of requests": Routing(service="chat", default="v1", shares=SHARES, salt="s", unit=Unit.REQUEST),
    "a split of users": Routing(service="chat", default="v1", shares=SHARES, salt="s"),
    "every rule": Routing(
        service="chat",
        default="v1",
        shares=SHARES,
        salt="s",
        cohorts=(Cohort(name="c", release="v2", users=("bob",)),),
        pins=Pins(conversations={"conv_1": "v2"}),
    ),
}


class Below:
    """What is awaited in the real chain: nothing is, here, since the filter does not."""

    def __await__(self) -> None:
        raise AssertionError


def reference() -> int:
    """Of the same kind: calls, look-ups, arithmetic."""
    found = {"a": 1, "b": 2}
    return sum(found.get(key, number) for number, key in enumerate("abcabcabcabc"))


@pytest.mark.parametrize("routing", ROUTINGS.values(), ids=ROUTINGS.keys())
def test_a_request_is_routed_in_two_microseconds(routing: Routing | None) -> None:
    router = VersionRouter(Random(1).random, ReleaseRoutes(lambda service, route: pytest.fail("none")))
    router.see({"chat": {"v1": 1, "v2": 1}})
    router.follow({} if routing is None else {"chat": routing})
    ctx = Context(ManualClock())
    ctx.service, ctx.route = "chat", Route(method="GET", path="/api/conversations/{conversation_id}")
    ctx.principal = Principal(user="ann", tenant="org", role=Role.MEMBER)
    ctx.parameters = {"conversation_id": "conv_01jzzzzzzz0000000000000000"}
    request, answer = Request("GET", "/", headers={b"accept": b"*/*"}), Below()

    def next(ctx: Context, request: Request) -> Below:
        return answer

    def alone() -> None:
        next(ctx, request)
        ctx.decisions.clear()

    def routed() -> None:
        router(ctx, request, next)  # type: ignore[arg-type]
        ctx.decisions.clear()

    slower = max(1.0, min(repeat(reference, number=CALLS, repeat=ROUNDS)) / CALLS / REFERENCE)
    below = min(repeat(alone, number=CALLS, repeat=ROUNDS)) / CALLS
    cost = min(repeat(routed, number=CALLS, repeat=ROUNDS)) / CALLS - below
    print(f"{cost * 1e6:.2f} µs")
    assert cost < BOUND * slower
