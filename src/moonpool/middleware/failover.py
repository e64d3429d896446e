"""Failover: from tier to tier, as a request's answer allows: other instances, other releases, other targets.

    tiers of the alias ──► tiers of its fallbacks          what fails, is open or does not run
                       ├─► of its context_fallbacks        prompts that are too long for it
                       └─► of its policy_fallbacks         what its provider's content policy refuses

While part of the first tier is out, only as much of the traffic is sent there as the rest can bear, times
1.4 (Envoy's overprovisioning factor): the others spill over to the next one at once. What is told in the end
is the most useful error of all, not the last.
"""

from collections.abc import Awaitable, Sequence
from random import Random

import msgspec

from moonpool.balancing.models import Models
from moonpool.balancing.services import Services
from moonpool.balancing.tiers import Tier
from moonpool.contracts.catalogue import Model
from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionReset,
    DeadlineExceeded,
    FirstByteTimeout,
    MoonpoolError,
    Overloaded,
    PlatformError,
    StreamStalled,
    Unavailable,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.answered import Answered
from moonpool.middleware.attempt import wanted
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.retry import deny, not_done, repeatable
from moonpool.middleware.retry_budget import RetryBudget
from moonpool.openai.errors import ErrorBody

OVERPROVISIONED = 1.4
USEFUL: tuple[type[MoonpoolError], ...] = (
    Answered,
    FirstByteTimeout,
    StreamStalled,
    UpstreamMalformed,
    ConnectionReset,
    UpstreamError,
    ConnectFailed,
    Overloaded,
    CircuitOpen,
    Unavailable,
)
"""What tells a client most first: an endpoint's own words, then what it did, then that nobody was asked."""
TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
REFUSED_CONTENT = frozenset({"content_policy_violation", "content_filter", "invalid_prompt"})


class TierTable:
    """Where a request may go, by its service or its model's alias."""

    def __init__(self, services: Services, models: Models) -> None:
        self._services = services
        self.models = models

    def tiers(self, ctx: Context) -> Sequence[Tier]:
        if ctx.model:
            return self.models.tiers(ctx.model, ctx.release_wanted)
        return self._services.tiers(ctx.service, ctx.release_wanted)


