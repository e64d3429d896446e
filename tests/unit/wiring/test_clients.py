"""The clients by which modules call each other: what they send, and what becomes of every answer."""

from random import Random

import msgspec
import pytest
import structlog

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.pools import Pools
from moonpool.contracts.auth import Verdict
from moonpool.contracts.catalogue import Catalogue
from moonpool.contracts.context import HEADER, verify
from moonpool.contracts.resilience import ModelTimeouts, ResilienceConfig, RetryPolicy
from moonpool.core.clock import ManualClock
from moonpool.core.errors import ConnectFailed, Unavailable, UpstreamMalformed
from moonpool.core.message import Response
from moonpool.core.principal import Principal
from moonpool.middleware.signing import ContextSigner
from moonpool.ports.discovery import Instance, Topology
from moonpool.services.inference.manifest import MANIFEST as INFERENCE
from moonpool.upgrade.routing_filter import ReleaseRoutes, VersionRouter
from moonpool.wiring.clients import (
    ChainedInferenceClient,
    HttpAuthClient,
    HttpCatalogueClient,
    HttpProbeClient,
    ServiceCaller,
)
from moonpool.wiring.inference import patient
from moonpool.wiring.resilience import Resilience

KEY = b"k" * 32


class Wire:
    def __init__(self) -> None:
        self.answer: Response | Exception = Response(200, [], b"{}")
        self.by_address: dict[str, Response | Exception] = {}
        self.sent: list = []

    async def send(self, address, request, **timeouts) -> Response:
        self.sent.append((str(address), request, timeouts))
        answer = self.by_address.get(str(address), self.answer)
        if isinstance(answer, Exception):
            raise answer
        return answer


def instance(name: str, number: int = 0, state: str = "ready", endpoint: str | None = None) -> Instance:
    return Instance(
        name=name,
        release="v1",
        instance=f"{name}-{number}",
        pid=7,
        state=state,
        endpoint=f"unix:/run/{name}-{number}" if endpoint is None else endpoint,
        restarts=2,
    )


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def pools() -> Pools:
    pools = Pools()
    pools.update(Topology(1, (instance("auth"), instance("model"))))
    return pools


@pytest.fixture
def caller(wire, pools) -> ServiceCaller:
    clock = ManualClock()
    config = ResilienceConfig(retry=RetryPolicy(backoff_base=1e-6, backoff_longest=1e-6))
    resilience = Resilience(
        config, pools=pools, client=wire, clock=clock, chance=Random(1), log=structlog.get_logger()
    )
    return ServiceCaller(
        "gateway",
        router=VersionRouter(Random(1).random, ReleaseRoutes(lambda service, route: pytest.fail("none"))),
        filters=[resilience.failover, resilience.retry],
        attempts=resilience.attempts,
        signer=ContextSigner("gateway", {"auth": KEY, "model": KEY}, clock),
        balancer=ApiBalancer(clock, Random(1)),
        clock=clock,
    )


async def test_a_key_s_verdict(caller, wire) -> None:
    verdict = Verdict(principal=Principal(user="u", key="key_1"))
    wire.answer = Response(200, [], msgspec.json.encode(verdict))
    assert await HttpAuthClient(caller).verify("sk-x") == verdict
    ((address, request, _),) = wire.sent
    assert (address, request.method, request.path) == ("unix:/run/auth-0", "POST", "/internal/verify")
    assert request.body == b'{"key":"sk-x"}'
    context = verify(KEY, request.headers[HEADER], audience="auth", now=ManualClock().time())
    assert (context.issuer, context.principal) == ("gateway", Principal(service="gateway"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(503, [], b"{}"), Unavailable),
        (Response(401, [], b"{}"), Unavailable),
        (Response(200, [], b"no json"), UpstreamMalformed),
        (Response(200, [], b'{"version": "x"}'), UpstreamMalformed),
        (Response(429, [], b"{}"), Unavailable),
        (ConnectFailed("x"), ConnectFailed),
    ],
)
async def test_what_is_no_answer(caller, wire, pools, answer, error) -> None:
    wire.answer = answer
    with pytest.raises(error):
        await HttpCatalogueClient(caller).catalogue()
    assert pools.endpoints("model")[0].active == 0


