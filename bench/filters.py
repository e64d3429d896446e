"""python -m bench.filters: what each filter of the layer costs a request, in one process without sockets.

The whole path runs (edge, filters, balancer, client) between two transports that answer at once; then again
with one filter left out, in turn, interleaved. The difference is that filter's price. Absolute figures are
those of a quiet processor with warm caches: only `make bench` tells what a request costs on a wire.
"""

import argparse
import asyncio
import gc
import logging
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from moonpool.adapters.cache.memory import MemoryCache
from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.balancing.inference import InferenceBalancer
from moonpool.balancing.models import Models
from moonpool.balancing.pools import Pools
from moonpool.balancing.services import Services
from moonpool.contracts.auth import Verdict
from moonpool.contracts.balances import Balance, Balances
from moonpool.contracts.catalogue import Catalogue, Model, Target
from moonpool.contracts.config import BillingConfig, LimitConfig
from moonpool.contracts.manifest import BalancerKind, Cached, Letters, Manifest, Route, Timeouts
from moonpool.contracts.resilience import ResilienceConfig
from moonpool.contracts.usage import TokenPrice
from moonpool.core.clock import SYSTEM_CLOCK as CLOCK
from moonpool.core.handler import Handler
from moonpool.core.principal import Principal
from moonpool.gateway.app import Gateway
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.connection import Connection
from moonpool.http.pool import Pool
from moonpool.http.server import Server
from moonpool.http.upstream import UpstreamConnection
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.attempts import FailedAttempts
from moonpool.middleware.authentication import Authentication, KeyCache
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.cache import AnswerCache
from moonpool.middleware.causes import Causes
from moonpool.middleware.circuit_breaker import first_token_budget
from moonpool.middleware.dead_letter import DeadLetter
from moonpool.middleware.failover import Failover, TierTable
from moonpool.middleware.fallback import FallbackFilter
from moonpool.middleware.health import HealthGate
from moonpool.middleware.hedge import Hedge
from moonpool.middleware.idempotency import Idempotency
from moonpool.middleware.inference import InferenceUpstream
from moonpool.middleware.last_known import LastKnownMemory
from moonpool.middleware.limit_rules import LimitRules
from moonpool.middleware.metering import Metering
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.migration import Migration
from moonpool.middleware.money import Money
from moonpool.middleware.pipeline import RouteFilter, ordered
from moonpool.middleware.purses import Purses
from moonpool.middleware.rate_limit import RequestLimit, TokenLimit
from moonpool.middleware.recorder import Recorder
from moonpool.middleware.resolution import Resolution
from moonpool.middleware.retry import Retry
from moonpool.middleware.retry_budget import RetryBudget
from moonpool.middleware.signing import ContextSigner
from moonpool.middleware.switched_off import SwitchedOff
from moonpool.middleware.tracing import Tracing
from moonpool.middleware.validation import Validation
from moonpool.openai.errors import render_error, render_stream_error
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest
from moonpool.ports.events import Event
from moonpool.upgrade.mirror import Mirroring
from moonpool.upgrade.routing_filter import ReleaseRoutes, VersionRouter

URL = "http://127.0.0.1:1/v1"
CONNECTIONS = 8
PRICED = "money, where models have prices"
NEEDED = frozenset({"tracing", "authentication", "validation", "resolution", "failover"})
"""Others rely on what these leave on the context: their price is measured by a run of their own."""
_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"x" * 700 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_ANSWER),
    _ANSWER,
)
_REQUEST = (
    b'{"model":"m","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"' + b"lorem ipsum " * 75 + b'"}],"temperature":0.7,"max_tokens":100}'
)
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer sk-mp-1234567890-abcdefghijklmnop\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_REQUEST), _REQUEST)


class _Auth:
    async def verify(self, key: str) -> Verdict:
        return Verdict(principal=Principal(user="user", tenant="org", key="key_1", role="member"))


class _Journal:
    """Costs nothing: what the real one writes is measured on the wire."""

    healthy = True

    def open(self, id: str, value: bytes) -> None: ...
    def progress(self, id: str, count: int) -> None: ...
    def close(self, id: str, value: bytes) -> None: ...


class _Events:
    async def append(self, topic: str, events: Sequence[Event]) -> None: ...


class _Deferring:
    async def capture(self, *_: object) -> None: ...


def _no_rules_of_its_own(service: str, route: Route) -> Handler:
    raise NotImplementedError


def _tell(*_: object, **__: object) -> None: ...


