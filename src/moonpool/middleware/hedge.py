"""Hedging: a second attempt beside the first, when that takes longer than nearly all others do (Dean and
Barroso, "The Tail at Scale", 2013). Off unless configured.

Only for streams, only before the first content, only to an instance that was not asked: what comes first is
the answer, the other attempt is cancelled and says nothing about its endpoint. It is drawn from the retry
budget.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable

from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.contracts.resilience import HedgePolicy
from moonpool.core.body import Stream
from moonpool.core.context import Context
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.attempt import fresh
from moonpool.middleware.retry_budget import RetryBudget

REMEMBERED = 200
"""First-token times of a model that its quantile is taken of."""
FEWEST = 20
"""Without so many there is no quantile yet, and no hedge."""
RECKONED_EVERY = 20


class FirstTokens:
    """Of one model: how long first tokens take."""

    __slots__ = ("_age", "_kept", "_quantile", "_times")

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._kept: float | None = None
        self._age = 0

    def update(self, quantile: float) -> None:
        if quantile != self._quantile:
            self._quantile = quantile
            self._kept = None

    def add(self, seconds: float) -> None:
        self._times.append(seconds)
        self._age += 1

    def quantile(self) -> float | None:
        """Seconds; None as long as too few are known."""
        if len(self._times) < FEWEST:
            return None
        if self._kept is None or self._age >= RECKONED_EVERY:
            self._age = 0
            ordered = sorted(self._times)
            self._kept = ordered[min(len(ordered) - 1, int(self._quantile * len(ordered)))]
        return self._kept


class Hedge:
    def __init__(self, policy: HedgePolicy, budget: RetryBudget) -> None:
        self._policy = policy
        self._budget = budget
        self._models: dict[str, FirstTokens] = {}

    def update(self, policy: HedgePolicy) -> None:
        """For requests that begin from now on; what is known of first tokens stays. Chains are to be built
        again when it is turned on or off."""
        self._policy = policy
        for times in self._models.values():
            times.update(policy.quantile)

    def applies(self, route: Route) -> bool:
        return self._policy.enabled and route.balancer is BalancerKind.INFERENCE

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        policy = self._policy
        if not (ctx.streamed and policy.enabled):
            return next(ctx, request)
        return self._race(policy, ctx, request, next)

    async def _race(self, policy: HedgePolicy, ctx: Context, request: Request, next: Handler) -> Response:
        times = self._models.get(ctx.model)
        if times is None:
            times = self._models[ctx.model] = FirstTokens(policy.quantile)
        began = ctx.clock.monotonic()
        first = asyncio.ensure_future(next(ctx, request))
        try:
            late = times.quantile()
            patience = None if late is None else max(late, policy.at_least)
            response = await self._hedged(ctx, request, next, first, patience)
        except BaseException:
            first.cancel()
            raise
        if response.status == 200:
            times.add(ctx.clock.monotonic() - began)
        return response

    async def _hedged(
        self,
        ctx: Context,
        request: Request,
        next: Handler,
        first: "asyncio.Future[Response]",
        patience: float | None,
    ) -> Response:
        if patience is None:
            return await first
        await asyncio.wait([first], timeout=patience)
        if first.done() or not self._may(ctx):
            return await first
        ctx.decide("hedge", "second", f"no content within {patience * 1000:.0f} ms")
        other = copy.copy(ctx)  # attempts, decisions and flags are shared: it is one request
        second = asyncio.ensure_future(next(other, request))
        try:
            await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
            winner = _winner(first, second) or await _either(first, second)
        except BaseException:
            second.cancel()
            raise
        loser = second if winner is first else first
        _give_up(loser)
        response = await winner
        if winner is second:
            ctx.release, ctx.tier, ctx.produced = other.release, other.tier, other.produced
            ctx.decide("hedge", "won", other.release)
        return response

    def _may(self, ctx: Context) -> bool:
        """Whether there is somebody else to ask, and something left to ask with."""
        if ctx.tier is None or not any(each.endpoint.ready for each in fresh(ctx, ctx.tier.candidates)):
            return False
        if self._budget.withdraw(ctx.clock.monotonic()):
            return True
        ctx.decide("hedge", "denied", "the retry budget is spent")
        return False


def _good(attempt: "asyncio.Future[Response]") -> bool:
    return attempt.done() and not attempt.cancelled() and attempt.exception() is None


def _winner(
    first: "asyncio.Future[Response]", second: "asyncio.Future[Response]"
) -> "asyncio.Future[Response] | None":
    """The one that has an answer; the first when both have."""
    return first if _good(first) else second if _good(second) else None


async def _either(
    first: "asyncio.Future[Response]", second: "asyncio.Future[Response]"
) -> "asyncio.Future[Response]":
    """One has failed: the other is what is left, and the first tells the error when that fails as well."""
    await asyncio.wait([first, second])
    return _winner(first, second) or first


def _give_up(loser: "asyncio.Future[Response]") -> None:
    """Nobody hears it. What it holds goes back when its task, or its body, is cancelled."""
    loser.cancel()

    def discard(done: "asyncio.Future[Response]") -> None:
        if _good(done) and isinstance(done.result().body, Stream):
            done.result().body.cancel()  # type: ignore[union-attr]

    loser.add_done_callback(discard)
