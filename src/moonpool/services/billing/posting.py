"""From new usage events to entries of the ledger, in the transaction that stores them.

Both or neither: an event's primary key decides whether it is new, and only what is new is posted. So each is
charged exactly once, whatever is killed, and however often the log delivers it.
"""

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.contracts.config import BillingConfig, PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.money import cost_of, nano
from moonpool.contracts.usage import Bill, UsageEvent
from moonpool.core.clock import Clock
from moonpool.ports.config import ConfigSource
from moonpool.services.billing import budget_counting, ledger_store, store
from moonpool.services.billing.ledger import Entry, Kind, Terms, charge


class Posting:
    """`terms` follow the configuration; whoever waits for changes of balances is woken by `tell`."""

    def __init__(self, config: BillingConfig, clock: Clock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self._take(config)

    def follow(self, documents: ConfigSource[PlatformConfig]) -> None:
        documents.subscribe(PLATFORM, lambda _name, _old, new: self._take(new.billing))

    def _take(self, config: BillingConfig) -> None:
        self.terms = Terms(nano(config.overdraft), config.enforce)

    async def post(self, connection: AsyncConnection, events: Sequence[UsageEvent]) -> None:
        """Charge those of `events` that are not stored yet; they must be, in the same transaction."""
        sequence = await ledger_store.begin(connection)
        new = [event for event in await store.unknown(connection, events) if cost_of(event)]
        books = await ledger_store.books(connection, (event.tenant for event in new))
        now, entries = self._clock.time(), []
        posted: dict[tuple[str, str], int] = {}
        for event in new:
            amount = cost_of(event)
            lines = charge(books[event.tenant], amount, self.terms)
            books[event.tenant].post(lines)
            entries.append(Entry(id=event.id, at=now, tenant=event.tenant, kind=Kind.USAGE, lines=lines))
            if isinstance(event.bill, Bill) and event.bill.source:
                key = (event.bill.source, event.tenant)
                posted[key] = posted.get(key, 0) + amount
        await ledger_store.save(connection, entries, books, sequence)
        await ledger_store.add_posted(connection, posted, now)
        await budget_counting.count(connection, new, now, sequence)

    def tell(self) -> None:
        """Balances have changed, and the transaction is over."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, wait: float) -> None:
        """Returns at the next `tell`, or after `wait` seconds: another process may have changed them."""
        event = self._changed
        try:
            async with asyncio.timeout(wait):
                await event.wait()
        except TimeoutError:
            return
