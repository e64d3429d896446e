"""What an endpoint answered to a model's request, as clients may see it. Pure.

Endpoints are other people's programs behind other people's proxies. What is no answer of the agreed form
is our failure towards the client, and so is a refusal of *our* key, address or balance: told as it came,
a client would take it for a verdict on its own. Other refusals keep their status and their words.
"""

import msgspec

from moonpool.core.body import Stream
from moonpool.core.errors import UpstreamError, UpstreamMalformed
from moonpool.core.message import Response
from moonpool.middleware.answered import Answered, asked_wait
from moonpool.openai.errors import ErrorBody, ErrorObject
from moonpool.openai.reported import Reported, check

KEPT = frozenset({b"retry-after", b"retry-after-ms", b"x-should-retry"})
PASSING = frozenset({408, 429})
"""Refusals of now and here, beside those from 500 on."""
STREAM = b"text/event-stream"
JSON = b"json"
MARKS = (b'"choices"', b'"data"')
"""One of these is in every answer of a model."""
OURS = {
    401: ("refused the platform's key", "Set the variable that the target's `api_key_env` names."),
    402: ("refused the platform's account", "Pay its bill, or give the model another target."),
    403: ("refused the platform's key", "Set the variable that the target's `api_key_env` names."),
    405: ("does not know this path", "Check the target's `url`: it usually ends in /v1."),
    407: ("is behind a proxy that refused us", "Check the target's `url`."),
}
"""Refusals that say nothing about the client's request, by status: for clients, and for who can mend it."""


def judge(response: Response, *, streamed: bool) -> Response:
    """The answer as a client may see it. The body of a refusal is bytes.

    Raises UpstreamError for what is no answer, and Answered for a refusal that somebody else may better.
    """
    if response.status == 200:
        fault = _fault(response, streamed=streamed)
        if fault is None:
            return response
        try:
            if isinstance(response.body, bytes):
                check(response.body)
        except Reported as error:
            return judge(error.response, streamed=streamed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        raise UpstreamMalformed(f"the endpoint's answer is {fault}")
    assert isinstance(response.body, bytes) or response.status < 400
    refusal = _refusal(response, response.body if isinstance(response.body, bytes) else b"")
    if refusal.status >= 500 or refusal.status in PASSING:
        raise Answered(refusal, retry_after=asked_wait(refusal))
    return refusal


def _fault(response: Response, *, streamed: bool) -> str | None:
    """What is wrong with a good answer."""
    kind = (response.header(b"content-type") or b"").lower()
    if streamed:
        return None if kind.startswith(STREAM) else "no stream of events"
    if JSON not in kind:
        return "no JSON"
    body = response.body
    if isinstance(body, Stream):
        return None  # too long to be looked at here
    if (body[:1] != b"{" and not body.lstrip().startswith(b"{")) or not body.rstrip().endswith(b"}"):
        return "no JSON object"
    return None if any(mark in body for mark in MARKS) else "not a model's"


def _refusal(response: Response, text: bytes) -> Response:
    status = response.status
    if status in OURS:
        what, hint = OURS[status]
        raise _ours(f"the endpoint {what} (status {status})", hint)
    if status < 400:
        raise UpstreamMalformed(f"the endpoint answered with status {status} instead of an answer")
    told = _told(text)
    if told is None and status == 404:
        what, hint = OURS[405]
        raise _ours(f"the endpoint {what} (status 404)", hint)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = told or ErrorObject(f"the endpoint answered with status {status}", kind, None, "upstream_error")
    if not error.type:
        error = msgspec.structs.replace(error, type=kind)
    headers = [field for field in response.headers if field[0] in KEPT]
    headers.append((b"content-type", b"application/json"))
    return Response(status, headers, msgspec.json.encode(ErrorBody(error)))


def _ours(message: str, hint: str) -> UpstreamError:
    return UpstreamError(message, code="upstream_refused", detail=f"{message}. {hint}")


class _Told(msgspec.Struct):
    """The ways in which endpoints tell an error: OpenAI's object, a text in its place, or beside it."""

    error: object = None
    message: object = None
    detail: object = None


def _told(text: bytes) -> ErrorObject | None:
    try:
        told = msgspec.json.decode(text, type=_Told)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    inner = told.error if isinstance(told.error, dict) else {}
    message = inner.get("message") or told.error or told.message or told.detail
    if not isinstance(message, str):
        return None
    return ErrorObject(
        message,
        _word(inner.get("type")) or "",
        _word(inner.get("param")),
        _word(inner.get("code")),
    )


def _word(value: object) -> str | None:
    """Codes are numbers at some endpoints."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
