"""Retry: another attempt within the tier, before the client has seen anything.

Another instance is asked at once; the same one only after a pause that grows, or that it asked for itself,
and only when no other tier could do better. Every attempt beyond the first is drawn from the budget that all
requests of the process share, so that what fails under load is not asked yet more.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.contracts.resilience import RetryPolicy
from moonpool.core.body import Stream
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionReset,
    DeadlineExceeded,
    FirstByteTimeout,
    StreamStalled,
    StreamTruncated,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.http.framing import IDEMPOTENT
from moonpool.middleware.answered import Answered
from moonpool.middleware.attempt import fresh
from moonpool.middleware.backoff import Backoff
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import State
from moonpool.middleware.retry_budget import RetryBudget

BROKEN = (ConnectionReset, UpstreamMalformed, StreamTruncated)
SILENT = (FirstByteTimeout, StreamStalled)
"""Worth another instance, never the same: it is still at work, or beyond it."""


class Rules(NamedTuple):
    """What a request keeps from its beginning to its end, whatever becomes of the policy."""

    statuses: frozenset[int]
    most: int
    backoff: Backoff

    @classmethod
    def of(cls, policy: RetryPolicy, random: Callable[[], float]) -> "Rules":
        return cls(policy.statuses, policy.attempts, Backoff(policy, random))


class Retry:
    """`random` gives numbers from 0 to below 1."""

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, breakers: Breakers, random: Callable[[], float]
    ) -> None:
        self._rules = Rules.of(policy, random)
        self._random = random
        self._budget = budget
        self._breakers = breakers

    def update(self, policy: RetryPolicy) -> None:
        """For requests that begin from now on."""
        self._rules = Rules.of(policy, self._random)

    def applies(self, route: Route) -> bool:
        return route.balancer is not BalancerKind.NONE

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        rules = self._rules
        try:
            return await next(ctx, request)
        except UpstreamError as error:
            if not _may_repeat(rules, ctx, request, error):
                raise
            failure = error
        return await self._again(rules, ctx, request, next, failure)

    async def _again(
        self, rules: Rules, ctx: Context, request: Request, next: Handler, error: UpstreamError
    ) -> Response:
        """Raises the last attempt's error."""
        attempt, waited = 1, 0.0
        while True:
            pause = self._pause(rules, ctx, attempt, waited, error)
            if pause is None:
                raise error
            if not self._budget.withdraw(ctx.clock.monotonic()):
                deny(ctx, "retry", error)
                raise error
            ctx.decide("retry", "again", f"{error.code}, after {pause * 1000:.0f} ms")
            if pause:
                waited = pause
                await asyncio.sleep(pause)
            attempt += 1
            try:
                return await next(ctx, request)
            except (CircuitOpen, DeadlineExceeded):
                raise error from None  # an endpoint's own words say more
            except UpstreamError as failure:
                if not _may_repeat(rules, ctx, request, failure):
                    raise
                error = failure

    def _pause(
        self, rules: Rules, ctx: Context, attempt: int, waited: float, error: UpstreamError
    ) -> float | None:
        """Seconds to the next attempt; None when there is none to make in this tier."""
        if attempt >= (ctx.route.attempts or rules.most):
            ctx.flags.append(Flag.RETRIES_EXHAUSTED)
            ctx.decide("retry", "exhausted", f"{attempt} attempts")
            return None
        now = ctx.clock.monotonic()
        others = fresh(ctx, ctx.tier.candidates)
        if any(other.endpoint.ready and self._breakers.of(other).admits(now) for other in others):
            return 0.0
        if not ctx.last_tier or isinstance(error, SILENT) or type(error) is UpstreamError:
            return None
        left = None if ctx.deadline is None else ctx.deadline.remaining(now)
        pause = rules.backoff.wait(waited, error.retry_after, left)
        if pause is None:
            ctx.decide("retry", "no time", f"{error.code}, {left or 0:.1f} s left")
            return None
        if all(self._breakers.of(each).state_at(now + pause) is State.OPEN for each in ctx.tier.candidates):
            ctx.decide("retry", "no use", f"{error.code}, the circuit breaker is open for longer")
            return None
        return pause


def _may_repeat(rules: Rules, ctx: Context, request: Request, error: UpstreamError) -> bool:
    if isinstance(request.body, Stream):
        return False  # it is gone
    if isinstance(error, ConnectFailed):
        return True
    if isinstance(error, Answered):
        status = error.response.status
        if status not in rules.statuses:
            return False
        return repeatable(ctx, request) or not_done(request, error)
    # UpstreamError itself: it refused us, or reported a fault of its own. Another one may not.
    return (isinstance(error, BROKEN + SILENT) or type(error) is UpstreamError) and repeatable(ctx, request)


def not_done(request: Request, error: UpstreamError) -> bool:
    """Whether the endpoint said that it did nothing, and when to come back."""
    told = isinstance(error, Answered) and error.response.status in (429, 503)
    return told and error.retry_after is not None and not isinstance(request.body, Stream)


def repeatable(ctx: Context, request: Request) -> bool:
    """Whether doing it twice is as good as once: asking a model changes nothing anywhere. A streamed body is
    gone when an endpoint has seen it."""
    if isinstance(request.body, Stream):
        return False
    return request.method in IDEMPOTENT or ctx.route.balancer is BalancerKind.INFERENCE


def deny(ctx: Context, who: str, error: UpstreamError) -> None:
    """The budget is spent: neither we nor the client's SDK should ask again now."""
    ctx.flags.append(Flag.BUDGET_DENIED)
    ctx.decide(who, "denied", "the retry budget is spent")
    error.should_retry = False
