"""The rate limiter, in two stages: requests and places as soon as it is known who asks; tokens when it is
known what is asked, and that no cache has the answer.

Both ask one store (ports/limits.py), once each. A place is held until the answer's body is over. Tokens are
reserved by estimate, charged as they are produced, and settled on what metering has counted: the true
usage if the endpoint told it. Whatever fails before there is an answer, and what a cache answers, costs none.
"""

import math
from functools import partial

from moonpool.contracts.manifest import Access, Route
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import RateLimited
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.limit_rules import NO_PLAN, Field, LimitRules, joined
from moonpool.middleware.reservations import reservation
from moonpool.openai.errors import render_error
from moonpool.ports.limits import Limits, Rate, Slot, Verdict

UNITS = {"requests": "requests per minute", "tokens": "tokens per minute", "concurrent": "requests at a time"}
TOKENS = ".tokens"
"""What the second stage's lease has behind the request's id."""


class RequestLimit:
    """First stage: requests a minute and requests at a time."""

    def __init__(self, rules: LimitRules, limits: Limits) -> None:
        self._rules = rules
        self._limits = limits

    def applies(self, route: Route) -> bool:
        """Not to operators' routes: who exhausts a limit must still be able to see why, and to change it."""
        return not route.quiet and route.access in {Access.PUBLIC, Access.KEY}

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        plan = ctx.limits = self._rules.plan(ctx, request)
        if not plan.requests and not plan.slots:
            return await next(ctx, request)
        limits = self._limits
        verdict = limits.take(ctx.request_id, plan.requests, plan.slots)
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        if verdict.refused is not None:
            return _refusal(ctx, verdict, plan.policy)
        ctx.decisions.append(("rate_limit", "allow", "requests", ctx.clock.monotonic()))
        try:
            response = await next(ctx, request)
        except BaseException as error:
            limits.settle(verdict, 0)
            _tell_of(error, ctx, verdict, plan.policy)
            raise
        if isinstance(response.body, Stream):
            response.body.on_settled(partial(_over, limits, verdict))
        else:
            limits.settle(verdict, 0)
        response.headers += _fields(verdict, plan.policy)
        return response


def _over(limits: Limits, verdict: Verdict, outcome: Outcome, error: Exception | None) -> None:
    limits.settle(verdict, 0)


class TokenLimit:
    """Second stage: tokens a minute, and all that is limited by model. Stands outside metering."""

    def __init__(self, rules: LimitRules, limits: Limits) -> None:
        self._rules = rules
        self._limits = limits

    def applies(self, route: Route) -> bool:
        return route.metered and route.schema != ""

    async def __call__(self, ctx: Context, request: Request, next: Handler) -> Response:
        rules = self._rules
        plan = ctx.limits or rules.plan(ctx, request)
        model = NO_PLAN
        if rules.by_model:
            model = rules.model(ctx.model)
            plan += model
        if not (plan.tokens or model.requests or model.slots):
            return await next(ctx, request)
        assert isinstance(request.body, bytes)
        limits, policy = self._limits, plan.token_policy
        if model is not NO_PLAN:
            policy = joined(policy, model.policy)
        amount = reservation(ctx.payload, len(request.body), plan.most_tokens)
        verdict = limits.take(ctx.request_id + TOKENS, model.requests, model.slots, plan.tokens, amount)
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        if verdict.refused is not None:
            return _refusal(ctx, verdict, policy)
        ctx.decisions.append(("rate_limit", "reserve", "tokens", ctx.clock.monotonic()))
        if ctx.payload.stream:
            ctx.progress = partial(limits.use, verdict)
        try:
            response = await next(ctx, request)
        except BaseException as error:
            limits.settle(verdict, _used(ctx))
            _tell_of(error, ctx, verdict, policy)
            raise
        if isinstance(response.body, Stream):
            response.body.on_settled(partial(_settled, limits, verdict, ctx))
        else:
            limits.settle(verdict, _used(ctx))
        response.headers += _fields(verdict, policy)
        return response


def _settled(
    limits: Limits, verdict: Verdict, ctx: Context, outcome: Outcome, error: Exception | None
) -> None:
    limits.settle(verdict, _used(ctx))


def _used(ctx: Context) -> int:
    """Tokens that metering has counted for the bill: the limit is charged exactly those."""
    usage = ctx.usage
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens


def _fields(verdict: Verdict, policy: Field) -> tuple[Field, ...]:
    """draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4."""
    rate = verdict.tightest
    if rate is None:
        return (policy,)
    return (policy, (b"ratelimit", rate.field % (verdict.remaining, int(verdict.reset + 0.999))))


def _tell_of(error: BaseException, ctx: Context, verdict: Verdict, policy: Field) -> None:
    """For an error that is made an answer further out."""
    if isinstance(error, Exception):
        ctx.error_fields += _fields(verdict, policy)


def _refusal(ctx: Context, verdict: Verdict, policy: Field) -> Response:
    refused = verdict.refused
    assert refused is not None
    ctx.flags.append(Flag.RATE_LIMITED)
    ctx.decide("rate_limit", "refuse", f"{refused.name}, {verdict.wait:.3f} s")
    never = math.isinf(verdict.wait)
    response = render_error(_too_large(refused) if never else _too_many(refused, verdict.wait))
    if never:  # the SDKs would try again at once
        response.headers.append((b"x-should-retry", b"false"))
    else:
        response.headers.append((b"retry-after-ms", b"%d" % math.ceil(verdict.wait * 1000)))
    response.headers += _fields(verdict, policy)
    return response


def _too_many(refused: Rate | Slot, wait: float) -> RateLimited:
    unit = UNITS[refused.name.partition("-")[0]]
    return RateLimited(
        f"Rate limit reached: {_bound(refused)} {unit}{_of(refused)}.",
        hint=f"Try again in {wait:.1f} s.",
        retry_after=wait,
    )


def _too_large(refused: Rate | Slot) -> RateLimited:
    return RateLimited(
        f"Request too large: it has more than the {_bound(refused)} tokens a minute that are allowed"
        f"{_of(refused)}.",
        hint="Shorten the prompt, or ask for a higher limit.",
    )


def _bound(refused: Rate | Slot) -> int:
    return refused.quota if isinstance(refused, Rate) else refused.places


def _of(refused: Rate | Slot) -> str:
    dimension = refused.name.partition("-")[2]
    return f" of this {dimension}" if dimension else ""
