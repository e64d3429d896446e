"""Validation: the one parse of a request's body, by the schema that the route's manifest names.

What does not fit never reaches a service. Unknown fields pass through to the model: the body that goes
on is the client's own bytes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from moonpool.contracts.manifest import Route
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response

Parse = Callable[[bytes], Any]
"""Raises BadRequest or Unprocessable with the place of the fault."""


class Validation:
    """`schemas` by the name that manifests use."""

    def __init__(self, schemas: Mapping[str, Parse]) -> None:
        self._schemas = dict(schemas)

    def applies(self, route: Route) -> bool:
        """Raises ValueError for a schema that nobody knows: when the chain is built, not when it is used."""
        if route.schema and route.schema not in self._schemas:
            raise ValueError(f"{route.method} {route.path} names an unknown schema {route.schema!r}")
        return route.schema != ""

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        body = request.body
        assert isinstance(body, bytes), "a route with a schema has a buffered body"
        if not body:
            raise BadRequest(
                "the request has no body", code="missing_body", hint="Send a JSON object as the body."
            )
        content_type = request.headers.get(b"content-type")
        if content_type is not None and content_type.lower().find(b"json") < 0:
            raise BadRequest(
                "the body's content type is not JSON",
                code="unsupported_content_type",
                hint="Send it with `content-type: application/json`.",
            )
        ctx.payload = self._schemas[ctx.route.schema](body)
        return next(ctx, request)
