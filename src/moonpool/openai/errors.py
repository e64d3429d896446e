"""Errors as clients of the OpenAI surface know them: `{"error": {"message", "type", "param", "code"}}`.

The SDKs map the status to a typed error and retry 408, 409, 429 and 5xx unless `x-should-retry: false`.
"""

import math

import msgspec

from moonpool.core.errors import InternalError, MethodNotAllowed, MoonpoolError, StartupError
from moonpool.core.message import Response, ResponseHeaders

LONGEST_WAIT = 120.0
"""Seconds. The SDKs do not wait longer than this, so a retry would come too early to be of use."""
POINTLESS_CODES = frozenset({"insufficient_quota", "insufficient_balance"})
"""Waiting does not mend these, whatever their status."""


class ErrorObject(msgspec.Struct, frozen=True, gc=False):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, gc=False):
    error: ErrorObject


_encode = msgspec.json.Encoder().encode


def error_object(error: Exception) -> ErrorObject:
    """What a client is told: message and hint of ours, nothing of an exception that is not ours."""
    known = _known(error)
    message = known.message
    if known.hint:
        message = f"{message}{'' if message.endswith(('.', '!', '?')) else '.'} {known.hint}"
    return ErrorObject(message, known.type, known.param, known.code)


def render_error(error: Exception) -> Response:
    """The whole answer of a request that failed before its first byte."""
    known = _known(error)
    headers: ResponseHeaders = [(b"content-type", b"application/json")]
    if known.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(0, math.ceil(known.retry_after))))
    if _retry_is_pointless(known):
        headers.append((b"x-should-retry", b"false"))
    if isinstance(known, MethodNotAllowed):
        headers.append((b"allow", ", ".join(known.allow).encode()))  # RFC 9110 section 15.5.6
    if known.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="moonpool"'))  # RFC 9110 section 15.5.2
    return Response(known.status, headers, _encode(ErrorBody(error_object(known))))


def render_stream_error(error: Exception) -> bytes:
    """The event that tells of a failure after the head of a stream was sent. No `[DONE]` may follow."""
    return b"data: " + _encode(ErrorBody(error_object(error))) + b"\n\n"


def _known(error: Exception) -> MoonpoolError:
    if isinstance(error, MoonpoolError) and not isinstance(error, StartupError):
        return error
    return InternalError("An internal error occurred.", hint="Try again; the operator's log has the details.")


def _retry_is_pointless(error: MoonpoolError) -> bool:
    if error.code in POINTLESS_CODES or error.should_retry is False:
        return True
    return error.retry_after is not None and error.retry_after > LONGEST_WAIT
