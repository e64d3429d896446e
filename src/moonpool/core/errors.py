"""The one tree of errors that cross layers.

    MoonpoolError                      status, OpenAI type and code, param, hint, retry_after
    ├── RequestError        4xx        the client can mend it
    │   ├── BadRequest 400 · Unauthenticated 401 · PaymentRequired 402 · PermissionDenied 403
    │   ├── NotFound 404 · MethodNotAllowed 405 · RequestTimeout 408 · Conflict 409
    │   ├── PayloadTooLarge 413 · Unprocessable 422 · RateLimited 429 · HeadersTooLarge 431
    │   └── ClientGone 499             nobody is left to answer
    ├── PlatformError       5xx        we can mend it
    │   ├── InternalError 500 · Unavailable 503 · Overloaded 503 · DeadlineExceeded 504
    │   ├── CircuitOpen 503 · Throttled 429      no endpoint may be asked right now
    │   ├── StoreAway 503                        a store that many share; it tells so by itself, once
    │   └── UpstreamError 502          an attempt at an endpoint failed
    │       ├── ConnectFailed · ConnectionReset · UpstreamMalformed
    │       ├── FirstByteTimeout 504 · StreamStalled 504
    │       └── StreamTruncated        the body ended before its end
    └── StartupError                   a process cannot start: says where and what to do

Each adapter translates its driver's errors at its edge; nothing is wrapped twice.
"""

from typing import ClassVar


class MoonpoolError(Exception):
    """An error with what a client is told about it.

    `message` says what is wrong, `hint` what to do about it; both are safe to show to any client: no
    addresses, no names of the inside, nothing that only an operator could mend. That is in `detail`, which
    stands in the message's place in logs, decisions and dead letters. `retry_after` is in seconds.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None
    should_retry: bool | None = None
    """What `x-should-retry` tells the SDKs; None: nothing, they go by the status."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = message if detail is None else detail
        self.param = param
        self.hint = hint
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class RequestError(MoonpoolError):
    """The request cannot be served as it is; repeating it unchanged will not help."""

    status = 400
    type = "invalid_request_error"


class BadRequest(RequestError):
    pass


class Unauthenticated(RequestError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PaymentRequired(RequestError):
    status = 402
    type = "insufficient_balance"
    code = "insufficient_balance"


class PermissionDenied(RequestError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class NotFound(RequestError):
    status = 404
    code = "not_found"


class MethodNotAllowed(RequestError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message, hint=f"Use {' or '.join(allow)}.")
        self.allow = allow


class RequestTimeout(RequestError):
    status = 408
    code = "request_timeout"


class Conflict(RequestError):
    status = 409
    code = "conflict"


class PayloadTooLarge(RequestError):
    status = 413
    code = "payload_too_large"


class Unprocessable(RequestError):
    status = 422
    code = "unprocessable"


class RateLimited(RequestError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class HeadersTooLarge(RequestError):
    status = 431
    code = "headers_too_large"


class ClientGone(RequestError):
    """The client closed its connection; the status exists for logs only (nginx's 499)."""

    status = 499
    code = "client_gone"


class PlatformError(MoonpoolError):
    """The platform failed; the same request may well succeed later."""


class InternalError(PlatformError):
    code = "internal_error"


class Unavailable(PlatformError):
    status = 503
    code = "service_unavailable"


class CircuitOpen(Unavailable):
    """The endpoints that could answer have failed a moment ago, and are left alone until `retry_after`."""

    code = "circuit_open"


class Throttled(CircuitOpen):
    """As CircuitOpen, but all that the endpoints did was to ask for a pause: nobody's failure."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class StoreAway(Unavailable):
    """A store that many share does not answer. That it went, and that it is back, is logged by who holds the
    connection: whoever can do without it has nothing to say for each request."""


class Overloaded(PlatformError):
    status = 503
    code = "server_is_overloaded"


class DeadlineExceeded(PlatformError):
    status = 504
    code = "deadline_exceeded"


class UpstreamError(PlatformError):
    """One attempt at one endpoint failed."""

    status = 502
    code = "upstream_error"


class ConnectFailed(UpstreamError):
    """No connection could be made: the endpoint never saw the request."""

    code = "upstream_connect_failed"


class ConnectionReset(UpstreamError):
    """The connection broke before the head of the answer was complete."""

    code = "upstream_reset"


class UpstreamMalformed(UpstreamError):
    """The endpoint answered something that is not HTTP, or not the agreed format."""

    code = "upstream_malformed"


class FirstByteTimeout(UpstreamError):
    status = 504
    code = "upstream_first_byte_timeout"


class StreamStalled(UpstreamError):
    """A started body fell silent for longer than the route allows."""

    status = 504
    code = "upstream_stalled"


class StreamTruncated(UpstreamError):
    """A started body ended before its declared or logical end."""

    code = "upstream_truncated"


class StartupError(MoonpoolError):
    """A process cannot start. `where` names the file, line, port or folder; `hint` the way out."""

    code = "startup"

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  → {self.hint}" if self.hint else text
