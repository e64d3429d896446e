"""Routing: how a service's requests are shared among its releases.

One document a service in the config server (`routing/SERVICE`), written by the upgrade manager and by
operators, followed by every gateway. Without one, all goes to what runs. Weights are basis points; they
need not add up to 10,000: what is left over is the `default` release's. upgrade/router.py decides by it:

    killed > header > pin > cohort > cookie > bucket        the first that has something to say
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from moonpool.contracts.names import END
from moonpool.contracts.releases import Label

FULL = 10_000
"""Basis points, and buckets: 1 is 0.01 % of the traffic."""
BasisPoints = Annotated[int, Meta(ge=0, le=FULL)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}" + END)]
REQUEST_HEADER = b"x-moonpool-release"
"""`inference@v2`, several with commas: which release a client asks for, written as answers name theirs."""
CONVERSATION = "conversation_id"
"""The path parameter (or what a service's own call has in its place) that names a conversation."""


class Unit(StrEnum):
    """What is assigned as one.

    `user` and `tenant` always meet the same release. `request` draws anew for every request, for platforms
    with few callers, where the buckets of a handful of users would be no share of the traffic at all;
    conversations still stay with one release.
    """

    USER = "user"
    TENANT = "tenant"
    REQUEST = "request"


class HeaderUse(StrEnum):
    """Who may ask for a release by header: admins by default, any caller with a key, everybody, nobody."""

    ADMINS = "admins"
    CALLERS = "callers"
    EVERYBODY = "everybody"
    NOBODY = "nobody"


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release and the part of the traffic it should have. `instances` is how many ready ones of it can
    serve all of the traffic: with fewer its weight is capped in proportion (the default's only with none)."""

    release: Label
    weight: BasisPoints = 0
    instances: Annotated[int, Meta(ge=1)] = 1


class Cohort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Named callers that get `release`, whatever their bucket. `header` lets them choose by header instead,
    even where others may not."""

    name: Name
    release: Label
    tenants: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    header: bool = False


class CookieRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cookie whose value is the label of one of `releases` chooses it: a switch in the web page, open to
    whoever sets it."""

    name: Name = "moonpool-release"
    releases: Annotated[tuple[Label, ...], Meta(min_length=1)]


class Epoch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The weights that hold from `since` (Unix seconds) until the next epoch, and what got the rest then."""

    since: float
    default: Label
    shares: Annotated[tuple[Share, ...], Meta(min_length=1)]


class Pins(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A conversation stays with the release that began it, as long as that one is listed and ready.

    Nothing is stored for it: a conversation's id tells when it began, and `epochs` (oldest first) which
    weights held then. `conversations` are pinned by hand.
    """

    epochs: Annotated[tuple[Epoch, ...], Meta(max_length=64)] = ()
    conversations: dict[str, Label] = {}


class Mirror(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shadow: `share` of the requests that may be repeated is sent to `release` too. Its answers go
    nowhere and are not billed. At most `concurrent` copies are under way in each gateway; beyond that none
    is sent."""

    release: Label
    share: BasisPoints = FULL
    concurrent: Annotated[int, Meta(ge=1, le=1024)] = 16


class Routing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`default` is among `shares`. `salt` makes assignments of two experiments independent: it changes when
    an experiment begins and never while one runs. `killed` releases get nothing, by no rule."""

    service: str
    default: Label
    shares: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=16)]
    salt: Annotated[str, Meta(max_length=128)] = ""
    unit: Unit = Unit.USER
    killed: tuple[Label, ...] = ()
    header: HeaderUse = HeaderUse.ADMINS
    cohorts: Annotated[tuple[Cohort, ...], Meta(max_length=64)] = ()
    cookie: CookieRule | None = None
    pins: Pins | None = None
    mirror: Mirror | None = None
    upgrade: str = ""
    """The id of the upgrade that writes this document now; "" when none does."""


def everything_to(service: str, label: str) -> Routing:
    """The plain document: one release, no rules."""
    return Routing(service=service, default=label, shares=(Share(release=label, weight=FULL),))
