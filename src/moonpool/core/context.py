"""What is known about one request while it passes the filters."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Decision, Flag
from moonpool.core.message import Response
from moonpool.core.principal import ANONYMOUS, Principal


class Attempt:
    """One try at one endpoint, as it is told in the access event. `code` is what it failed of, if it did."""

    __slots__ = ("code", "ended", "endpoint", "error", "release", "started", "status")

    def __init__(self, endpoint: str, release: str, started: float) -> None:
        self.endpoint = endpoint
        self.release = release
        self.started = started
        self.ended: float | None = None
        self.status: int | None = None
        self.error: str | None = None
        self.code = ""


class Context:
    """Lives as long as the request, body included. Typed fields only: what a filter leaves for those
    below stands here with its type and meaning.

    Times are seconds of `clock.monotonic()`.
    """

    # What most requests leave as it is stands once, in the class: filling twenty slots cost more than a
    # filter does.

    request_id = ""
    trace_id = ""
    """W3C trace context: 32 hex digits; `span_id` (16) is this hop's own."""
    span_id = ""
    parent_id = ""
    """The caller's span, when it sent a trace."""
    trace_flags = 0
    trace_state = ""
    principal: Principal = ANONYMOUS
    service = ""
    release = ""
    """Label of the release that answers, without the service."""
    release_wanted = ""
    """Label of the release that the version router chose; "" when any may answer."""
    route: Any = None
    """The matched `contracts.manifest.Route` (core knows no contracts)."""
    allowed: tuple[str, ...] = ()
    """Methods that the path knows, when the request's is not among them."""
    parameters: Mapping[str, str] = MappingProxyType({})
    """Values of the route's path parameters, percent-decoded."""
    payload: Any = None
    """The body as the route's schema parsed it: one parse for everything below validation."""
    deadline: Deadline | None = None
    limits: Any = None
    """The `middleware.limit_rules.Plan` of the first stage of limits, for the second."""
    error_fields: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields that the answer gets if it is an error's: who knew them had no answer to put them on."""
    stale: Callable[[], Response] | None = None
    """Makes the answer of a cache entry that is past its freshness but may still be served when
    everything below fails. Left by the cache, called at most once."""
    fallback = ""
    """What was answered instead ("stale", "failover", "service", "degraded"); "" for the real answer."""
    tier: Any = None
    """The `balancing.tiers.Tier` that is being tried, set by failover for retry and the upstream."""
    last_tier = True
    """Whether nobody is left to be asked after it."""
    model = ""
    """The alias that answers, on routes of models: what the client asked for, or the fallback for it."""
    streamed = False
    """Whether a model's answer was asked for as a stream."""
    prompt_tokens = 0
    """An estimate from the prompt's length, for load and for usage that nobody reports."""
    tariff: Any = None
    """The `middleware.money.Tariff` by which metering prices what it counts; None: it is free."""
    usage: Any = None
    """The `contracts.usage.Usage` that metering counted, there before its answer's body settles."""
    produced: Callable[[int], None] | None = None
    """Told now and then by metering how many tokens more have come of what its endpoint owes."""
    progress: Callable[[int], None] | None = None
    """Told now and then by metering how many tokens of a stream have come, in all."""
    usage_wanted = True
    """Whether the client asked for the usage chunk of a stream."""
    letter = False
    """Whether this is a dead letter on its way again: its usage is counted when it is done, not before."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.started = clock.monotonic()
        self.decisions: list[tuple[str, str, str, float]] = []
        self.flags: list[Flag] = []
        self.attempts: list[Attempt] = []

    def decide(self, filter_name: str, verdict: str, reason: str = "") -> None:
        """Record who decided what, and why."""
        self.decisions.append((filter_name, verdict, reason, self.clock.monotonic()))

    def trace(self) -> list[Decision]:
        """The decisions so far, with names."""
        return [Decision(*entry) for entry in self.decisions]


USUAL = (
    "service",
    "route",
    "deadline",
    "trace_id",
    "span_id",
    "request_id",
    "trace_flags",
    "principal",
    "limits",
    "payload",
    "model",
    "streamed",
    "usage_wanted",
    "prompt_tokens",
    "progress",
    "tier",
    "last_tier",
    "release",
    "release_wanted",
    "produced",
    "parameters",
    "parent_id",
    "tariff",
    "usage",
)
"""What requests that go well have set of a context, beside what `__init__` sets."""


def _lay_out() -> None:
    """Have contexts share one layout of attributes.

    CPython shares that of the names which a class's first objects have, 29 of them at most
    (Objects/dictobject.c, SHARED_KEYS_MAX_SIZE). The first requests of a process set few: every later context
    became a dictionary of its own half-way, of 832 bytes instead of 320.
    """
    first = Context()
    for name in USUAL:
        setattr(first, name, getattr(first, name))


_lay_out()
