"""Sends a dead letter's request through the chain of its route, in the name of whoever sent it first.

The chains are built from the same list as the clients' (middleware/pipeline.py), without the filters that
are about a client's connection (health, authentication) or would answer instead of the service (idempotency,
cache, dead letter, fallback): a replay is answered by the service or fails.
"""

from collections.abc import Collection, Sequence

from moonpool.contracts.manifest import Manifest
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.errors import NotFound
from moonpool.core.message import Request, Response
from moonpool.gateway.app import Upstream
from moonpool.gateway.routes import Entry, RouteTable
from moonpool.middleware.pipeline import RouteFilter, build
from moonpool.ports.dead_letters import Letter, RouteName


class Replayer:
    """Is a middleware.letter_replay.Perform."""

    def __init__(
        self,
        *,
        manifests: Sequence[Manifest],
        filters: Sequence[RouteFilter],
        upstream: Upstream,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._filters = filters
        self._upstream = upstream
        self.update(manifests)

    def update(self, manifests: Sequence[Manifest]) -> None:
        """For letters that are sent from now on."""
        filters, upstream = self._filters, self._upstream
        self._table = RouteTable(
            Entry(manifest.service, route, build(filters, route, upstream(manifest.service, route)))
            for manifest in manifests
            for route in manifest.routes
        )
        self._off = frozenset(
            (route.method, route.path)
            for manifest in manifests
            for route in manifest.routes
            if not route.enabled
        )

    def off(self) -> Collection[RouteName]:
        """The routes that an operator has switched off."""
        return self._off

    async def __call__(self, letter: Letter) -> Response:
        """Raises NotFound when no service has the route any more."""
        sent = letter.sent
        entry, parameters, _ = self._table.match(sent.method, sent.path)
        if entry is None:
            raise NotFound(f"no service has {sent.method} {sent.path} any more", code="unknown_url")
        ctx = Context(self._clock)
        ctx.request_id = letter.note.request_id
        ctx.letter = True
        ctx.service = entry.service
        ctx.route = entry.route
        ctx.parameters = parameters
        ctx.principal = sent.principal
        ctx.deadline = Deadline(ctx.started + entry.route.timeouts.total)
        ctx.decide("dead letter", "replay", f"{letter.note.id}, attempt {letter.note.attempts + 1}")
        headers = {name.encode(): value.encode("latin-1") for name, value in sent.headers.items()}
        headers.setdefault(b"idempotency-key", letter.note.request_id.encode())
        return await entry.handler(ctx, Request(sent.method, sent.path, sent.query, headers, sent.body))
