"""What the auth service answers about callers."""

from typing import Protocol

import msgspec

from moonpool.core.principal import Principal

REVOCATIONS = "auth.revocations"
"""Event-log topic: each event's key is an API key's id whose cached verdicts must be forgotten."""

SCOPES = ("inference", "chat", "files", "training", "usage", "keys", "profile", "monitoring", "admin")
"""The words a key's scopes, and a route's, are made of."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer about a key. `principal` is None for a key that is unknown, revoked or expired (then
    `reason` says which). `expires_at` (Unix seconds) is when the key itself ends, if it does."""

    principal: Principal | None
    expires_at: float | None = None
    reason: str = ""


class VerifyKey(msgspec.Struct, frozen=True):
    key: str


class AuthClient(Protocol):
    async def verify(self, key: str) -> Verdict:
        """Raises Unavailable when the auth service is away."""
