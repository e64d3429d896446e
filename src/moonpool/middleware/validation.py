"""Validation: what a body has to be before anything below looks at it, whatever its route.

    any body       not encoded: nobody below decodes
    kept whole     JSON that is called so, well formed, no deeper than documents are (openai/wellformed.py)
    with a schema  the one parse, by the schema that the route's manifest names

What does not fit never reaches a service: one that choked on it would look ill to everybody. Unknown fields
pass through to the model: the body that goes on is the client's own bytes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from moonpool.contracts.manifest import BodyKind, Route
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.openai import wellformed

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
        return route.body is not BodyKind.NONE

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        _check_encoding(request)
        body, schema = request.body, ctx.route.schema
        if isinstance(body, bytes):  # one that is passed on as it arrives is a file, and no document
            if body:
                _check_content_type(request)
                if schema:
                    ctx.payload = self._schemas[schema](body)
                else:
                    wellformed.check(body)
            elif schema:
                raise wellformed.missing()
        return next(ctx, request)


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in {b"", b"identity"}:
        raise BadRequest(
            "Encoded bodies are not taken.",
            code="unsupported_content_encoding",
            param="content-encoding",
            hint="Send the body as it is, without `content-encoding`.",
        )


def _check_content_type(request: Request) -> None:
    content_type = request.headers.get(b"content-type")
    if content_type is not None and content_type.lower().find(b"json") < 0:
        raise BadRequest(
            "The body's content type is not JSON.",
            code="unsupported_content_type",
            hint="Send it with `content-type: application/json`.",
        )
