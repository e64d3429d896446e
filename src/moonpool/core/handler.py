"""A request is a function (Finagle, tower): handlers answer, filters wrap handlers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from moonpool.core.context import Context
from moonpool.core.message import Request, Response

Handler = Callable[[Context, Request], Awaitable[Response]]


class Filter(Protocol):
    """Decides, or asks `next`, or both. What it holds beyond the call it gives back when the answer's body
    settles.

    One that has nothing to do with the answer need be no coroutine function: it returns what `next` does, and
    may raise at once. A frame less is what most of its cost would have been.
    """

    def __call__(self, ctx: Context, request: Request, next: Handler, /) -> Awaitable[Response]: ...


def chain(filters: Sequence[Filter], handler: Handler) -> Handler:
    """`filters`, outermost first, around `handler`. Built once; a call costs one frame a filter."""
    for layer in reversed(filters):
        handler = _bind(layer, handler)
    return handler


def _bind(layer: Filter, next: Handler) -> Handler:
    call = layer.__call__  # looked up once, not a request

    def bound(ctx: Context, request: Request) -> Awaitable[Response]:
        return call(ctx, request, next)

    return bound