class Failover:
    """`enough` is the overprovisioning factor of spill-over."""

    def __init__(
        self,
        table: TierTable,
        breakers: Breakers,
        budget: RetryBudget,
        random: Random,
        *,
        enough: float = OVERPROVISIONED,
    ) -> None:
        self._table = table
        self._breakers = breakers
        self._budget = budget
        self._random = random
        self._enough = enough

    def update(self, enough: float) -> None:
        """For requests that choose where to begin from now on."""
        self._enough = enough

    def applies(self, route: Route) -> bool:
        return route.balancer is not BalancerKind.NONE

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        self._budget.deposit(ctx.started)
        tiers = self._table.tiers(ctx)
        if not tiers:
            ctx.flags.append(Flag.NO_HEALTHY_UPSTREAM)
            raise Unavailable(f"no instance of {wanted(ctx)} is running", code="no_instance", retry_after=1.0)
        try:
            response = await self._first(ctx, request, next, tiers)
        except Answered as error:
            response = _told(ctx, error)
        if response.status == 400 and ctx.model:
            chained = self._own_chain(ctx, response)
            if chained:
                return await self._elsewhere(ctx, request, next, chained, response)
        return response

    def _first(
        self, ctx: Context, request: Request, next: Handler, tiers: Sequence[Tier]
    ) -> Awaitable[Response]:
        home = tiers[0] if tiers[0].alias == ctx.model else None
        if len(tiers) > 1 or home is None:
            return self._walk(ctx, request, next, self._spilled(ctx, tiers), home)
        ctx.tier = home
        ctx.last_tier = True
        return next(ctx, request)

    async def _walk(
        self, ctx: Context, request: Request, next: Handler, tiers: Sequence[Tier], home: Tier | None
    ) -> Response:
        """`home` is the tier whose answer is the real one. Raises the most useful error."""
        last = tiers[-1]
        errors: list[PlatformError] = []
        for tier in tiers:
            ctx.tier = tier
            ctx.last_tier = tier is last
            try:
                response = await next(ctx, request)
            except DeadlineExceeded:
                if not errors:
                    raise
                break
            except (UpstreamError, Unavailable, Overloaded) as error:
                errors.append(error)
                if ctx.last_tier or not self._may_go_on(ctx, request, error):
                    break
                ctx.decide("failover", "next", f"{tier.name}: {error.code}")
                continue
            if tier is not home:
                _moved(ctx, tier, response)
            return response
        raise min(errors, key=_usefulness)

    def _may_go_on(self, ctx: Context, request: Request, error: PlatformError) -> bool:
        if not isinstance(error, UpstreamError):
            return True  # nobody was asked
        if not (isinstance(error, ConnectFailed) or not_done(request, error) or repeatable(ctx, request)):
            return False
        if error.should_retry is False:  # retry was denied
            return False
        if not self._budget.withdraw(ctx.clock.monotonic()):
            deny(ctx, "failover", error)
            return False
        return True

    def _spilled(self, ctx: Context, tiers: Sequence[Tier]) -> Sequence[Tier]:
        """`tiers`, from the one on that this request begins with. Another model answers only when nobody of
        the one that was asked for can."""
        now = ctx.clock.monotonic()
        able, begin = -1, 0
        for place, tier in enumerate(tiers):
            if able >= 0 and tier.alias != tiers[able].alias:
                begin = able
                break
            begin = place
            health = self._health(tier, now)
            if health * self._enough >= 1.0 or self._random.random() < health * self._enough:
                break
            if health and able < 0:
                able = place
        else:
            begin = max(able, 0)
        if begin == 0:
            return tiers
        ctx.decide("failover", "spill", f"to {tiers[begin].name}")
        return [*tiers[begin:], *tiers[:begin]]

    def _health(self, tier: Tier, now: float) -> float:
        """The share of its instances that are ready and admitted."""
        candidates = tier.candidates
        able = [c for c in candidates if c.endpoint.ready and self._breakers.of(c).admits(now)]
        return len(able) / len(candidates)

    def _own_chain(self, ctx: Context, response: Response) -> Sequence[Tier]:
        """The tiers for a refusal that another model may not share."""
        model = self._table.models.model(ctx.model)
        if model is None or not (model.context_fallbacks or model.policy_fallbacks):
            return ()
        aliases = _chain_of(model, response)
        return self._table.models.chain(model.id, aliases, ctx.release_wanted) if aliases else ()

    async def _elsewhere(
        self, ctx: Context, request: Request, next: Handler, tiers: Sequence[Tier], refused: Response
    ) -> Response:
        """Another model's answer, or the refusal when nobody has one."""
        if not self._budget.withdraw(ctx.clock.monotonic()):
            ctx.decide("failover", "denied", "the retry budget is spent")
            return refused
        ctx.decide("failover", "next", f"{ctx.tier.name}: refused the request itself")
        try:
            return await self._walk(ctx, request, next, tiers, None)
        except (UpstreamError, Unavailable, Overloaded):
            return refused


def _chain_of(model: Model, response: Response) -> tuple[str, ...]:
    code = _code(response)
    if code in TOO_LONG:
        return model.context_fallbacks
    return model.policy_fallbacks if code in REFUSED_CONTENT else ()


def _code(response: Response) -> str:
    """The word in a refusal, which is our own error object by now (answers.py)."""
    assert isinstance(response.body, bytes)
    try:
        error = msgspec.json.decode(response.body, type=ErrorBody).error
    except msgspec.DecodeError:
        return ""
    return error.code or error.type


def _moved(ctx: Context, tier: Tier, response: Response) -> None:
    ctx.fallback = "failover"
    ctx.model = tier.alias or ctx.model
    ctx.decide("failover", "moved", tier.name)
    response.headers.append((b"x-moonpool-fallback", b"failover"))


def _told(ctx: Context, error: Answered) -> Response:
    """An endpoint's own refusal, when nobody did better."""
    response = error.response
    names = {name for name, _ in response.headers}
    if error.should_retry is False and b"x-should-retry" not in names:
        response.headers.append((b"x-should-retry", b"false"))
    if b"x-moonpool-release" not in names:
        response.headers.append((b"x-moonpool-release", f"{ctx.service}@{error.release}".encode()))
    return response


def _usefulness(error: MoonpoolError) -> int:
    return next((USEFUL.index(kind) for kind in type(error).__mro__ if kind in USEFUL), len(USEFUL))
