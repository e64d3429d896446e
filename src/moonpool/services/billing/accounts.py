"""The domain of money, as callers see it: balances, credits, the journal; and what spenders follow."""

from collections.abc import Callable

from moonpool.asgi.once import Once
from moonpool.contracts.asked import Asked
from moonpool.contracts.balances import Balances
from moonpool.contracts.config import BillingConfig, PlatformConfig
from moonpool.contracts.money import amount_of, spell
from moonpool.core.clock import Clock
from moonpool.core.errors import BadRequest, Conflict
from moonpool.core.ids import new_id
from moonpool.core.principal import Principal
from moonpool.ports.database import Database
from moonpool.services.billing import budget_store, ledger_store, organisations
from moonpool.services.billing.ledger import Account, Book, Entry, Kind, credit
from moonpool.services.billing.posting import Posting
from moonpool.services.billing.schema import (
    BalanceInfo,
    BalanceView,
    CreditView,
    EntryList,
    NewCredit,
    UserBalance,
    entry_fields,
    entry_view,
)
from moonpool.services.billing.tables import done_requests

PAGE = 5000
"""Balances told at once."""
FORGET = 7 * 86_400.0
"""Seconds without a charge after which what a spender has had posted is of no use to it: it is all posted."""
_SPENT_FROM = {Kind.TOP_UP: Account.TOPPED_UP, Kind.GRANT: Account.GRANTED}


