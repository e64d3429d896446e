"""Usage becomes money exactly once, in the books and in what is published of them."""

import asyncio
from collections import defaultdict

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from moonpool.contracts.config import BillingConfig
from moonpool.contracts.money import NANO, cost
from moonpool.contracts.usage import TOPIC, Bill, TokenPrice, Usage, UsageEvent
from moonpool.core.errors import Unavailable
from moonpool.ports.events import Delivered, Event
from moonpool.services.billing import ledger_store, store
from moonpool.services.billing.counting import Counting
from moonpool.services.billing.ledger import Account, Book, Entry, Kind, credit
from moonpool.services.billing.posting import Posting
from moonpool.services.billing.tables import ledger_accounts, ledger_entries, ledger_lines, usage_events

PRICE = TokenPrice(2_000, 1_000, 5_000)
"""2, 1 and 5 nano-units a token."""


def event(
    id: str, tenant: str = "org", tokens: int = 10, *, source: str = "a", price: TokenPrice | None = PRICE
) -> UsageEvent:
    return UsageEvent(
        id=id,
        at=1_700_000_000.0,
        user="u",
        tenant=tenant,
        key="k",
        route="r",
        model="m",
        target="tgt",
        release="v1",
        usage=Usage(prompt_tokens=tokens, cached_tokens=tokens // 2, completion_tokens=1),
        streamed=False,
        bill=msgspec.UNSET if price is None else Bill(price, source),
    )


def delivered(*events: UsageEvent) -> list[Delivered]:
    return [
        Delivered(TOPIC, 0, n, 0.0, Event(each.id, each.tenant, msgspec.json.encode(each)))
        for n, each in enumerate(events)
    ]


class Books:
    def __init__(self, parts, config: BillingConfig) -> None:
        self.parts = parts
        self.posting = Posting(config, parts.clock)
        self.counting = Counting(
            database=parts.database,
            events=parts.events,
            clock=parts.clock,
            log=structlog.get_logger(),
            metrics=CollectorRegistry(),
            posting=self.posting,
        )

    async def count(self, *events: UsageEvent) -> None:
        await self.counting.store(delivered(*events))

    async def top_up(self, amount: int, tenant: str = "org") -> None:
        lines = credit(Kind.TOP_UP, amount)
        async with self.parts.database.transaction() as connection:
            sequence = await ledger_store.begin(connection)
            book = (await ledger_store.books(connection, [tenant]))[tenant]
            book.post(lines)
            entry = Entry(id=f"crd_{sequence}", at=0.0, tenant=tenant, kind=Kind.TOP_UP, lines=lines)
            await ledger_store.save(connection, [entry], {tenant: book}, sequence)

    async def book(self, tenant: str = "org") -> Book:
        async with self.parts.database.snapshot() as connection:
            return (await ledger_store.books(connection, [tenant]))[tenant]

    async def published(self, source: str, mark: str = "") -> tuple[dict[str, tuple[int, int]], str]:
        async with self.parts.database.snapshot() as connection:
            asked = ledger_store.parse_mark(mark)
            found, reached = await ledger_store.changes(connection, source, asked, 100)
        return {one.tenant: (one.amount, one.posted) for one in found}, str(reached)

    async def check(self) -> None:
        """Every entry balances; the kept sums are those of the lines; each priced event has one entry."""
        async with self.parts.database.snapshot() as connection:
            sides = select(
                ledger_lines.c.entry, func.sum(ledger_lines.c.debit), func.sum(ledger_lines.c.credit)
            )
            for _, debit, credit_ in await connection.execute(sides.group_by(ledger_lines.c.entry)):
                assert debit == credit_
            sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
            joined = select(ledger_entries.c.tenant, ledger_lines).join(
                ledger_lines, ledger_lines.c.entry == ledger_entries.c.id
            )
            for row in await connection.execute(joined):
                sums[row.tenant, row.account][0] += row.debit
                sums[row.tenant, row.account][1] += row.credit
            kept = {
                (row.tenant, row.account): [row.debits, row.credits]
                for row in await connection.execute(select(ledger_accounts))
            }
            assert kept == sums
            costs = select(func.sum(usage_events.c.cost))
            spent = (await connection.execute(costs)).scalar_one() or 0
            assert spent == sum(
                credits for (_, account), (_, credits) in kept.items() if account == "revenue"
            )


@pytest.fixture
async def books(make_parts) -> Books:
    return Books(await make_parts("billing"), BillingConfig())


async def test_usage_is_charged_once(books: Books) -> None:
    await books.top_up(1000)
    await books.count(event("a"), event("b"), event("a"))
    await books.count(event("b"), event("c"))
    book = await books.book()
    assert cost(event("a").usage, PRICE) == 20
    assert book.balance == 1000 - 3 * 20
    assert book.owed(Account.REVENUE) == 60
    await books.check()


async def test_free_usage_is_no_entry(books: Books) -> None:
    await books.count(event("a", price=None), event("b", price=TokenPrice(0, 0, 0)))
    assert (await books.book()).sums() == []


async def test_the_first_word_is_charged(books: Books) -> None:
    await books.count(event("a", price=None), event("a"), event("b", tokens=2), event("b", tokens=50))
    assert (await books.book()).owed(Account.REVENUE) == cost(event("b", tokens=2).usage, PRICE)
    await books.check()


async def test_nothing_is_charged_that_is_not_stored(books: Books, monkeypatch) -> None:
    async def die(*_: object) -> int:
        raise Unavailable("disk full")

    monkeypatch.setattr(store, "add_rejected", die)
    with pytest.raises(Unavailable):
        await books.count(event("a"))
    assert (await books.book()).sums() == []
    assert await books.published("a") == ({}, (await books.published("a"))[1])
    monkeypatch.undo()
    await books.count(event("a"))
    assert (await books.book()).owed(Account.REVENUE) == 20


async def test_two_that_count_the_same(books: Books, make_parts) -> None:
    other = Books(await make_parts("billing"), BillingConfig())
    batch = [event(f"e{n}", f"org{n % 3}") for n in range(60)]
    await asyncio.gather(books.count(*batch), other.count(*batch), books.count(*batch))
    assert [(await books.book(f"org{n}")).owed(Account.REVENUE) for n in range(3)] == [400] * 3
    await books.check()


async def test_what_is_published_is_what_has_changed(books: Books) -> None:
    await books.top_up(1000)
    await books.top_up(500, "other")
    everything, mark = await books.published("a")
    assert everything == {"org": (1000, 0), "other": (500, 0)}
    assert await books.published("a", mark) == ({}, mark)
    await books.count(event("x"), event("y", source="b"))
    assert (await books.published("a", mark))[0] == {"org": (960, 20)}
    assert (await books.published("b", mark))[0] == {"org": (960, 20)}
    assert (await books.published("c", mark))[0] == {"org": (960, 0)}
    assert (await books.published("a", "0123:7:"))[0] == {"org": (960, 20), "other": (500, 0)}
    assert (await books.published("a", "nonsense"))[0] == {"org": (960, 20), "other": (500, 0)}


async def test_pages_are_cut_within_one_change(books: Books) -> None:
    await books.count(*(event(f"e{n}", f"org{n}") for n in range(7)))
    found, mark = [], ledger_store.Mark()
    async with books.parts.database.snapshot() as connection:
        for _ in range(4):
            page, mark = await ledger_store.changes(connection, "a", mark, 2)
            found += [one.tenant for one in page]
    assert found == [f"org{n}" for n in range(7)]


async def test_terms_follow_the_configuration(books: Books) -> None:
    await books.count(event("a"))
    assert (await books.book()).balance == 0
    books.posting._take(BillingConfig(overdraft=0.000000015))
    await books.count(event("b"))
    assert (await books.book()).balance == -15
    books.posting._take(BillingConfig(enforce=False))
    await books.count(event("c"))
    assert (await books.book()).balance == -35
    await books.check()


STEP = st.one_of(
    st.tuples(st.just("top_up"), st.integers(1, 200), st.sampled_from("xy")),
    st.tuples(st.just("usage"), st.lists(st.integers(0, 25), min_size=1, max_size=8), st.sampled_from("ab")),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=12), st.integers(0, 50))
async def test_any_course_of_events(books: Books, steps, overdraft: int) -> None:
    """Repeated, mixed, in any order: books balance, each event once, balances above their floor."""
    books.posting._take(BillingConfig(overdraft=overdraft / NANO))
    for what, value, name in steps:
        if what == "top_up":
            await books.top_up(value, name)
        else:
            await books.count(*(event(f"e{n}", "xy"[n % 2], tokens=n, source=name) for n in value))
        await books.check()
        for tenant in "xy":
            assert (await books.book(tenant)).owed(Account.GRANTED) == 0
