"""How circuit breakers, retries and their budget behave: the settings, each with the default it is known by.

Frozen, and checked where they are read, so that a section of the configuration can be of these types.
"""

from typing import Annotated

import msgspec

LARGEST_COUNT = 2**53
"""Up to here numbers of all kinds are exact, JavaScript's (the console's) included."""
LONGEST = 365 * 86_400.0
"""Seconds. What is meant to last for ever may as well last a year; clocks overflow beyond."""
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_COUNT)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=LONGEST)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=LONGEST)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Jitter = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one endpoint's breaker, except `panic` (of a pool). All times are seconds."""

    consecutive_failures: PositiveInt = 5
    """So many failures in a row open it."""
    ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """This share of failed calls opens it…"""
    minimum_calls: PositiveInt = 20
    """…of at least so many…"""
    window: Positive = 30.0
    """…within this time."""
    open_first: Positive = 5.0
    """How long it stays open the first time; doubled each time that it does not recover…"""
    open_longest: Positive = 300.0
    """…up to this, which also bounds how long an upstream's Retry-After is obeyed."""
    jitter: Jitter = 0.2
    """Share by which open periods differ, either way."""
    probes: Annotated[tuple[PositiveInt, ...], msgspec.Meta(min_length=1)] = (1, 2, 4)
    """Real requests let through in each round of half-open; it closes after the last round."""
    probe_lease: Positive = 60.0
    """A probe that has told nothing after this time is given up as neutral."""
    healthy_after: NotNegative = 60.0
    """Closed for this long, the next opening is a first one again."""
    hold: bool = True
    """Whether a single 429 with Retry-After keeps requests away until then. Without it, Retry-After only
    lengthens the open period of a breaker that opens."""
    panic: Share = 0.5
    """Ejection is ignored when more than this share of a pool would be ejected."""
    first_token_base: Positive = 60.0
    """The first token of an empty prompt may take this long…"""
    first_token_per_1k: NotNegative = 30.0
    """…and so much longer for every thousand tokens of prompt: a model on a laptop's CPU reads no faster."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of all requests of a process; the budget is shared by retry, hedge and failover. Seconds."""

    attempts: PositiveInt = 3
    """At most so many, the first one included."""
    statuses: frozenset[int] = frozenset({408, 429, 500, 502, 503, 504})
    """Answers worth another attempt, beside connections that fail or are reset."""
    backoff_base: Positive = 0.025
    backoff_longest: Positive = 1.0
    wait_longest: NotNegative = 60.0
    """An endpoint that wants to be left alone for longer is not waited for: clients are told when to come."""
    budget_share: NotNegative = 0.2
    """Of the requests within the window…"""
    budget_per_second: NotNegative = 10.0
    """…and so many more for every second of it."""
    budget_window: Positive = 10.0


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long requests wait for a process that is being restarted, counted from when the last ready instance
    was lost; after that their fallback answers at once. Seconds."""

    service_patience: NotNegative = 5.0
    model_patience: NotNegative = 60.0
    """Of the local engine, which loads its models first."""


class HedgePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second attempt beside a stream's first one that is slower than `quantile` of its model's. Off by
    default: it buys a shorter tail with more load."""

    enabled: bool = False
    quantile: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.95
    at_least: NotNegative = 0.1
    """Seconds that are always waited."""


class ModelTimeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds, of requests to models; None: as the service's manifest has it."""

    connect: Positive | None = None
    between_tokens: Positive | None = None
    """A stream that is silent for longer is broken off, and continued elsewhere where that is possible."""
    first_token: Positive | None = None
    """At most so long is the first token of a stream waited for, however long the prompt is."""
    whole: Positive | None = None
    """Of one attempt at an answer that is not streamed; without it, as long as all attempts together."""
    total: Positive | None = None
    """Of all attempts together, up to the answer's head."""


class ResilienceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands between a client and failing endpoints."""

    breaker: BreakerPolicy = BreakerPolicy()
    retry: RetryPolicy = RetryPolicy()
    hedge: HedgePolicy = HedgePolicy()
    timeouts: ModelTimeouts = ModelTimeouts()
    restart: RestartPolicy = RestartPolicy()
    overprovisioning: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 1.4
    """How much more than its share the healthy part of a tier is trusted to bear before requests spill over
    to the next one (Envoy's factor)."""
