"""The version router: which release of a service gets a request. Pure; compiled from a Routing.

    killed > header > pin > cohort > cookie > bucket        the first that has something to say

A rule can only choose a release that the document lists, that is not killed and of which an instance is
ready: where a rule names another one it has nothing to say, and the reason tells. A request that asks by
header for what it cannot have is answered by the release it would have got without: a script that still
names last week's release must not fail for it.

Nothing is remembered about callers but their buckets, which can be computed again.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import NamedTuple

from moonpool.contracts.routing import (
    FULL,
    REQUEST_HEADER,
    Cohort,
    Epoch,
    HeaderUse,
    Mirror,
    Pins,
    Routing,
    Unit,
)
from moonpool.core.ids import ALPHABET, LENGTH
from moonpool.core.principal import Principal
from moonpool.upgrade.buckets import Buckets, runs, table
from moonpool.upgrade.capacity import Effective, effective_weights, percent, wanted_weights


class Assignment(NamedTuple):
    """`reason` is for the request's decisions."""

    release: str
    reason: str


class Router:
    """One service's. Immutable but for the cache of buckets; a new one is made when the document or
    what is ready changes.

    `only` is the answer to every request when one release alone can be reached: the common case, which need
    not call `route`; `plain` tells that the document names no other. `chance` gives random floats in [0, 1).
    """

    def __init__(
        self,
        routing: Routing,
        ready: Mapping[str, int] | None,
        buckets: Buckets,
        chance: Callable[[], float],
    ) -> None:
        self.routing = routing
        self.effective: Effective = effective_weights(routing, ready)
        self._chance = chance
        self.buckets = buckets
        self._unit = routing.unit
        killed = frozenset(routing.killed)
        self._live = frozenset(
            share.release
            for share in routing.shares
            if share.release not in killed and (ready is None or ready.get(share.release, 0) > 0)
        )
        by_label = {
            label: Assignment(label, f"bucket, {percent(weight)}")
            for label, weight in self.effective.weights.items()
        }
        self._table = table(runs(self.effective.weights, routing.default), by_label)
        self._prefix = f"{routing.service}@"
        self._cohorts = _Cohorts(routing.cohorts, self._live) if routing.cohorts else None
        self._pins = _Pinned(routing.pins, routing, self._live) if routing.pins is not None else None
        self._cookies = self._compile_cookies()
        self._mirror = self._compile_mirror(killed, ready)
        self.only = self._compile_only()
        self.plain = self.only is not None and len(routing.shares) == 1

    def route(
        self, caller: Principal, peer: str, headers: Mapping[bytes, bytes], conversation: str | None = None
    ) -> Assignment:
        """`peer` is the client's address, `headers` with lower-case names, `conversation` an id."""
        ignored = ""
        asked = headers.get(REQUEST_HEADER)
        if asked is not None:
            label = self._asked_for(asked)
            if label:
                ignored = self._refusal(label, caller)
                if not ignored:
                    return Assignment(label, "header")
        assignment = self._by_rules(caller, peer, headers, conversation)
        if ignored:
            return Assignment(assignment.release, f"{assignment.reason}; {ignored}")
        return assignment

    def shadow_of(self, release: str) -> Mirror | None:
        """The mirror that should get a copy of a request that `release` answers, this time."""
        mirror = self._mirror
        if mirror is None or mirror.release == release:
            return None
        if mirror.share < FULL and self._chance() * FULL >= mirror.share:
            return None
        return mirror

    # ── the rules ──────────────────────────────────────────────────────────────────────────────────

    def _by_rules(
        self, caller: Principal, peer: str, headers: Mapping[bytes, bytes], conversation: str | None
    ) -> Assignment:
        bucket = self._bucket(caller, peer, conversation)
        if conversation is not None and self._pins is not None:
            pinned = self._pins.find(conversation, bucket)
            if pinned is not None:
                return pinned
        if self._cohorts is not None:
            chosen = self._cohorts.find(caller)
            if chosen is not None:
                return chosen
        if self._cookies is not None:
            cookie = headers.get(b"cookie")
            if cookie is not None:
                chosen = self._by_cookie(cookie)
                if chosen is not None:
                    return chosen
        return self._table[bucket]

    def _bucket(self, caller: Principal, peer: str, conversation: str | None) -> int:
        if self._unit is Unit.REQUEST:
            if conversation is not None:
                return self.buckets.of(conversation)
            return int(self._chance() * FULL)
        unit = caller.user or caller.service
        if self._unit is Unit.TENANT:
            unit = caller.tenant or unit
        return self.buckets.of(unit) if unit else self.buckets.of_address(peer)

    def _asked_for(self, value: bytes) -> str:
        """The label that the header names for this service, "" when it names none."""
        for item in value.decode("latin-1").split(","):
            name = item.strip()
            if name.startswith(self._prefix):
                return name[len(self._prefix) :]
        return ""

    def _refusal(self, label: str, caller: Principal) -> str:
        """Why the caller does not get what he asked for by header; "" when he does."""
        use = self.routing.header
        allowed = (
            use is HeaderUse.EVERYBODY
            or (use is HeaderUse.CALLERS and not caller.anonymous)
            or (use is HeaderUse.ADMINS and not caller.anonymous and caller.may("admin"))
            or (self._cohorts is not None and self._cohorts.may_choose(caller))
        )
        if not allowed:
            return "the header is not for this caller"
        if label not in self._live:
            return f"the header's {_short(label)} is not there"
        return ""

    def _by_cookie(self, value: bytes) -> Assignment | None:
        name, choices = self._cookies or (b"", {})
        for pair in value.split(b";"):
            key, _, label = pair.partition(b"=")
            if key.strip() == name:
                return choices.get(label.strip().strip(b'"'))
        return None

    # ── compiling ──────────────────────────────────────────────────────────────────────────────────

    def _compile_cookies(self) -> tuple[bytes, dict[bytes, Assignment]] | None:
        rule = self.routing.cookie
        if rule is None:
            return None
        choices = {
            label.encode(): Assignment(label, "cookie") for label in rule.releases if label in self._live
        }
        return (rule.name.encode(), choices) if choices else None

    def _compile_mirror(self, killed: frozenset[str], ready: Mapping[str, int] | None) -> Mirror | None:
        mirror = self.routing.mirror
        if mirror is None or not mirror.share or mirror.release in killed:
            return None
        if ready is not None and not ready.get(mirror.release):
            return None
        return mirror

    def _compile_only(self) -> Assignment | None:
        """One release that can be reached, by no rule: then nothing about a request can matter."""
        if len(self._live) > 1:
            return None
        label = self._table[0].release
        if any(assignment.release != label for assignment in self._table):
            return None
        if self._live and self._live != {label}:
            return None
        if len(self.routing.shares) == 1:
            return Assignment(label, "only release")
        notes = "; ".join(self.effective.notes)
        return Assignment(label, f"only release that is ready ({notes})" if notes else "only release")


