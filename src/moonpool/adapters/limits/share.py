"""The local share: what one gateway gives out by itself while the store that all share is away.

Each of `gateways` gives out its part of every limit, and at least one: so all together give out about what
they should, and no more than one each beyond it.
"""

from collections.abc import Sequence

from moonpool.adapters.limits.memory import MemoryLimits
from moonpool.core.clock import Clock
from moonpool.ports.limits import Rate, Slot, Verdict

CAPACITY = 10_000
"""Limits whose parts are remembered."""


class LocalShare:
    """`use` and `settle` pass over what it has not given out."""

    def __init__(self, clock: Clock) -> None:
        self._limits = MemoryLimits(clock)
        self._rates: dict[tuple[str, int, int, int], Rate] = {}

    @property
    def leases(self) -> int:
        """How many are not settled."""
        return self._limits.leases

    def take(
        self,
        gateways: int,
        lease: str,
        units: Sequence[Rate],
        slots: Sequence[Slot],
        reserves: Sequence[Rate],
        amount: int,
    ) -> Verdict:
        own_units = [self._part(rate, gateways) for rate in units]
        own_slots = [Slot(slot.key, slot.name, max(slot.places // gateways, 1)) for slot in slots]
        own_reserves = [self._part(rate, gateways) for rate in reserves]
        if all(amount <= rate.burst for rate in reserves):
            # What fits the whole can be had, if only all of the part: the rest is owed.
            amount = min([amount, *(rate.burst for rate in own_reserves)])
        verdict = self._limits.take(lease, own_units, own_slots, own_reserves, amount)
        # Clients are told of the limit itself, not of its part.
        whole = dict(zip(map(id, [*own_units, *own_reserves]), [*units, *reserves], strict=True))
        refused, tightest = verdict.refused, verdict.tightest
        if isinstance(refused, Slot):
            verdict.refused = slots[own_slots.index(refused)]
        elif refused is not None:
            verdict.refused = whole[id(refused)]
        if tightest is not None:
            verdict.tightest = whole[id(tightest)]
        return verdict

    def use(self, held: Verdict, used: int) -> None:
        self._limits.use(held, used)

    def settle(self, held: Verdict, used: int) -> None:
        self._limits.settle(held, used)

    def _part(self, rate: Rate, gateways: int) -> Rate:
        name = (rate.key, rate.quota, rate.burst, gateways)
        part = self._rates.get(name)
        if part is None:
            if len(self._rates) >= CAPACITY:
                self._rates.clear()
            quota, burst = max(rate.quota // gateways, 1), max(rate.burst // gateways, 1)
            part = self._rates[name] = Rate(rate.key, rate.name, quota, burst)
        return part
