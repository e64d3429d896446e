"""What the monitoring service answers. Times are Unix seconds (floats), durations milliseconds."""

from typing import Literal

import msgspec

from moonpool.contracts.monitoring import ModuleHealth
from moonpool.core.decisions import Flag


class PlatformHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`ready`: everything is; `degraded`: something is not, and every module still has an instance of
    use; `down`: a module has none. `stale`: nobody could be asked, this is the last known state."""

    status: Literal["ready", "degraded", "down"]
    at: float
    stale: bool = False
    modules: list[ModuleHealth]


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request in a list; `/admin/requests/ID` has the rest."""

    id: str
    at: float
    method: str
    route: str
    status: int
    service: str
    release: str
    user: str
    duration_ms: float
    outcome: str
    flags: list[str]


class RequestPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[RequestLine]
    has_more: bool


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Of recent requests; None: any. `status` is a class (5xx) or one (503)."""

    status: str | None = None
    flag: Flag | None = None
    route: str | None = None
    user: str | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    p50_ms: float | None
    p95_ms: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Of the stored records of the last `minutes`. Gateways store all failures and, above some hundred
    requests/s, only a share of the others: then counts are too low and error shares too high."""

    minutes: float
    requests: int
    requests_per_minute: float
    errors: int
    error_share: float
    duration: Latency
    first_byte: Latency
    flags: dict[str, int]
    """How many requests had each flag, the most frequent first."""