class _Cohorts:
    """Named callers; the first cohort that has one counts, and a user's before his tenant's."""

    def __init__(self, cohorts: tuple[Cohort, ...], live: frozenset[str]) -> None:
        self._users: dict[str, Assignment] = {}
        self._tenants: dict[str, Assignment] = {}
        self._choosers: set[str] = set()
        self._choosing_tenants: set[str] = set()
        for cohort in cohorts:
            if cohort.header:
                self._choosers.update(cohort.users)
                self._choosing_tenants.update(cohort.tenants)
            if cohort.release in live:
                assignment = Assignment(cohort.release, f"cohort {cohort.name}")
                for user in cohort.users:
                    self._users.setdefault(user, assignment)
                for tenant in cohort.tenants:
                    self._tenants.setdefault(tenant, assignment)

    def find(self, caller: Principal) -> Assignment | None:
        if caller.user:
            return self._users.get(caller.user) or self._tenants.get(caller.tenant)
        return None

    def may_choose(self, caller: Principal) -> bool:
        if not caller.user:
            return False
        return caller.user in self._choosers or caller.tenant in self._choosing_tenants


class _Pinned:
    """Which release began a conversation: by hand, or by the weights that held when it began."""

    def __init__(self, pins: Pins, routing: Routing, live: frozenset[str]) -> None:
        self._by_hand = {
            conversation: Assignment(label, "pin, by hand")
            for conversation, label in pins.conversations.items()
            if label in live
        }
        epochs = sorted(pins.epochs, key=lambda epoch: epoch.since)
        self._since = [epoch.since for epoch in epochs]
        self._layouts = [_layout(epoch, routing) for epoch in epochs]
        self._live = live
        self._pins = {label: Assignment(label, "pin, began there") for label in live}

    def find(self, conversation: str, bucket: int) -> Assignment | None:
        by_hand = self._by_hand.get(conversation)
        if by_hand is not None or not self._since:
            return by_hand
        began = time_of(conversation)
        if began is None:
            return None
        place = max(bisect_right(self._since, began) - 1, 0)  # the first epoch's weights held before it, too
        ends, labels = self._layouts[place]
        return self._pins.get(labels[bisect_right(ends, bucket)])


def _layout(epoch: Epoch, routing: Routing) -> tuple[list[int], list[str]]:
    """Where the runs of buckets end that an epoch's weights make, and their releases."""
    past = Routing(service=routing.service, default=epoch.default, shares=epoch.shares)
    found = runs(wanted_weights(past), epoch.default)
    return [end for _, end in found], [label for label, _ in found]


_DIGITS = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_TIME_DIGITS = 10
"""Of 26: 50 bits, of which the lower 48 are milliseconds (core/ids.py)."""


def time_of(id: str) -> float | None:
    """Unix seconds at which an id of ours was made; None for what is none."""
    digits = id.rpartition("_")[2]
    if len(digits) != LENGTH:
        return None
    try:
        return int(digits[:_TIME_DIGITS].translate(_DIGITS), 32) / 1000
    except ValueError:
        return None


def _short(label: str) -> str:
    """What a client sent, for a log line: bounded and printable."""
    return "".join(c if c.isprintable() else "?" for c in label[:64])
