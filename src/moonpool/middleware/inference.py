"""The end of the chain of models: one attempt, at the endpoint of the tier that answers soonest.

The body that goes on is the client's own bytes, unless the target knows the model by another name or a
stream must be made to report its usage.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
from msgspec import structs

from moonpool.balancing.inference import SATURATION, InferenceBalancer, Prompt
from moonpool.balancing.models import INFERENCE
from moonpool.balancing.tiers import Candidate
from moonpool.contracts.catalogue import Target
from moonpool.contracts.manifest import Timeouts
from moonpool.core.body import Stream
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest, Unavailable
from moonpool.core.message import Request, Response
from moonpool.middleware.answers import judge
from moonpool.middleware.attempt import Attempts, Load
from moonpool.middleware.context_length import check_context
from moonpool.middleware.continuation import never
from moonpool.middleware.continuation_request import CONTINUED, TRACED, Prefill, local_body, prefill_body
from moonpool.middleware.migration import Migration
from moonpool.middleware.restarts import Restarts
from moonpool.middleware.signing import ContextSigner
from moonpool.middleware.transcript import Transcript
from moonpool.middleware.upstream import add_internal, traceparent
from moonpool.openai.errors import render_error

FROM_EXTERNAL = frozenset(
    {b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"cache-control"}
)
"""Response fields of external endpoints that clients see; their own ids and cookies are not ours."""
ADMITTED = SATURATION // 2
"""Requests under way on the only endpoint up to which nobody is shed, whatever the priority."""
DEFAULT_ANSWER = 256
"""Answer tokens assumed of a request that sets no bound."""


judge_stream, judge_whole = partial(judge, streamed=True), partial(judge, streamed=False)


class InferenceUpstream:
    """`first_token` tells how many seconds the first token of a prompt of so many may take."""

    def __init__(
        self,
        *,
        balancer: InferenceBalancer,
        attempts: Attempts,
        signer: ContextSigner,
        migration: Migration,
        first_token: Callable[[int], float],
        restarts: Restarts | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._balancer = balancer
        self._attempts = attempts
        self._signer = signer
        self._migration = migration
        self._first_token = first_token
        self._restarts = restarts
        self._environment = environment

    async def __call__(self, ctx: Context, request: Request) -> Response:
        if ctx.tier.context is not None:
            assert isinstance(request.body, bytes)
            try:
                check_context(ctx.payload, len(request.body), ctx.tier.context)
            except BadRequest as error:
                ctx.decide("context", "refused", f"{ctx.tier.alias} takes {ctx.tier.context} tokens")
                return render_error(error)  # as an endpoint refuses it: failover has a chain for that
        answer = getattr(ctx.payload, "limit", None) or DEFAULT_ANSWER
        candidate = self._pick(ctx, answer)
        if not candidate.endpoint.ready and candidate.endpoint.internal and self._restarts is not None:
            candidate = await self._restarted(ctx, self._restarts, candidate)
        response = await self._ask(ctx, request, answer, candidate)
        endpoint = candidate.endpoint
        if not endpoint.internal:
            response.headers = [field for field in response.headers if field[0] in FROM_EXTERNAL]
        response.headers.append((b"x-moonpool-release", f"{INFERENCE}@{endpoint.release}".encode()))
        body = response.body
        if ctx.streamed and isinstance(body, Stream) and response.status == 200:
            assert isinstance(request.body, bytes)
            go_on = partial(self._go_on, ctx, request.path, request.body, answer)
            response.body = self._migration.follow(ctx, candidate, body, request.body, go_on)
        return response

    def _go_on(
        self, ctx: Context, path: str, body: bytes, answer: int, candidate: Candidate, begun: Transcript
    ) -> Awaitable[Response]:
        """Of the request no more is held while its answer streams."""
        return self._ask(ctx, Request("POST", path, "", {}, body), answer, candidate, begun)

    def _ask(
        self,
        ctx: Context,
        request: Request,
        answer: int,
        candidate: Candidate,
        begun: Transcript | None = None,
    ) -> Awaitable[Response]:
        """One attempt at `candidate`; `begun` is the answer that it is to go on with."""
        endpoint, target = candidate
        assert target is not None
        assert isinstance(request.body, bytes)
        ctx.release = endpoint.release
        streamed = ctx.streamed
        body = _body_for(
            target, request.body, ctx.payload.model, ctx.tier.alias, usage_forced=not ctx.usage_wanted
        )
        extra: Mapping[bytes, bytes] = {}
        timeouts: Timeouts = ctx.route.timeouts
        if streamed:
            first_byte = min(self._first_token(ctx.prompt_tokens), timeouts.first_byte)
            timeouts = structs.replace(timeouts, first_byte=first_byte)
            body, extra = _continuing(ctx, candidate, body, begun)
        return self._attempts.make(
            ctx,
            endpoint,
            self._request(ctx, request, candidate, body, extra),
            timeouts,
            judge_stream if streamed else judge_whole,
            Load(ctx.prompt_tokens, answer),
            streamed=streamed,
            whole=not streamed,
        )

    def _pick(self, ctx: Context, answer: int) -> Candidate:
        open_to = self._attempts.open_to(ctx)
        only = open_to[0].endpoint if len(open_to) == 1 else None
        if only is not None and (only.active < ADMITTED or not only.internal):
            candidate, reason = open_to[0], "only one"
        else:
            prompt = Prompt(_prompt_text(ctx.payload), answer, ctx.route.priority)
            endpoints = [candidate.endpoint for candidate in open_to]
            weights = [_weight(candidate) for candidate in open_to]
            choice = self._balancer.pick(endpoints, prompt, weights)
            candidate, reason = open_to[choice.place], choice.reason
        ctx.decide("balancer", candidate.endpoint.instance, reason)
        return candidate

    async def _restarted(self, ctx: Context, restarts: Restarts, candidate: Candidate) -> Candidate:
        endpoint = await restarts.instead(ctx, INFERENCE, candidate.endpoint)
        return Candidate(endpoint, candidate.target)

    def _request(
        self,
        ctx: Context,
        request: Request,
        candidate: Candidate,
        body: bytes,
        extra: Mapping[bytes, bytes],
    ) -> Request:
        headers = {b"content-type": b"application/json", b"accept": b"application/json, text/event-stream"}
        path = request.path
        if candidate.endpoint.internal:
            add_internal(headers, ctx, self._signer, INFERENCE)
            headers.update(extra)
        else:
            path = path.removeprefix("/v1")
            if ctx.trace_id:
                headers[b"traceparent"] = traceparent(ctx)
            key = self._key(candidate.target)
            if key:
                headers[b"authorization"] = b"Bearer " + key.encode()
        return Request("POST", path, "", headers, body)

    def _key(self, target: Target | None) -> str:
        if target is None or not target.api_key_env:
            return ""
        key = self._environment.get(target.api_key_env)
        if not key:
            raise Unavailable(
                "the model is not set up completely: the platform has no key for its provider",
                code="target_not_configured",
                detail=f"the gateway has no environment variable {target.api_key_env}, the target's key",
            )
        return key


def _continuing(
    ctx: Context, candidate: Candidate, body: bytes, begun: Transcript | None
) -> tuple[bytes, Mapping[bytes, bytes]]:
    """A stream's body and headers, such that it can be continued, or goes on with what was begun."""
    if candidate.endpoint.internal:
        if begun is not None:
            return local_body(body, begun), CONTINUED
        return body, TRACED if never(ctx.payload) is None else {}
    if begun is None:
        return body, {}
    assert candidate.target is not None
    return prefill_body(body, ctx.payload, begun, Prefill(candidate.target.continuation)), {}


def _prompt_text(payload: object) -> bytes:
    """The prompt from its beginning, in a form in which equal beginnings are equal bytes."""
    for name in ("messages", "prompt", "input"):
        value = getattr(payload, name, None)
        if value is not None:
            return msgspec.json.encode(value)
    return b""


def _weight(candidate: Candidate) -> int:
    return candidate.target.weight if candidate.target is not None else candidate.endpoint.weight


def _body_for(target: Target, body: bytes, asked: str, alias: str, *, usage_forced: bool) -> bytes:
    """The client's bytes with the target's name of the model (`asked` is the client's, `alias` that of the
    tier), and the usage asked for."""
    name = (target.url and target.model) or alias
    rename = name != asked
    if not rename and not usage_forced:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if rename:
        fields["model"] = msgspec.Raw(msgspec.json.encode(name))
    if usage_forced:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    return msgspec.json.encode(fields)


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    parsed = {} if options is None else msgspec.json.decode(options, type=dict[str, msgspec.Raw] | None) or {}
    parsed["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(msgspec.json.encode(parsed))
