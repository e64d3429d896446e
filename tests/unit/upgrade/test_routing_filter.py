"""The version router on the way of a request: context, decisions, the release's own chain."""

from random import Random

import pytest

from moonpool.balancing.endpoint import Endpoint
from moonpool.contracts.manifest import Manifest, Route, Timeouts
from moonpool.contracts.routing import REQUEST_HEADER, Cohort, Mirror, Pins, Routing, Share, everything_to
from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.errors import NotFound
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal, Role
from moonpool.http.address import Address
from moonpool.upgrade.routing_filter import ReleaseRoutes, VersionRouter, count_ready

ROUTE = Route(method="GET", path="/api/conversations/{id}")
SPLIT = Routing(
    service="chat", default="v1", shares=(Share(release="v1"), Share(release="v2", weight=5_000)), salt="s"
)
BOTH = {"chat": {"v1": 1, "v2": 1}}


async def base(ctx: Context, request: Request) -> Response:
    return Response(200, [], b"base")


def answering(service: str, route: Route) -> Handler:
    async def handler(ctx: Context, request: Request) -> Response:
        return Response(200, [], f"{service} {route.path} {route.timeouts.total:g}".encode())

    return handler


def context(user: str = "ann", service: str = "chat") -> Context:
    ctx = Context(ManualClock())
    ctx.service = service
    ctx.route = ROUTE
    ctx.principal = Principal(user=user, tenant="org", role=Role.MEMBER)
    return ctx


def make(routing: Routing | None = SPLIT, routes: ReleaseRoutes | None = None) -> VersionRouter:
    made = VersionRouter(Random(1).random, routes or ReleaseRoutes(answering))
    made.see(BOTH)
    if routing is not None:
        made.follow({routing.service: routing})
    return made


async def ask(router: VersionRouter, ctx: Context, headers: dict[bytes, bytes] | None = None) -> bytes:
    response = await router(ctx, Request("GET", "/", headers=headers or {}), base)
    assert isinstance(response.body, bytes)
    return response.body


async def test_a_service_without_a_document_is_not_routed() -> None:
    ctx = context()

    assert await ask(make(None), ctx) == b"base"
    assert (ctx.release_wanted, ctx.decisions) == ("", [])


async def test_one_release_is_chosen_without_a_word() -> None:
    ctx = context()
    await ask(make(everything_to("chat", "v1")), ctx)

    assert (ctx.release_wanted, ctx.decisions) == ("v1", [])


async def test_a_choice_is_in_the_context_and_the_decisions() -> None:
    router = make()
    seen = set()
    for number in range(20):
        ctx = context(f"user_{number}")
        await ask(router, ctx)
        seen.add(ctx.release_wanted)
        assert ctx.decisions[0][:3] == ("router", ctx.release_wanted, "bucket, 50 %")
    assert seen == {"v1", "v2"}


async def test_the_header_and_the_conversation_reach_the_rules() -> None:
    pinned = Routing(
        service="chat",
        default="v1",
        shares=(*SPLIT.shares[:1], Share(release="v2")),
        pins=Pins(conversations={"conv_1": "v2"}),
        cohorts=(Cohort(name="c", release="v1", users=("ann",), header=True),),
    )
    router, ctx = make(pinned), context()
    ctx.parameters = {"conversation_id": "conv_1"}
    await ask(router, ctx)
    assert ctx.decisions[0][:3] == ("router", "v2", "pin, by hand")

    ctx.decisions.clear()
    await ask(router, ctx, {REQUEST_HEADER: b"chat@v1"})
    assert ctx.decisions[0][:3] == ("router", "v1", "header")


async def test_the_evidence_is_told_where_a_request_goes() -> None:
    told: list[tuple[str, str]] = []
    router = VersionRouter(
        Random(1).random, ReleaseRoutes(answering), lambda service, label: told.append((service, label))
    )
    router.follow({"chat": everything_to("chat", "v1")})
    await ask(router, context())
    await ask(router, context(service="user"))

    assert told == [("chat", "v1")]


