"""While the user service is down: the last known profile, read-only."""

from moonpool.contracts.fallback import Fallback, FallbackParts, ReadOnly


def create(parts: FallbackParts) -> Fallback:
    return ReadOnly(parts, "profiles are")
