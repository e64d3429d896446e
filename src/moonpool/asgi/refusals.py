"""What a service tells of a request that does not fit, in the words of the OpenAI surface.

    body        DocumentRequest ──► openai.parse     exactly as the gateway reads those it has a schema for
    parameter   Litestar's refusal ──► translate     the same words

A service answers 4xx to whatever a client can send: its 5xx count as its own failures, and open its breaker.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException

from moonpool.core.errors import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    MoonpoolError,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    RateLimited,
    RequestError,
    Unauthenticated,
    Unprocessable,
)
from moonpool.openai import wellformed
from moonpool.openai.parse import HINTS, mismatch, missing, parse

_HINTS = {name: HINTS[name] for name in ("model", "stream", "temperature", "max_tokens")}
"""Where a field means here what it means to models."""
_BODY = "data"
"""What Litestar calls the body, by the handlers' argument."""
_MISSING = re.compile(r"Missing required \w+ parameter '(?P<name>[^']+)'")
_REFUSALS: dict[int, type[RequestError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    413: PayloadTooLarge,
    422: Unprocessable,
    429: RateLimited,
}


class DocumentRequest(Request[Any, Any, Any]):
    """A request whose JSON is read straight into what its handler takes."""

    async def json(self) -> Any:
        """Raises BadRequest with the place of the fault."""
        body = await self.body()
        field = self.route_handler.parsed_data_field
        assert field is not None, "only a handler that takes a body reads it"
        if wellformed.may_be_deep(body):  # whoever calls from within has not passed the gateway's look
            wellformed.check(body)
        shape: type[msgspec.Struct] = field.annotation
        return parse(shape, body, _HINTS)


def translate(request: Request[Any, Any, Any], error: HTTPException) -> MoonpoolError:
    """Litestar's own refusals, as ours."""
    if isinstance(error, ValidationException):
        return _parameter(error)
    if error.status_code == 404:
        return NotFound(f"no {request.method} {request.url.path} here")
    if error.status_code == 405:
        allow = (error.headers or {}).get("allow", "another method")
        return MethodNotAllowed(f"{request.method} is not allowed here", allow=tuple(allow.split(", ")))
    if 400 <= error.status_code < 500:
        return _REFUSALS.get(error.status_code, BadRequest)(error.detail)
    return InternalError("the service failed")


def _parameter(error: ValidationException) -> BadRequest:
    """Of the query, the path or the headers; the body is only here when there is none."""
    first: object = error.extra[0] if isinstance(error.extra, list) and error.extra else None
    if isinstance(first, Mapping):
        name = str(first.get("key", ""))
        if name == _BODY:
            return wellformed.missing()
        return mismatch(str(first.get("message", error.detail)), name, {})
    lacking = _MISSING.match(error.detail)
    if lacking is not None:
        return missing(lacking["name"], {})
    return BadRequest(error.detail, code="invalid_value")