async def test_what_becomes_ready_and_what_goes_is_followed_at_once() -> None:
    router, ctx = make(), context()
    router.see({"chat": {"v2": 1}})
    await ask(router, ctx)
    assert ctx.release_wanted == "v2"
    assert "v1 has no ready instance" in ctx.decisions[0][2]
    assert router.take_capped() == {"chat"}

    router.see(BOTH)
    assert router.take_capped() == {"chat"}  # it was, since the last look
    assert router.take_capped() == frozenset()


async def test_a_document_that_goes_routes_nothing_any_more() -> None:
    router, ctx = make(), context()
    router.follow({})
    await ask(router, ctx)

    assert ctx.release_wanted == ""


async def test_buckets_are_kept_as_long_as_the_salt_is() -> None:
    router = make()
    await ask(router, context())
    first = router.router("chat")
    router.see({"chat": {"v1": 2, "v2": 1}})
    second = router.router("chat")
    router.follow({"chat": everything_to("chat", "v1")})
    third = router.router("chat")

    assert first is not None
    assert second is not None
    assert third is not None
    assert second is not first
    assert second.buckets is first.buckets
    assert third.buckets is not first.buckets


# ── releases with their own manifest ─────────────────────────────────────────────────────────────────


def manifest(*routes: Route) -> Manifest:
    return Manifest(service="chat", summary="", routes=routes)


async def test_the_rules_of_the_assigned_release_apply() -> None:
    slower = Route(method="GET", path="/api/conversations/{conversation_id}", timeouts=Timeouts(total=7.0))
    routes = ReleaseRoutes(answering)
    routes.update({("chat", "v2"): manifest(slower)})
    router = make(everything_to("chat", "v2"), routes)
    ctx = context()

    assert await ask(router, ctx) == b"chat /api/conversations/{conversation_id} 7"
    assert ctx.route is slower
    assert ctx.deadline is not None
    assert ctx.deadline.at == ctx.started + 7.0


async def test_a_release_without_its_own_manifest_has_the_gateways() -> None:
    routes = ReleaseRoutes(answering)
    routes.update({("chat", "v2"): manifest(ROUTE)})

    assert await ask(make(everything_to("chat", "v1"), routes), context()) == b"base"


async def test_what_a_release_does_not_have_is_not_found() -> None:
    routes = ReleaseRoutes(answering)
    routes.update({("chat", "v2"): manifest()})

    with pytest.raises(NotFound, match="chat@v2 has no GET"):
        await ask(make(everything_to("chat", "v2"), routes), context())


def test_chains_of_releases_that_stay_are_kept() -> None:
    built: list[str] = []

    def build(service: str, route: Route) -> Handler:
        built.append(route.path)
        return base

    routes = ReleaseRoutes(build)
    routes.update({("chat", "v2"): manifest(ROUTE)})
    routes.update({("chat", "v2"): manifest(ROUTE), ("chat", "v3"): manifest(ROUTE)})
    routes.update({("chat", "v3"): manifest(ROUTE)})
    assert len(built) == 2
    assert routes

    routes.update({})
    assert not routes


def test_probes_are_not_routed() -> None:
    assert make().applies(ROUTE)
    assert not make().applies(Route(method="GET", path="/livez", quiet=True))


def test_the_shadow_of_a_service() -> None:
    router = make(everything_to("chat", "v1"))
    assert router.shadow_of("chat", "v1") is None
    assert router.shadow_of("user", "v1") is None

    router.follow(
        {"chat": Routing(service="chat", default="v1", shares=SPLIT.shares, mirror=Mirror(release="v2"))}
    )
    assert router.shadow_of("chat", "v1") == Mirror(release="v2")


def test_ready_instances_are_counted_by_release() -> None:
    endpoints = [
        Endpoint(Address.parse("unix:/tmp/x"), instance=str(n), release="v1" if n < 3 else "v2")
        for n in range(5)
    ]
    endpoints[0].ready = False

    assert count_ready(endpoints) == {"v1": 2, "v2": 2}
