"""Which limits hold for whom: from the configuration's `limits` and a key's own to buckets. Pure.

Plans are made once for a caller and kept, so that a request costs a look-up. What the names in `limits`
mean stands in contracts.config.PlatformConfig.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from moonpool.contracts.config import (
    CONCURRENT,
    REQUESTS_PER_MINUTE,
    TOKENS_PER_MINUTE,
    LimitConfig,
)
from moonpool.core.context import Context
from moonpool.core.message import Request
from moonpool.core.principal import Principal
from moonpool.ports.limits import WINDOW, Rate, Slot

CAPACITY = 50_000
"""Callers whose plans are kept."""
IPV6_PREFIX = 64
"""Bits of an IPv6 address that one subscriber has (RFC 6177): not a new bucket for each of 2^64."""

_BUILT_IN = LimitConfig(
    requests_per_minute=REQUESTS_PER_MINUTE, tokens_per_minute=TOKENS_PER_MINUTE, concurrent=CONCURRENT
)
_NOTHING = LimitConfig()


def _policy(rates: tuple[Rate, ...], unit: str, slots: tuple[Slot, ...]) -> bytes:
    """The `RateLimit-Policy` field (draft-ietf-httpapi-ratelimit-headers-10, section 3), a list of items."""
    items = [f'"{rate.name}";q={rate.quota};w={WINDOW:.0f}{unit}' for rate in rates]
    items += [f'"{slot.name}";q={slot.places};qu="concurrent-requests"' for slot in slots]
    return ", ".join(items).encode()


Field = tuple[bytes, bytes]


class Plan:
    """What a request has to pass: rates of requests, rates of tokens, places; and how to tell of them."""

    __slots__ = ("most_tokens", "policy", "requests", "slots", "token_policy", "tokens")

    def __init__(self, requests: tuple[Rate, ...], tokens: tuple[Rate, ...], slots: tuple[Slot, ...]) -> None:
        self.requests = requests
        self.tokens = tokens
        self.slots = slots
        self.most_tokens = min((rate.burst for rate in tokens), default=0)
        """What one request can reserve."""
        self.policy = (b"ratelimit-policy", _policy(requests, "", slots))
        """The header field that tells of the first stage."""
        self.token_policy = (b"ratelimit-policy", _policy(tokens, ';qu="tokens"', ()))

    def __add__(self, other: "Plan") -> "Plan":
        if not (other.requests or other.tokens or other.slots):
            return self
        return Plan(self.requests + other.requests, self.tokens + other.tokens, self.slots + other.slots)


NO_PLAN = Plan((), (), ())


def joined(one: Field, other: Field) -> Field:
    """Two lists of policies as one."""
    return one[0], b", ".join(value for value in (one[1], other[1]) if value)


class LimitRules:
    """`update` replaces the rules; what was counted under them so far stays counted."""

    def __init__(self, limits: Mapping[str, LimitConfig]) -> None:
        self.update(limits)

    def update(self, limits: Mapping[str, LimitConfig]) -> None:
        self._limits = dict(limits)
        self._default = _over(limits.get("default", _NOTHING), _BUILT_IN)
        self._callers: dict[str, tuple[Principal, Plan]] = {}
        self._named: dict[str, Plan] = {}
        dimensions = {name.partition(":")[0] for name in limits}
        self._by_address = "address" in dimensions
        self._by_route = "route" in dimensions
        self.by_model = "model" in dimensions

    def plan(self, ctx: Context, request: Request) -> Plan:
        """All but the model's limits; NO_PLAN when there are none."""
        principal = ctx.principal
        kept = self._callers.get(principal.key or principal.user)
        plan = kept[1] if kept is not None and kept[0] is principal else self.caller(principal)
        if self._by_address:
            plan += self._address(request.peer)
        if self._by_route:
            plan += self._for("route", ctx.route.path)
        return plan

    def caller(self, principal: Principal) -> Plan:
        """All that follows from who asks; nothing for those whom nobody knows, and for services."""
        name = principal.key or principal.user
        kept = self._callers.get(name)
        if kept is not None and kept[0] == principal:
            return kept[1]
        plan = NO_PLAN if principal.service or not name else self._make(principal)
        if len(self._callers) >= CAPACITY:
            self._callers.clear()
        self._callers[name] = (principal, plan)
        return plan

    def model(self, alias: str) -> Plan:
        return self._for("model", alias)

    def _address(self, peer: str) -> Plan:
        """Callers on a Unix socket have no address, and no limit by it."""
        return self._for("address", _network(peer), exact=peer) if peer else NO_PLAN

    def _make(self, principal: Principal) -> Plan:
        own = principal.limits
        wanted = LimitConfig(
            requests_per_minute=own.requests_per_minute,
            tokens_per_minute=own.tokens_per_minute,
            concurrent=own.concurrent,
        )
        if principal.key:
            configured = self._limits.get(f"key:{principal.key}", _NOTHING)
            limit = _over(configured, _over(wanted, self._default))
            plan = _plan(f"key:{principal.key}", "", limit)
        else:
            plan = _plan(f"session:{principal.user}", "", _over(wanted, self._default))
        for dimension, name in (("user", principal.user), ("organisation", principal.tenant)):
            if name:
                plan += self._for(dimension, name)
        return plan

    def _for(self, dimension: str, name: str, exact: str = "") -> Plan:
        key = f"{dimension}:{name}"
        plan = self._named.get(key)
        if plan is None:
            particular = self._limits.get(f"{dimension}:{exact or name}", _NOTHING)
            limit = _over(particular, self._limits.get(f"{dimension}:*", _NOTHING))
            plan = NO_PLAN if limit == _NOTHING else _plan(key, f"-{dimension}", limit)
            if len(self._named) >= CAPACITY:
                self._named.clear()
            self._named[key] = plan
        return plan


def _over(limit: LimitConfig, other: LimitConfig) -> LimitConfig:
    """`limit`, and where it says nothing, `other`. A burst belongs to the rate beside it."""
    rate = limit if limit.requests_per_minute is not None else other
    return LimitConfig(
        requests_per_minute=rate.requests_per_minute,
        tokens_per_minute=other.tokens_per_minute
        if limit.tokens_per_minute is None
        else limit.tokens_per_minute,
        concurrent=other.concurrent if limit.concurrent is None else limit.concurrent,
        burst=rate.burst if limit.burst is None else limit.burst,
    )


def _plan(key: str, suffix: str, limit: LimitConfig) -> Plan:
    requests, tokens, places = limit.requests_per_minute, limit.tokens_per_minute, limit.concurrent
    return Plan(
        (Rate(f"requests:{key}", f"requests{suffix}", requests, limit.burst or requests),)
        if requests
        else (),
        (Rate(f"tokens:{key}", f"tokens{suffix}", tokens, tokens),) if tokens else (),
        (Slot(f"concurrent:{key}", f"concurrent{suffix}", places),) if places else (),
    )


def _network(peer: str) -> str:
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    bits = 128 - IPV6_PREFIX
    return str(IPv6Address(int(address) >> bits << bits))
