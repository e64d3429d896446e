"""The signed internal context: how a service knows on whose behalf it is called.

`x-moonpool-context: BASE64URL(json) "." BASE64URL(HMAC-SHA-256)`, with a key of its own for every audience,
so that who may call one service cannot forge calls to another. The edge strips the header from
clients. It names a principal, not a request, hence a caller may reuse one for as long as it is valid.
"""

import base64
import hmac
from hashlib import sha256

import msgspec

from moonpool.core.errors import Unauthenticated
from moonpool.core.principal import Principal

HEADER = b"x-moonpool-context"
REQUEST_ID = b"x-request-id"
LIFETIME = 120.0
"""Seconds a context is valid; a caller makes a new one at half of it."""
SKEW = 30.0
"""Seconds by which two machines' clocks may differ."""


class SignedContext(msgspec.Struct, frozen=True, kw_only=True):
    """`issuer` and `audience` are module names; `expires` is Unix seconds."""

    issuer: str
    audience: str
    expires: float
    principal: Principal


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SignedContext)


def sign(key: bytes, *, issuer: str, audience: str, principal: Principal, now: float) -> bytes:
    """The header's value. `key` is the audience's, `now` Unix seconds."""
    context = SignedContext(issuer=issuer, audience=audience, expires=now + LIFETIME, principal=principal)
    payload = base64.urlsafe_b64encode(_encoder.encode(context))
    return payload + b"." + base64.urlsafe_b64encode(hmac.digest(key, payload, sha256))


def verify(key: bytes, value: bytes, *, audience: str, now: float) -> SignedContext:
    """Raises Unauthenticated for anything that `key` did not sign for `audience`, or that is over."""
    payload, _, signature = value.partition(b".")
    expected = base64.urlsafe_b64encode(hmac.digest(key, payload, sha256))
    if not hmac.compare_digest(signature, expected):
        raise Unauthenticated("the internal context is not signed for this service", code="invalid_context")
    try:
        context = _decoder.decode(base64.urlsafe_b64decode(payload))
    except (msgspec.DecodeError, ValueError):
        raise Unauthenticated("the internal context is malformed", code="invalid_context") from None
    if context.audience != audience:
        raise Unauthenticated("the internal context is for another service", code="invalid_context")
    if context.expires + SKEW < now:
        raise Unauthenticated("the internal context has expired", code="invalid_context")
    return context