async def test_the_catalogue(caller, wire) -> None:
    wire.answer = Response(200, [], b'{"version": 3, "models": []}')
    assert await HttpCatalogueClient(caller).catalogue() == Catalogue(3, ())


async def test_a_call_from_service_to_service_is_tried_again_too(caller, wire, pools) -> None:
    pools.update(Topology(2, (instance("model"), instance("model", 1))))
    wire.answer = Response(200, [], b'{"version": 3, "models": []}')
    wire.by_address = {"unix:/run/model-0": ConnectFailed("x")}
    for _ in range(10):
        assert (await HttpCatalogueClient(caller).catalogue()).version == 3
    assert len(wire.sent) > 10
    assert all(endpoint.active == 0 for endpoint in pools.endpoints("model"))


async def test_no_instance(caller, pools) -> None:
    pools.update(Topology(2, ()))
    with pytest.raises(Unavailable):
        await HttpAuthClient(caller).verify("sk-x")


class Found:
    def __init__(self, *instances: Instance) -> None:
        self.current = Topology(1, instances)


async def test_everything_is_probed_and_nothing_raises(wire) -> None:
    wire.by_address = {
        "unix:/run/chat-0": Response(200, [], b'{"status": "ready", "checks": {"database": "ok"}}'),
        "unix:/run/chat-1": ConnectFailed("refused"),
        "unix:/run/auth-0": Response(503, [], b'{"status": "unready"}'),
        "unix:/run/user-0": Response(200, [], b"<html>"),
    }
    probe = HttpProbeClient(
        Found(  # type: ignore[arg-type]
            instance("chat"),
            instance("chat", 1, "crashed"),
            instance("auth"),
            instance("user"),
            instance("billing", endpoint=""),
            instance("gone", state="stopped"),
        ),
        wire,
    )
    found = {health.instance: health for health in await probe.probe()}
    assert {name: health.status for name, health in found.items()} == {
        "chat-0": "ready",
        "chat-1": "unreachable",
        "auth-0": "unready",
        "user-0": "unreachable",
        "billing-0": "unreachable",
    }
    assert found["chat-0"].checks == {"database": "ok"}
    assert found["chat-0"].latency_ms is not None
    assert found["chat-1"].checks == {"probe": "refused"}
    assert (found["chat-1"].latency_ms, found["chat-1"].state, found["chat-1"].restarts) == (
        None,
        "crashed",
        2,
    )


async def test_metrics_of_those_that_answer(wire) -> None:
    wire.by_address = {
        "unix:/run/gateway-0": Response(200, [], b"g"),
        "unix:/run/chat-0": Response(200, [], b"c"),
        "unix:/run/auth-0": Response(500, [], b"x"),
        "unix:/run/user-0": ConnectFailed("x"),
    }
    names = ("gateway", "chat", "auth", "user")
    probe = HttpProbeClient(Found(*map(instance, names), instance("billing", endpoint="")), wire)  # type: ignore[arg-type]
    assert await probe.metrics() == {"gateway-0": b"g", "chat-0": b"c"}
    assert {address: request.path for address, request, _ in wire.sent} == {
        "unix:/run/gateway-0": "/internal/metrics",
        "unix:/run/chat-0": "/metrics",
        "unix:/run/auth-0": "/metrics",
        "unix:/run/user-0": "/metrics",
    }


async def test_questions_to_models_have_the_times_of_the_day() -> None:
    asked, clock = [], ManualClock()

    async def upstream(ctx, request) -> Response:
        asked.append((ctx.deadline.remaining(clock.monotonic()), ctx.route.timeouts.between_bytes))
        client.update(INFERENCE)
        assert ctx.route.timeouts.between_bytes == asked[-1][1], "what is under way keeps its times"
        return Response(200, [], b"{}")

    client = ChainedInferenceClient(INFERENCE, [], upstream, clock)
    body = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}'
    for timeouts in (ModelTimeouts(), ModelTimeouts(total=7.0, between_tokens=3.0)):
        client.update(patient(INFERENCE, timeouts))
        await client.chat(Principal(user="ann", tenant="org"), body, request_id="req_1")
    assert asked == [(900.0, 60.0), (7.0, 3.0)]
