"""What a model's request asks for: the alias is looked up once, for everything that comes after.

Tokens are limited, answers cached, load balanced by what stands here. Estimates go by bytes: exact counts
would cost a tokeniser on every request, and are known when the answer is there.
"""

from collections.abc import Awaitable
from typing import Protocol

from moonpool.balancing.models import Models
from moonpool.contracts.manifest import BalancerKind, Route
from moonpool.core.context import Context
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response

CAPABILITIES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/beta/completions": "completions",
    "/v1/embeddings": "embeddings",
}
BYTES_PER_TOKEN = 4
"""Of a request's body. For estimates only, of load and of usage that nobody reported."""


class ModelRequest(Protocol):
    """What is read of a request, whichever struct of openai.schema it was parsed to."""

    @property
    def model(self) -> str: ...

    @property
    def stream(self) -> bool | None: ...


class Resolution:
    def __init__(self, models: Models) -> None:
        self._models = models

    def applies(self, route: Route) -> bool:
        return route.balancer is BalancerKind.INFERENCE

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        """Raises NotFound for an unknown alias, BadRequest for one that cannot do this."""
        payload: ModelRequest = ctx.payload
        assert isinstance(request.body, bytes)
        ctx.model = self._models.get(payload.model, CAPABILITIES[request.path]).id
        ctx.streamed = streamed = bool(payload.stream)
        ctx.usage_wanted = not streamed or getattr(payload, "includes_usage", False)
        ctx.prompt_tokens = len(request.body) // BYTES_PER_TOKEN + 1
        return next(ctx, request)
