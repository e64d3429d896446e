import pytest
from msgspec import structs

from harness.letters import OWNER, make_letter
from moonpool.contracts.manifest import Manifest, Route, Timeouts
from moonpool.core.clock import ManualClock
from moonpool.core.errors import NotFound, Unavailable
from moonpool.core.message import Response
from moonpool.gateway.replaying import Replayer
from moonpool.middleware.switched_off import CODE, SwitchedOff

MANIFEST = Manifest(
    service="chat",
    summary="x",
    routes=(Route(method="POST", path="/api/conversations/{conversation_id}/exchanges"),),
)


class Layer:
    def applies(self, route: Route) -> bool:
        return True

    async def __call__(self, ctx, request, next):
        ctx.decide("layer", "seen")
        return await next(ctx, request)


async def test_the_request_goes_out_as_it_came_in_the_name_of_who_sent_it() -> None:
    seen = []

    def upstream(service, route):
        async def handler(ctx, request):
            seen.append((ctx, request))
            return Response(200, [], b"ok")

        return handler

    replay = Replayer(manifests=[MANIFEST], filters=[Layer()], upstream=upstream, clock=ManualClock())
    letter = make_letter(route="/api/conversations/c1/exchanges", body=b"body")
    assert (await replay(letter)).body == b"ok"
    ctx, request = seen[0]
    assert (ctx.principal, ctx.service, ctx.request_id) == (OWNER, "chat", "req_dl_1")
    assert ctx.parameters == {"conversation_id": "c1"}
    assert ctx.deadline.remaining(ctx.clock.monotonic()) == 60.0
    assert [(d.filter, d.verdict) for d in ctx.trace()] == [("dead letter", "replay"), ("layer", "seen")]
    assert (request.method, request.body) == ("POST", b"body")
    assert request.headers[b"idempotency-key"] == b"req_dl_1"


async def test_a_letter_is_sent_by_the_rules_of_the_day() -> None:
    async def answer(ctx, request):
        return Response(200, [], str(ctx.route.timeouts.total).encode())

    replay = Replayer(
        manifests=[MANIFEST], filters=[], upstream=lambda service, route: answer, clock=ManualClock()
    )
    letter = make_letter(route="/api/conversations/c1/exchanges")
    assert (await replay(letter)).body == b"60.0"
    (route,) = MANIFEST.routes
    changed = structs.replace(route, timeouts=Timeouts(total=5.0))
    replay.update([structs.replace(MANIFEST, routes=(changed,))])
    assert (await replay(letter)).body == b"5.0"


async def test_a_route_that_is_gone() -> None:
    replay = Replayer(manifests=[MANIFEST], filters=[], upstream=lambda s, r: None, clock=ManualClock())
    with pytest.raises(NotFound):
        await replay(make_letter())


async def test_a_route_that_is_switched_off_says_so_and_is_known_beforehand() -> None:
    replay = Replayer(
        manifests=[MANIFEST], filters=[SwitchedOff()], upstream=lambda s, r: None, clock=ManualClock()
    )
    assert replay.off() == set()
    (route,) = MANIFEST.routes
    changed = structs.replace(route, enabled=False)
    replay.update([structs.replace(MANIFEST, routes=(changed,))])
    assert replay.off() == {("POST", "/api/conversations/{conversation_id}/exchanges")}
    with pytest.raises(Unavailable) as caught:
        await replay(make_letter(route="/api/conversations/c1/exchanges"))
    assert caught.value.code == CODE
