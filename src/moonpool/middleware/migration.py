"""A stream that broke after its first token goes on at another instance of the same model.

Which instances those are: our own ones for our own, which refuse when their revision is another; for an
external endpoint the other targets of the alias that name the same model. Nobody is asked who was tried
already. All streams of an instance break together when it dies, and each takes the place of one that is
gone: a continuation is made while the budget of retry and failover has anything left, and charged to it
when it fails (docs/adr/0014-continuations-are-charged-when-they-fail.md).
"""

from collections.abc import Awaitable, Callable, Sequence

from moonpool.balancing.models import Models
from moonpool.balancing.tiers import Candidate
from moonpool.core.body import Stream
from moonpool.core.context import Context
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Flag
from moonpool.core.errors import MoonpoolError, UpstreamError
from moonpool.core.message import Response
from moonpool.middleware.attempt import Attempts, fresh
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.continuation import continuable, never
from moonpool.middleware.continuation_splice import Splice
from moonpool.middleware.continued import Ceremony, Continued, Source
from moonpool.middleware.retry_budget import RetryBudget
from moonpool.middleware.transcript import Transcript
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest

MOST = 3
"""Instances asked to continue, for one break."""

ModelRequest = ChatCompletionRequest | CompletionRequest
Ask = Callable[[Candidate, Transcript], Awaitable[Response]]
"""Makes the attempt at the candidate that has it go on."""


class Migration:
    """Of all requests of a process."""

    def __init__(self, models: Models, attempts: Attempts, breakers: Breakers, budget: RetryBudget) -> None:
        self._models = models
        self._attempts = attempts
        self._breakers = breakers
        self._budget = budget

    def follow(self, ctx: Context, candidate: Candidate, stream: Stream, body: bytes, ask: Ask) -> Stream:
        """What the client reads in the place of `stream`, which is `candidate`'s answer to `body`.

        From here on the context has no payload but while the answer is continued: thousands of streams are
        open, few break, and a prompt is large.
        """
        going = _Going(self, ctx, candidate, body, ask)
        source = Source(stream, traced(candidate, never(ctx.payload)))
        ctx.payload = None
        return Continued(source, going).stream

    def others(self, ctx: Context, broken: Candidate) -> Sequence[Candidate]:
        """Who could continue what `broken` began."""
        tiers = self._models.tiers(ctx.tier.alias, ctx.release_wanted)
        able = [
            candidate
            for tier in tiers
            if tier.alias == ctx.tier.alias
            for candidate in tier.candidates
            if candidate.endpoint.ready and _same_model(candidate, broken)
        ]
        return self._breakers.admitted(fresh(ctx, able), ctx.clock.monotonic())

    def may_go_on(self, ctx: Context) -> bool:
        if self._budget.covers(ctx.clock.monotonic()):
            return True
        ctx.flags.append(Flag.BUDGET_DENIED)
        ctx.decide("failover", "denied", "the retry budget is spent")
        return False

    def failed(self, ctx: Context) -> None:
        """A continuation was in vain, or broke as well."""
        self._budget.charge(ctx.clock.monotonic())


class _Going:
    """One answer on its way from instance to instance: the `continued.Answer`."""

    __slots__ = ("_ask", "_body", "_candidate", "_continued", "_ctx", "_migration", "_schema")

    def __init__(
        self, migration: Migration, ctx: Context, candidate: Candidate, body: bytes, ask: Ask
    ) -> None:
        self._migration = migration
        self._ctx = ctx
        self._candidate = candidate
        self._body = body
        self._schema: type[ModelRequest] = type(ctx.payload)
        self._ask = ask
        self._continued = False
        """Whether what breaks next is a continuation."""

    def _payload(self) -> ModelRequest:
        return parse(self._schema, self._body)

    def transcript(self) -> Transcript:
        payload = self._payload()
        prompts = 1 if isinstance(payload, ChatCompletionRequest) else len(payload.prompts())
        return Transcript((payload.n or 1) * prompts, never(payload))

    def ceremony(self) -> Ceremony:
        ctx, payload = self._ctx, self._payload()
        chat = isinstance(payload, ChatCompletionRequest)
        return Ceremony(chat, ctx.usage_wanted, ctx.prompt_tokens, payload.limit)

    async def resume(self, transcript: Transcript, error: UpstreamError) -> Source | None:
        ctx = self._ctx
        ctx.payload = self._payload()
        try:
            return await self._resumed(transcript)
        finally:
            ctx.payload = None

    async def _resumed(self, transcript: Transcript) -> Source | None:
        ctx, migration = self._ctx, self._migration
        if self._continued:
            migration.failed(ctx)
        why = continuable(ctx.payload, transcript, local=self._candidate.endpoint.internal)
        if why is not None:
            ctx.decide("failover", "not continued", why)
            return None
        for _ in range(MOST):
            others = migration.others(ctx, self._candidate)
            if not others:
                ctx.decide("failover", "not continued", "no other instance of this model")
                return None
            if not migration.may_go_on(ctx):
                return None
            candidate = min(others, key=lambda other: other.endpoint.active)
            ctx.deadline = Deadline(ctx.clock.monotonic() + ctx.route.timeouts.first_byte)
            try:
                response = await self._ask(candidate, transcript)
            except MoonpoolError as failure:
                migration.failed(ctx)
                ctx.decide("failover", "not continued", f"{candidate.instance}: {failure.detail}")
                continue
            if isinstance(response.body, Stream) and response.status == 200:
                return self._moved(candidate, transcript, response.body)
            migration.failed(ctx)
            ctx.decide("failover", "not continued", f"{candidate.instance} answered {response.status}")
        return None

    def _moved(self, candidate: Candidate, transcript: Transcript, stream: Stream) -> Source:
        ctx = self._ctx
        self._candidate = candidate
        self._continued = True
        ctx.flags.append(Flag.MIGRATED)
        ctx.decide("failover", "continued", f"by {candidate.instance}, after {transcript.count} tokens")
        if not candidate.endpoint.internal:
            stream.transform(Splice(transcript))
        return Source(stream, traced(candidate, transcript.fault))


def traced(candidate: Candidate, fault: str | None) -> bool:
    """Whether the candidate is asked to tell its tokens: only where they can be of use, which a `fault` of
    the answer rules out."""
    return candidate.endpoint.internal and fault is None


def _same_model(one: Candidate, other: Candidate) -> bool:
    if one.endpoint.internal or other.endpoint.internal:
        return one.endpoint.internal and other.endpoint.internal
    assert one.target is not None
    assert other.target is not None
    return one.target.model == other.target.model and one.target.continuation != "none"
