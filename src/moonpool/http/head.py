"""The rules for a request's head that llhttp leaves to us. Pure; stands between parsing and request.

llhttp (strict, as httptools 0.9 ships it) refuses itself: bare LF and CR, obs-fold, control characters
and NUL, space before a colon, empty or odd field names, Content-Length that is repeated, empty, signed or
too large, Content-Length beside Transfer-Encoding, a Transfer-Encoding that does not end in `chunked`,
bad chunk sizes and ends, versions it does not know. tests/integration/http holds both halves to account.
"""

import re

from moonpool.core.errors import BadRequest, RequestError
from moonpool.http.framing import HOP_BY_HOP, connection_tokens

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""uri-host with optional port (RFC 9110 §7.2, RFC 3986 §3.2.2)."""

_UPGRADE_LINE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

CONTEXT_PREFIX = b"x-moonpool-"
ACCEPTED_PRIVATE = frozenset({b"x-moonpool-explain", b"x-moonpool-release", b"x-moonpool-cache"})
"""The only fields of ours that a client may send; the rest of the namespace is signed context."""


class TargetTooLong(RequestError):
    status = 414
    code = "uri_too_long"


def check_host(value: bytes | None, *, required: bool) -> None:
    """Raise BadRequest unless `value` is one valid Host (RFC 9112 §3.2)."""
    if value is None:
        if required:
            raise BadRequest("the Host header is missing", code="bad_host")
    elif _HOST.fullmatch(value) is None:
        raise BadRequest("the Host header is not a valid host", code="bad_host")


def origin_target(target: str, host: bytes | None, method: str) -> str:
    """`target` in origin-form. Absolute-form is taken for our own Host only (RFC 9112 §3.2.2)."""
    if target == "*" and method == "OPTIONS":
        return target
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise BadRequest("the request target is neither a path nor a URL of this host", code="bad_target")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    if host is None or rest[:end].lower() != host.decode("latin-1").lower():
        raise BadRequest("the request target names another host than the Host header", code="bad_target")
    path = rest[end:]
    return path if path.startswith("/") else "/" + path


def drop_hop_by_hop(headers: dict[bytes, bytes]) -> bool:
    """Take out what is for this connection only; True when the client wants it closed afterwards."""
    tokens: frozenset[bytes] = frozenset()
    for value in (headers.get(b"connection"), headers.get(b"proxy-connection")):
        if value is not None:
            tokens |= connection_tokens(value)
    for name in HOP_BY_HOP | tokens - {b"host", b"content-length"}:
        headers.pop(name, None)
    return b"close" in tokens


def check_names(headers: dict[bytes, bytes], accepted: frozenset[bytes]) -> None:
    """Refuse names with underscores, which WSGI-like servers read as dashes, and take out the fields
    of our own namespace that are not in `accepted`."""
    for name in list(headers):
        if b"_" in name:
            raise BadRequest("header names may not contain underscores", code="bad_header")
        if name.startswith(CONTEXT_PREFIX) and name not in accepted:
            del headers[name]


def without_upgrade(data: bytes) -> bytes | None:
    """`data` with its first head's Upgrade field taken out, or None when that head is not all there.

    An offer to upgrade may be ignored (RFC 9110 §7.8), but llhttp treats what follows as the new
    protocol's bytes; Java's HTTP client makes that offer (h2c) with its first request, body included.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, count = _UPGRADE_LINE.subn(b"", data[:end])
    return head + data[end:] if count else None
