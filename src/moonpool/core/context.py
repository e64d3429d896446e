"""What is known about one request while it passes the filters."""

from collections.abc import Callable
from typing import Any

from moonpool.core.clock import SYSTEM_CLOCK, Clock
from moonpool.core.deadline import Deadline
from moonpool.core.decisions import Decision, Flag
from moonpool.core.message import Response
from moonpool.core.principal import ANONYMOUS, Principal


class Attempt:
    """One try at one endpoint, as it is told in the access event."""

    __slots__ = ("ended", "endpoint", "error", "release", "started", "status")

    def __init__(self, endpoint: str, release: str, started: float) -> None:
        self.endpoint = endpoint
        self.release = release
        self.started = started
        self.ended: float | None = None
        self.status: int | None = None
        self.error: str | None = None


class Context:
    """Lives as long as the request, body included. Typed fields only: what a filter leaves for those
    below stands here with its type and meaning.

    Times are seconds of `clock.monotonic()`.
    """

    __slots__ = (
        "allowed",
        "attempts",
        "clock",
        "deadline",
        "decisions",
        "explain",
        "fallback",
        "flags",
        "model",
        "parameters",
        "parent_id",
        "payload",
        "principal",
        "progress",
        "prompt_tokens",
        "release",
        "request_id",
        "route",
        "service",
        "span_id",
        "stale",
        "started",
        "trace_flags",
        "trace_id",
        "trace_state",
        "usage",
        "usage_wanted",
    )

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.started = clock.monotonic()
        self.request_id = ""
        self.trace_id = ""
        """W3C trace context: 32 hex digits; `span_id` (16) is this hop's own."""
        self.span_id = ""
        self.parent_id = ""
        """The caller's span, when it sent a trace."""
        self.trace_flags = 0
        self.trace_state = ""
        self.principal: Principal = ANONYMOUS
        self.service = ""
        self.release = ""
        """Label of the release that answers, without the service."""
        self.route: Any = None
        """The matched `contracts.manifest.Route` (core knows no contracts)."""
        self.allowed: tuple[str, ...] = ()
        """Methods that the path knows, when the request's is not among them."""
        self.parameters: dict[str, str] = {}
        """Values of the route's path parameters, percent-decoded."""
        self.payload: Any = None
        """The body as the route's schema parsed it: one parse for everything below validation."""
        self.deadline: Deadline | None = None
        self.decisions: list[tuple[str, str, str, float]] = []
        self.flags: list[Flag] = []
        self.attempts: list[Attempt] = []
        self.explain = False
        self.stale: Callable[[], Response] | None = None
        """Makes the answer of a cache entry that is past its freshness but may still be served when
        everything below fails. Left by the cache, called at most once."""
        self.fallback = ""
        """What was answered instead ("stale", "service", "degraded"); "" for the real answer."""
        self.model = ""
        """The alias that the client asked for, on routes of models."""
        self.prompt_tokens = 0
        """An estimate from the prompt's length, for load and for usage that nobody reports."""
        self.usage: Any = None
        """The `contracts.usage.Usage` that metering counted, there before its answer's body settles."""
        self.progress: Callable[[int], None] | None = None
        """Told now and then by metering how many tokens of a stream have come, in all."""
        self.usage_wanted = True
        """Whether the client asked for the usage chunk of a stream."""

    def decide(self, filter_name: str, verdict: str, reason: str = "") -> None:
        """Record who decided what, and why."""
        self.decisions.append((filter_name, verdict, reason, self.clock.monotonic()))

    def trace(self) -> list[Decision]:
        """The decisions so far, with names."""
        return [Decision(*entry) for entry in self.decisions]
