"""Money: what a model's answer will cost at most is reserved before, topped up while it streams, and settled
on what metering has counted. Who has spent it all gets 402, be it the organisation's balance or the budget
of the key that asks. Costs a comparison where no model has a price, and one more where no key has a budget.

Stands outside metering, which prices its events by the tariff that is left on the context: the price of the
moment in which a request was let in, of the alias that answers. What a cache answers never comes here.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import msgspec

from moonpool.balancing.models import Models
from moonpool.contracts.budgets import Period
from moonpool.contracts.manifest import Route
from moonpool.contracts.money import cost, spell
from moonpool.contracts.usage import Bill, TokenPrice, Usage
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Context
from moonpool.core.errors import PaymentRequired
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.middleware.key_budgets import KeyPurse
from moonpool.middleware.purses import Purse, Purses
from moonpool.middleware.reservations import expected

STEP = 64
"""Tokens by which a stream's reservation grows: metering tells its progress every 32."""


class Tariff:
    """The prices in force when a request was let in. Shared by all requests of that time."""

    __slots__ = ("_bills", "prices")

    def __init__(self, prices: Mapping[str, TokenPrice], source: str) -> None:
        self.prices = prices
        self._bills = {alias: Bill(price, source) for alias, price in prices.items()}

    def bill(self, alias: str) -> Bill | msgspec.UnsetType:
        """For the usage event of an answer by `alias`."""
        return self._bills.get(alias, msgspec.UNSET)


_FREE: Mapping[str, TokenPrice] = {}


class Money:
    """`source` names this process to billing (contracts/balances.py), and no other one ever."""

    def __init__(self, models: Models, purses: Purses, source: str) -> None:
        self._models = models
        self._purses = purses
        self._source = source
        self._budgets = purses.keys.purses
        self._tariff = Tariff(_FREE, source)

    def applies(self, route: Route) -> bool:
        return route.metered and route.schema != ""

    def __call__(self, ctx: Context, request: Request, next: Handler) -> Awaitable[Response]:
        """Raises PaymentRequired."""
        prices = self._models.prices
        if not prices or not ctx.principal.tenant:
            return next(ctx, request)
        if self._tariff.prices is not prices:
            self._tariff = Tariff(prices, self._source)
        ctx.tariff = self._tariff
        return self._charged(ctx, request, next)

    async def _charged(self, ctx: Context, request: Request, next: Handler) -> Response:
        budget = self._budgets.get(ctx.principal.key) if self._budgets else None
        hold = Hold(self._purses, ctx) if budget is None else KeyHold(self._purses, ctx, budget)
        price = ctx.tariff.prices.get(ctx.model)
        if price is not None:
            assert isinstance(request.body, bytes)
            prompt, answer = expected(ctx.payload, len(request.body))
            hold.reserve(cost(Usage(prompt_tokens=prompt, completion_tokens=answer), price))
            if ctx.streamed and self._purses.enforce:
                ctx.progress = partial(hold.progress, ctx.progress, price)
        try:
            response = await next(ctx, request)
        except BaseException:
            hold.settle()
            raise
        if isinstance(response.body, Stream):
            response.body.on_settled(hold.over)
        else:
            hold.settle()
        return response


_PER = {Period.DAY: "a day", Period.MONTH: "a month", Period.TOTAL: "in all"}


