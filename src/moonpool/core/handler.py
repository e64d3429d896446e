"""A request is a function (Finagle, tower): handlers answer, filters wrap handlers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from moonpool.core.context import Context
from moonpool.core.message import Request, Response

Handler = Callable[[Context, Request], Awaitable[Response]]


class Filter(Protocol):
    """Decides, or asks `next`, or both. Holds nothing beyond the call unless `Response.when_settled`
    gives it back."""

    async def __call__(self, ctx: Context, request: Request, next: Handler, /) -> Response: ...


def chain(filters: Sequence[Filter], handler: Handler) -> Handler:
    """`filters`, outermost first, around `handler`. Built once; a call costs one frame a filter."""
    for layer in reversed(filters):
        handler = _bind(layer, handler)
    return handler


def _bind(layer: Filter, next: Handler) -> Handler:
    def call(ctx: Context, request: Request) -> Awaitable[Response]:
        return layer(ctx, request, next)

    return call
