"""While billing is down: the last known usage, read-only. Nothing is lost meanwhile: usage waits in the
gateway's journal and the event log, and is counted exactly once when billing is back."""

from moonpool.contracts.fallback import Fallback, FallbackParts, ReadOnly


def create(parts: FallbackParts) -> Fallback:
    return ReadOnly(parts, "bills are")