class Hold:
    """What one request holds of its organisation's purse."""

    __slots__ = ("_amount", "_ctx", "_purse", "_purses")

    def __init__(self, purses: Purses, ctx: Context) -> None:
        self._purses = purses
        self._ctx = ctx
        self._purse: Purse = purses.of(ctx.principal.tenant)
        self._amount = 0

    def reserve(self, amount: int) -> None:
        """Raises PaymentRequired."""
        purses, ctx = self._purses, self._ctx
        spendable = purses.spendable(self._purse)
        if purses.enforce and spendable is not None and amount > spendable:
            ctx.decide("money", "refuse", f"{spell(spendable)} left, {spell(amount)} needed")
            raise _spent(amount, spendable, purses.currency)
        self._take(amount)
        reason = "" if spendable is not None else "balance unknown"
        ctx.decisions.append(("money", "reserve", reason, ctx.clock.monotonic()))

    def progress(self, others: Callable[[int], None] | None, price: TokenPrice, tokens: int) -> None:
        """`tokens` of the answer have come. Raises PaymentRequired when more cannot be reserved: the stream
        then ends with that error, and what has come is billed."""
        if others is not None:
            others(tokens)
        ctx, purses = self._ctx, self._purses
        needed = cost(Usage(prompt_tokens=ctx.prompt_tokens, completion_tokens=tokens + STEP), price)
        more = needed - self._amount
        if more <= 0:
            return
        spendable = purses.spendable(self._purse)
        if purses.enforce and spendable is not None and more > spendable:
            ctx.decide("money", "stop", f"{spell(spendable)} left after {tokens} tokens")
            raise _spent(more, spendable, purses.currency)
        self._take(more)

    def settle(self) -> None:
        """It is over: give back what is held, charge what metering has counted."""
        ctx = self._ctx
        self._purse.reserved -= self._amount
        self._amount = 0
        price = ctx.tariff.prices.get(ctx.model)
        if ctx.usage is not None and price is not None:
            self._purses.charge(self._purse, cost(ctx.usage, price))

    def over(self, outcome: Outcome, error: Exception | None) -> None:
        self.settle()

    def _take(self, amount: int) -> None:
        self._purse.reserved += amount
        self._amount += amount


class KeyHold(Hold):
    """As Hold, and of the budget of the key as well."""

    __slots__ = ("_budget",)

    def __init__(self, purses: Purses, ctx: Context, budget: KeyPurse) -> None:
        super().__init__(purses, ctx)
        self._budget = budget

    def reserve(self, amount: int) -> None:
        self._check(amount, "refuse", f"{spell(amount)} needed")
        super().reserve(amount)
        self._budget.reserved += self._amount

    def progress(self, others: Callable[[int], None] | None, price: TokenPrice, tokens: int) -> None:
        if others is not None:
            others(tokens)
        ctx, before = self._ctx, self._amount
        needed = cost(Usage(prompt_tokens=ctx.prompt_tokens, completion_tokens=tokens + STEP), price)
        if needed > before:
            self._check(needed - before, "stop", f"{tokens} tokens have come")
        super().progress(None, price, tokens)
        self._budget.reserved += self._amount - before

    def settle(self) -> None:
        ctx = self._ctx
        self._budget.reserved -= self._amount
        price = ctx.tariff.prices.get(ctx.model)
        if ctx.usage is not None and price is not None:
            self._budget.charge(cost(ctx.usage, price))
        super().settle()

    def _check(self, amount: int, verdict: str, why: str) -> None:
        """Raises PaymentRequired."""
        left = self._budget.left()
        if self._purses.enforce and amount > left:
            self._ctx.decide("money", verdict, f"key budget: {spell(left)} left, {why}")
            raise _over_budget(self._budget, self._ctx.principal.key, amount, left, self._purses.currency)


def _over_budget(budget: KeyPurse, key: str, needed: int, left: int, currency: str) -> PaymentRequired:
    renews = budget.renews()
    when = "It does not renew."
    if renews is not None:
        when = f"It renews at {datetime.fromtimestamp(renews, UTC):%Y-%m-%dT%H:%M:%SZ}."
    return PaymentRequired(
        f"This key's budget of {spell(budget.amount)} {currency} {_PER[budget.period]} is spent: this needs"
        f" up to {spell(needed)}, and {spell(max(left, 0))} are left.",
        code="key_budget_exceeded",
        hint=f"{when} An admin sets another one with `moonpool keys budget {key} AMOUNT`.",
    )


def _spent(needed: int, spendable: int, currency: str) -> PaymentRequired:
    left = spell(max(spendable, 0))
    less = "; a smaller max_tokens needs less" if spendable > 0 else ""
    return PaymentRequired(
        f"Insufficient balance: this needs up to {spell(needed)} {currency}, and {left} are left.",
        hint=f"An admin adds credit (`moonpool billing credit`){less}.",
    )
