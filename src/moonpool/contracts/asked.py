"""What makes a request the same one, however often it arrives.

    first arrival ──► done, under its name ──► the process is killed before the answer
    again (retried, or replayed from a dead letter) ──► the same name ──► what was done then

A client that sends an `Idempotency-Key` names its request itself; any other is named by the id that the
gateway gave it, which retries and replays keep. Names belong to a user, and to one operation on one path.
"""

from hashlib import blake2b

import msgspec

from moonpool.core.errors import BadRequest

LONGEST_KEY = 255
"""Characters of an Idempotency-Key."""


class Asked(msgspec.Struct, frozen=True):
    """`name` is the same for what is the same request. `fingerprint` is that of what was asked: a name that
    comes with another one is a client's mistake."""

    name: str
    fingerprint: str


def asked(
    *, tenant: str, user: str, method: str, path: str, request_id: str, key: str, body: bytes
) -> Asked | None:
    """None for a request that nothing names. `body` is taken byte by byte: releases that understand it
    differently must agree about its name. Raises BadRequest."""
    if len(key) > LONGEST_KEY:
        raise BadRequest(
            f"the Idempotency-Key has more than {LONGEST_KEY} characters",
            code="invalid_idempotency_key",
            param="idempotency-key",
            hint="Send a UUID.",
        )
    by = key or request_id
    if not by:
        return None
    return Asked(_digest(tenant, user, method, path, by), blake2b(body, digest_size=24).hexdigest())


def _digest(*texts: str) -> str:
    """With each text's end marked, so that no two lists give the same bytes."""
    marked = b"".join(text.encode("utf-8", "surrogatepass") + b"\0" for text in texts)
    return blake2b(marked, digest_size=24).hexdigest()