class Accounts:
    """`settled` tells whether there is usage that is not counted yet."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        config: PlatformConfig,
        posting: Posting,
        settled: Callable[[], bool],
    ) -> None:
        self._database = database
        self._clock = clock
        self._billing: BillingConfig = config.billing
        self._priced = any(model.price is not None for model in config.models.values())
        self._posting = posting
        self._settled = settled
        self.once = Once(done_requests, database, clock)

    async def user_balance(self, caller: Principal) -> UserBalance:
        book = await self._book(caller.tenant)
        terms = self._posting.terms
        free = not terms.enforce or not (self._priced or book.sums())
        info = BalanceInfo(
            currency=self._billing.currency,
            total_balance=spell(book.balance),
            granted_balance=spell(book.owed(Account.GRANTED)),
            topped_up_balance=spell(book.owed(Account.TOPPED_UP)),
        )
        return UserBalance(is_available=free or book.balance + terms.overdraft > 0, balance_infos=[info])

    async def balance(self, caller: Principal, organisation: str) -> BalanceView:
        """Raises NotFound for an organisation that was never heard of."""
        async with self._database.snapshot() as connection:
            await organisations.check(connection, caller, organisation)
            book = (await ledger_store.books(connection, [organisation]))[organisation]
        return self._view(organisation, book)

    async def add(self, caller: Principal, wished: NewCredit, asked: Asked | None = None) -> CreditView:
        """Once for one request and for one reference, however often they come.

        Raises BadRequest for what is no credit, NotFound for an organisation that was never heard of,
        Conflict for a reference that was another credit's, or to take back more than there is."""
        amount = _amount(wished)
        tenant = wished.organisation or caller.tenant
        entry = Entry(
            id=new_id("crd", self._clock),
            at=self._clock.time(),
            tenant=tenant,
            kind=wished.kind,
            lines=credit(wished.kind, amount),
            reference=wished.reference,
            author=caller.user,
            note=wished.note,
        )
        async with self._database.transaction() as connection:
            sequence = await ledger_store.begin(connection)
            await organisations.check(connection, caller, tenant)
            book = (await ledger_store.books(connection, [tenant]))[tenant]
            before = None
            if wished.reference is not None:
                before = await ledger_store.find(connection, tenant, wished.kind, wished.reference)
            done = await self.once.claim(connection, asked, (before or entry).id)
            if done is not None:
                entry, before = await ledger_store.entry(connection, tenant, done) or entry, None
            elif before is None:
                _check_cover(book, wished.kind, amount)
                book.post(entry.lines)
                await ledger_store.save(connection, [entry], {tenant: book}, sequence)
        self._posting.tell()
        if before is not None and sorted(before.lines) != sorted(entry.lines):
            raise Conflict(
                f"the reference {wished.reference!r} was booked with another amount",
                code="reference_used",
                param="reference",
                hint=f"See the entry {before.id}.",
            )
        return CreditView(
            **entry_fields(before or entry),
            amount=spell(amount),
            balance=self._view(tenant, book),
            repeated=before is not None,
        )

    async def journal(
        self, caller: Principal, tenant: str, kind: Kind | None, after: str | None, limit: int
    ) -> EntryList:
        """Raises NotFound as `balance` does."""
        async with self._database.snapshot() as connection:
            await organisations.check(connection, caller, tenant)
            found = await ledger_store.journal(connection, tenant, kind, after, limit + 1)
        return EntryList(data=[entry_view(one.entry) for one in found[:limit]], has_more=len(found) > limit)

    async def balances(self, source: str, mark: str, wait: float) -> Balances:
        """For a spender: at once when there is news since `mark`, else after `wait` seconds at the latest."""
        settled = self._settled()
        answer = await self._changes(source, mark, settled)
        if answer.balances or answer.budgets or not mark:
            return answer
        await self._posting.changed(wait)
        return await self._changes(source, mark, settled and self._settled())

    async def forget(self) -> None:
        async with self._database.transaction() as connection:
            await ledger_store.forget_spenders(connection, self._clock.time() - FORGET)
            await budget_store.forget_spenders(connection, self._clock.time() - FORGET)

    async def _changes(self, source: str, text: str, settled: bool) -> Balances:
        """The mark's first line is of balances, its second of budgets: releases before them know one line."""
        line, _, rest = text.partition("\n")
        mark, place = ledger_store.parse_mark(line), budget_store.parse_place(rest)
        async with self._database.snapshot() as connection:
            found, reached = await ledger_store.changes(connection, source, mark, PAGE)
            if reached.epoch != mark.epoch:
                place = budget_store.Place()
            budgets, place = await budget_store.changes(connection, source, place, PAGE)
        more = len(found) == PAGE or len(budgets) == PAGE
        return Balances(
            mark=f"{reached}\n{place}",
            balances=tuple(found),
            budgets=tuple(budgets),
            more=more,
            settled=settled and not (found or budgets or more),
        )

    async def _book(self, tenant: str) -> Book:
        async with self._database.snapshot() as connection:
            return (await ledger_store.books(connection, [tenant]))[tenant]

    def _view(self, tenant: str, book: Book) -> BalanceView:
        terms = self._posting.terms
        return BalanceView(
            organisation=tenant,
            currency=self._billing.currency,
            total=spell(book.balance),
            granted=spell(book.owed(Account.GRANTED)),
            topped_up=spell(book.owed(Account.TOPPED_UP)),
            overdraft=spell(terms.overdraft),
            available=spell(max(book.balance + terms.overdraft, 0)) if terms.enforce else None,
            enforced=terms.enforce,
            spent=spell(book.owed(Account.REVENUE)),
            uncollected=spell(-book.owed(Account.UNCOLLECTED)),
        )


def _amount(wished: NewCredit) -> int:
    if wished.kind is Kind.USAGE:
        raise BadRequest("a credit is a top_up or a grant", code="invalid_value", param="kind")
    try:
        amount = amount_of(wished.amount)
    except ValueError as error:
        hint = 'Write it like "10.00".'
        raise BadRequest(str(error), code="invalid_value", param="amount", hint=hint) from None
    if not amount:
        raise BadRequest("a credit of nothing", code="invalid_value", param="amount")
    return amount


def _check_cover(book: Book, kind: Kind, amount: int) -> None:
    there = book.owed(_SPENT_FROM[kind])
    if amount < 0 and there + amount < 0:
        raise Conflict(
            f"only {spell(max(there, 0))} is left of it to be taken back",
            code="insufficient_balance",
            param="amount",
        )
