"""What a service declares about itself: its routes and the policies the gateway applies to them.

A manifest travels with its release, so old and new may differ in all that follows from it. The gateway
composes manifests and knows no service by name.
"""

from enum import StrEnum

import msgspec


class Access(StrEnum):
    """Who may call a route."""

    PUBLIC = "public"
    KEY = "key"
    """Any valid API key or session."""
    ADMIN = "admin"
    """An admin's or owner's key or session."""
    LOCAL = "local"
    """As ADMIN, or any caller on this machine that came through no proxy: scrapers, probes."""


class BalancerKind(StrEnum):
    WEB = "web"
    API = "api"
    INFERENCE = "inference"
    NONE = "none"
    """The gateway answers itself."""


class BodyKind(StrEnum):
    NONE = "none"
    BUFFERED = "buffered"
    STREAMED = "streamed"
    """Passed on as it arrives: uploads."""


class Remember(StrEnum):
    """Whose last known answers of a GET route the gateway keeps, for the time its service is down."""

    NO = "no"
    CALLER = "caller"
    """Each caller's own: whoever has another tenant, user, role or scope does not see them."""
    EVERYONE = "everyone"
    """One for all: only for what is the same whoever asks."""


class Degraded(StrEnum):
    """The last resort of a route, when neither the cache nor the service's fallback has an answer."""

    RETRY_LATER = "retry_later"
    """503 with Retry-After."""
    OBJECT = "object"
    """A valid object that says it is degraded, made by the service's fallback; without one, 503."""


class Letters(StrEnum):
    """Which requests of a route become dead letters (middleware/dead_letter.py)."""

    NO = "no"
    ASKED = "asked"
    """When the client asks for the answer later (`Prefer: respond-async`)."""
    FAILED = "failed"
    """These, and those for which everything else has failed."""


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """For how long answers of a route may be used again, in seconds (RFC 9111; the last two: RFC 5861).

    `every`: also those that would be another each time, without the client asking for it.
    """

    every: bool = False
    fresh: float = 3600.0
    while_revalidating: float = 600.0
    """After that time answered at once still, and renewed behind the answer."""
    if_error: float = 24 * 3600.0
    """After that time answered only when everything else failed."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `total` bounds a whole request with all its attempts up to the answer's head; a
    streamed answer may then go on as long as it does not fall silent for `between_bytes`."""

    total: float = 60.0
    connect: float = 2.0
    first_byte: float = 30.0
    between_bytes: float = 30.0
    whole: float = 0.0
    """Of one attempt at a model's answer that is not streamed, which comes in one piece; 0: `total`."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`path` may have `{name}` segments, and a last `{name:path}` that takes the rest.

    `schema` names the openai.schema (or service) struct that the gateway validates the body with;
    "" passes the body unseen. `scope` must be among a scoped key's scopes.
    """

    method: str
    path: str
    access: Access = Access.KEY
    scope: str = ""
    schema: str = ""
    body: BodyKind = BodyKind.BUFFERED
    body_limit: int = 10 * 1024 * 1024
    balancer: BalancerKind = BalancerKind.API
    timeouts: Timeouts = Timeouts()
    metered: bool = False
    """Whether answers carry usage that becomes a usage event."""
    priority: int = 1
    """0 is shed last."""
    quiet: bool = False
    """A probe: asked every few seconds, hence neither traced nor shed."""
    cached: Cached | None = None
    """How answers to models' requests are cached; None: not at all."""
    repeatable: bool = False
    """Whether an `Idempotency-Key` is heeded: the answer is then kept for a day. Not for secrets."""
    remember: Remember = Remember.NO
    degraded: Degraded = Degraded.RETRY_LATER
    letters: Letters = Letters.NO
    attempts: int = 0
    """At most so many within a tier, the first one included; 0: as the configuration has it for all."""
    fallback: bool = True
    """Whether the cache or the service's fallback may stand in when there is no answer."""
    enabled: bool = True
    """False: an operator has switched it off (contracts/route_policy.py), and tells why in `notice`."""
    notice: str = ""
    summary: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`calls` names the services this one may call: it is given the signing keys of those only.

    `fallback` is the "module:function" that makes the service's degraded twin (contracts/fallback.py).
    """

    service: str
    summary: str
    routes: tuple[Route, ...] = ()
    calls: tuple[str, ...] = ()
    instances: int = 1
    drain_timeout: float = 30.0
    fallback: str = ""
    nice: int = 0
    """What is added to its processes' niceness (nice(2), 0 to 19). Above 0 for a service that mostly does
    what nobody waits for: when CPUs are short that work waits, not people's answers."""
