"""Errors that endpoints tell inside of an answer whose head said 200. Pure.

Servers that send the head before they have looked at the request tell what is wrong in the place of the first
event; some proxies do so with whole answers, too. The object is the one that would have come with the status.
"""

import msgspec

from moonpool.core.errors import UpstreamError
from moonpool.core.message import Response

WITHOUT_WORDS = 500
_STATUSES = {
    "authentication_error": 401,
    "badrequesterror": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "insufficient_balance": 402,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "notfounderror": 404,
    "overloaded_error": 503,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
    "service_unavailable": 503,
    "timeout_error": 504,
}
"""Of the words that OpenAI, DeepSeek, Anthropic's dialect and vLLM use for types and codes, in lower case."""


class Reported(UpstreamError):
    """`response` is what the endpoint would have answered, had it not begun with 200."""

    code = "upstream_reported_error"

    def __init__(self, status: int, told: bytes) -> None:
        super().__init__("the endpoint reported an error at once")
        self.response = Response(status, [(b"content-type", b"application/json")], told)


class _Told(msgspec.Struct):
    error: object = None


_decode = msgspec.json.Decoder(_Told).decode


def check(data: bytes) -> None:
    """Raises Reported when `data`, an object of JSON, tells of an error, and what msgspec raises when it is
    none."""
    error = _decode(data).error
    if error:
        raise Reported(_status(error), data)


def _status(error: object) -> int:
    """Numbers are HTTP's where they can be. Of words the code says more than the type."""
    if not isinstance(error, dict):
        return WITHOUT_WORDS
    words = [error.get(name) for name in ("code", "status", "type")]
    for word in words:
        number = int(word) if isinstance(word, str) and len(word) == 3 and word.isdecimal() else word
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    known = [_STATUSES.get(word.lower()) for word in words if isinstance(word, str)]
    return next((status for status in known if status is not None), WITHOUT_WORDS)
