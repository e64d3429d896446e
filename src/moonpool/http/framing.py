"""What HTTP/1.1 says about fields and framing, as tables that server and client share."""

from http import HTTPStatus

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Never forwarded, in either direction (RFC 9110 §7.6.1; the proxy-* fields of RFC 9110 §11.7)."""

SINGLETONS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-range",
        b"content-type",
        b"date",
        b"expect",
        b"from",
        b"host",
        b"idempotency-key",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"max-forwards",
        b"origin",
        b"proxy-authorization",
        b"range",
        b"referer",
        b"traceparent",
        b"transfer-encoding",
        b"user-agent",
        b"x-request-id",
    }
)
"""Request fields that are no lists: a second one is an attack or a bug (RFC 9110 §5.3)."""

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
"""What the edge takes. CONNECT and TRACE have no use behind a gateway and some against it."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 §9.2.2)."""

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """The line of any three-digit status, also of those that have no name."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def bodiless(status: int) -> bool:
    """Whether an answer of that status has no body by definition (RFC 9110 §6.4.1)."""
    return status < 200 or status in (204, 304)


def connection_tokens(value: bytes) -> frozenset[bytes]:
    """The options of a Connection field, in lower case."""
    return frozenset(token.strip() for token in value.lower().split(b","))
