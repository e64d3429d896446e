"""The record of one request with its decisions, as monitoring keeps it and `explain` draws it."""

import msgspec

TOPIC = "requests"


class DecisionRecord(msgspec.Struct, frozen=True):
    """`at_ms` counts from the request's arrival."""

    filter: str
    verdict: str
    reason: str
    at_ms: float


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str
    release: str
    started_ms: float
    ended_ms: float | None
    status: int | None
    error: str | None


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One logical request. Prompts, answers and keys are never in it."""

    id: str
    trace_id: str
    at: float
    method: str
    route: str
    status: int
    service: str
    release: str
    user: str
    tenant: str
    key: str
    peer: str
    duration_ms: float
    first_byte_ms: float | None
    bytes_out: int
    outcome: str
    flags: tuple[str, ...]
    attempts: tuple[AttemptRecord, ...]
    decisions: tuple[DecisionRecord, ...]
