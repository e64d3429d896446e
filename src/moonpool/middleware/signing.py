"""Makes the signed internal contexts, and reuses them: signing costs more than most filters."""

from collections.abc import Mapping

from moonpool.contracts import context as signed
from moonpool.core.clock import Clock
from moonpool.core.principal import Principal

CAPACITY = 10_000


class ContextSigner:
    """`keys` by audience: only those services that this module may call."""

    def __init__(self, issuer: str, keys: Mapping[str, bytes], clock: Clock) -> None:
        self._issuer = issuer
        self._keys = dict(keys)
        self._clock = clock
        self._made: dict[tuple[str, Principal], tuple[bytes, float]] = {}

    def sign(self, principal: Principal, audience: str) -> bytes:
        """The value of `x-moonpool-context`. Raises KeyError for a service this module may not call."""
        now = self._clock.time()
        made = self._made.get((audience, principal))
        if made is not None and 0.0 <= now - made[1] < signed.LIFETIME / 2:
            return made[0]
        value = signed.sign(
            self._keys[audience], issuer=self._issuer, audience=audience, principal=principal, now=now
        )
        if len(self._made) >= CAPACITY:
            self._made.clear()
        self._made[audience, principal] = (value, now)
        return value