class _Wire(asyncio.Transport):
    """A transport that hands every write to `on_write`."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._on_write = on_write

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self._on_write(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class Path:
    """The whole path, for as long as its loop runs."""

    def __init__(self, without: str = "", price: TokenPrice | None = None) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._left = 0
        self._done: asyncio.Future[None] = loop.create_future()
        log = structlog.get_logger()
        chance = random.Random(1)
        metrics, pools = RequestMetrics(), Pools()
        self._recorder = Recorder(_Events(), CLOCK, log, access=lambda lines: None)  # type: ignore[arg-type]
        models = Models(pools)
        models.update(Catalogue(1, (Model(id="m", targets=(Target(id="t", url=URL),), price=price),)))
        client = Client(clock=CLOCK, max_idle=CONNECTIONS * 2)
        self._connect(client)
        config = ResilienceConfig()
        breakers, budget = Breakers(config.breaker, chance.random), RetryBudget(config.retry)
        attempts = Attempts(client, breakers)
        upstream = InferenceUpstream(
            balancer=InferenceBalancer(CLOCK, chance),
            attempts=attempts,
            signer=ContextSigner("gateway", {}, CLOCK),
            migration=Migration(models, attempts, breakers, budget),
            first_token=partial(first_token_budget, config.breaker),
        )
        rules = LimitRules(
            {"default": LimitConfig(requests_per_minute=10**9, tokens_per_minute=10**12, concurrent=10**6)}
        )
        limits, store = MemoryLimits(CLOCK), MemoryCache(clock=CLOCK)
        purses = Purses(BillingConfig(), CLOCK)
        purses.update(Balances(mark="1", balances=(Balance("org", 2**62),)))
        layer: dict[str, RouteFilter] = {
            "tracing": Tracing(self._recorder, metrics, log),
            "health": HealthGate(lambda: metrics.active, 4096),
            "authentication": Authentication(KeyCache(CLOCK), _Auth(), FailedAttempts(CLOCK), CLOCK, log),
            "switched_off": SwitchedOff(),
            "router": (router := VersionRouter(chance.random, ReleaseRoutes(_no_rules_of_its_own))),
            "requests": RequestLimit(rules, limits),
            "validation": Validation({"ChatCompletionRequest": partial(parse, ChatCompletionRequest)}),
            "resolution": Resolution(models),
            "idempotency": Idempotency(store, CLOCK, log),
            "cache": AnswerCache(store, lambda alias, path: models.get(alias, "chat"), CLOCK, log),
            "tokens": TokenLimit(rules, limits),
            "money": Money(models, purses, "bench"),
            "dead_letter": DeadLetter(_Deferring()),  # type: ignore[arg-type]
            "fallback": FallbackFilter({}, LastKnownMemory(CLOCK), Causes(CLOCK), log),
            "metering": Metering(_Journal()),
            "mirror": Mirroring(router, upstream, _tell, log),
            "failover": Failover(TierTable(Services(pools), models), breakers, budget, chance),
            "hedge": Hedge(config.hedge, budget),
            "retry": Retry(config.retry, budget, breakers, chance.random),
        }
        self.names = list(layer)
        filters = [layer[name] for name in layer if name != without]
        assert without or filters == ordered(**layer)
        route = Route(
            method="POST",
            path="/v1/chat/completions",
            schema="ChatCompletionRequest",
            metered=True,
            balancer=BalancerKind.INFERENCE,
            timeouts=Timeouts(total=600.0),
            repeatable=True,
            cached=Cached(),
            letters=Letters.FAILED,
        )
        manifest = Manifest(service="inference", summary="", routes=(route,))
        gateway = Gateway(
            manifests=[manifest],
            filters=filters,
            upstream=lambda service, route: upstream,
            own=[],
            clock=CLOCK,
        )
        server = Server(
            gateway.handle,
            render_error=render_error,
            render_stream_error=render_stream_error,
            body_policy=gateway.body_policy,
            clock=CLOCK,
        )
        self._clients = [self._client(server) for _ in range(CONNECTIONS)]

    def _connect(self, client: Client) -> None:
        """Fill the client's pool with connections that answer at once."""
        pool: Pool = client._new_pool(Address.parse(URL))
        for _ in range(CONNECTIONS * 2):
            pool._open += 1
            connection = UpstreamConnection(pool, self._loop)

            def answer(data: bytes, to: UpstreamConnection = connection) -> None:
                self._loop.call_soon(to.data_received, ANSWER)

            connection.connection_made(_Wire(answer))
            pool.released(connection)

    def _client(self, server: Server) -> Connection:
        connection = Connection(server, self._loop)

        def answered(data: bytes) -> None:
            assert data.startswith(b"HTTP/1.1 200"), data
            self._left -= 1
            if self._left > 0:
                self._loop.call_soon(connection.data_received, REQUEST)
            elif not self._done.done():
                self._done.set_result(None)

        connection.connection_made(_Wire(answered))
        return connection

    async def run(self, requests: int) -> float:
        """Microseconds a request."""
        self._left, self._done = requests, self._loop.create_future()
        started = time.process_time()
        for client in self._clients:
            self._loop.call_soon(client.data_received, REQUEST)
        await self._done
        took = time.process_time() - started
        await asyncio.sleep(0)
        await self._recorder._round()
        return took / requests * 1e6


async def measure(rounds: int, requests: int) -> dict[str, list[float]]:
    """By the filter that was left out; "" for the whole path."""
    whole = Path()
    paths = {"": whole} | {name: Path(name) for name in whole.names if name not in NEEDED}
    paths[PRICED] = Path(price=TokenPrice(270_000, 70_000, 1_100_000))
    for path in paths.values():
        await path.run(100)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    found: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            found[name].append(await path.run(requests))
    return found


def report(found: dict[str, list[float]]) -> None:
    console = Console()
    best = min(found[""])
    table = Table(
        "filter", "µs a request", title="The layer's price, filter by filter (in process, no sockets)"
    )
    for name, samples in found.items():
        if name == PRICED:
            table.add_row(name, f"{min(samples) - min(found['money']):.1f}")
        elif name:
            table.add_row(name, f"{best - min(samples):.1f}")
    table.add_row("the whole path", f"{best:.1f} (median {statistics.median(found['']):.1f})")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.filters", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=2000, help="a round")
    parser.add_argument("--whole", action="store_true", help="only the whole path")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by function (cProfile)")
    words = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if words.profile:
        uvloop.run(_profile(words.requests))
    elif words.whole:
        report(uvloop.run(_whole(words.rounds, words.requests)))
    else:
        report(uvloop.run(measure(words.rounds, words.requests)))


async def _whole(rounds: int, requests: int) -> dict[str, list[float]]:
    path = Path()
    await path.run(100)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    return {"": [await path.run(requests) for _ in range(rounds)]}


async def _profile(requests: int) -> None:
    import cProfile
    import pstats

    path = Path()
    await path.run(100)
    profile = cProfile.Profile()
    profile.enable()
    await path.run(requests)
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
