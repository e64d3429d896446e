"""The end of the chain of models: alias → targets → the endpoint that answers soonest.

The body that goes on is the client's own bytes, unless the target knows the model by another name or a
stream must be made to report its usage.
"""

import os
from collections.abc import Mapping
from typing import Protocol

import msgspec

from moonpool.balancing.inference import InferenceBalancer, Prompt
from moonpool.balancing.lease import Lease
from moonpool.balancing.models import INFERENCE, Candidate, Models
from moonpool.contracts.catalogue import Target
from moonpool.contracts.manifest import Timeouts
from moonpool.core.context import Context
from moonpool.core.errors import Unavailable
from moonpool.core.message import Request, Response
from moonpool.http.client import Client
from moonpool.middleware.attempt import attempt
from moonpool.middleware.signing import ContextSigner
from moonpool.middleware.upstream import add_internal, traceparent

CAPABILITIES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/beta/completions": "completions",
    "/v1/embeddings": "embeddings",
}
FROM_EXTERNAL = frozenset(
    {b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"cache-control"}
)
"""Response fields of external endpoints that clients see; their own ids and cookies are not ours."""
BYTES_PER_TOKEN = 4
"""Of a request's body. For estimates only, of load and of usage that nobody reported."""
DEFAULT_ANSWER = 256
"""Answer tokens assumed of a request that sets no bound."""


class ModelRequest(Protocol):
    """What is read of a request, whichever struct of openai.schema it was parsed to."""

    @property
    def model(self) -> str: ...

    @property
    def stream(self) -> bool | None: ...


class InferenceUpstream:
    def __init__(
        self,
        *,
        models: Models,
        balancer: InferenceBalancer,
        client: Client,
        signer: ContextSigner,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._models = models
        self._balancer = balancer
        self._client = client
        self._signer = signer
        self._environment = environment

    async def __call__(self, ctx: Context, request: Request) -> Response:
        payload: ModelRequest = ctx.payload
        assert isinstance(request.body, bytes)
        model = self._models.get(payload.model, CAPABILITIES[request.path])
        ctx.model = model.id
        tiers = self._models.tiers(model.id)
        if not tiers:
            raise Unavailable(
                f"no instance that serves `{model.id}` is running", code="no_instance", retry_after=1.0
            )
        streamed = bool(payload.stream)
        ctx.usage_wanted = not streamed or getattr(payload, "includes_usage", False)
        ctx.prompt_tokens = len(request.body) // BYTES_PER_TOKEN + 1
        answer = getattr(payload, "limit", None) or DEFAULT_ANSWER
        candidate = self._pick(ctx, tiers[0], answer)
        endpoint, target = candidate
        ctx.release = endpoint.release
        body = _body_for(target, request.body, payload.model, usage_forced=not ctx.usage_wanted)
        upstream = self._request(ctx, request, candidate, body)
        timeouts: Timeouts = ctx.route.timeouts
        lease = Lease(endpoint, ctx.clock, prompt=ctx.prompt_tokens, tokens=answer)
        response = await attempt(self._client, ctx, endpoint, upstream, timeouts, lease, whole=not streamed)
        if not endpoint.internal:
            response.headers = [field for field in response.headers if field[0] in FROM_EXTERNAL]
        response.headers.append((b"x-moonpool-release", f"{INFERENCE}@{endpoint.release}".encode()))
        return response

    def _pick(self, ctx: Context, tier: list[Candidate], answer: int) -> Candidate:
        if len(tier) == 1:
            candidate, reason = tier[0], "only one"
        else:
            prompt = Prompt(_prompt_text(ctx.payload), answer, ctx.route.priority)
            endpoints = [candidate.endpoint for candidate in tier]
            weights = [candidate.target.weight for candidate in tier]
            choice = self._balancer.pick(endpoints, prompt, weights)
            candidate, reason = tier[choice.place], choice.reason
        ctx.decide("balancer", candidate.endpoint.instance, reason)
        return candidate

    def _request(self, ctx: Context, request: Request, candidate: Candidate, body: bytes) -> Request:
        headers = {b"content-type": b"application/json", b"accept": b"application/json, text/event-stream"}
        path = request.path
        if candidate.endpoint.internal:
            add_internal(headers, ctx, self._signer, INFERENCE)
        else:
            path = path.removeprefix("/v1")
            if ctx.trace_id:
                headers[b"traceparent"] = traceparent(ctx)
            key = self._key(candidate.target)
            if key:
                headers[b"authorization"] = b"Bearer " + key.encode()
        return Request("POST", path, "", headers, body)

    def _key(self, target: Target) -> str:
        if not target.api_key_env:
            return ""
        key = self._environment.get(target.api_key_env)
        if not key:
            raise Unavailable(
                f"the target's key is not set: the gateway has no environment variable {target.api_key_env}",
                code="target_not_configured",
            )
        return key


def _prompt_text(payload: object) -> bytes:
    """The prompt from its beginning, in a form in which equal beginnings are equal bytes."""
    for name in ("messages", "prompt", "input"):
        value = getattr(payload, name, None)
        if value is not None:
            return msgspec.json.encode(value)
    return b""


def _body_for(target: Target, body: bytes, alias: str, *, usage_forced: bool) -> bytes:
    """The client's bytes with the target's name of the model, and the usage asked for."""
    rename = bool(target.url and target.model and target.model != alias)
    if not rename and not usage_forced:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if rename:
        fields["model"] = msgspec.Raw(msgspec.json.encode(target.model))
    if usage_forced:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    return msgspec.json.encode(fields)


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    parsed = {} if options is None else msgspec.json.decode(options, type=dict[str, msgspec.Raw] | None) or {}
    parsed["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(msgspec.json.encode(parsed))
