"""billing's application, from its parts."""

import asyncio

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.services.billing.accounts import Accounts
from moonpool.services.billing.budgets import Budgets
from moonpool.services.billing.counting import Counting
from moonpool.services.billing.posting import Posting
from moonpool.services.billing.routes import handlers
from moonpool.services.billing.routes_money import budget_handlers, money_handlers
from moonpool.services.billing.service import BillingService

TIDY = 6 * 3600.0
"""Seconds between looks for spenders that are long gone."""


def create(parts: Parts) -> ASGIApp:
    """Reports are answered, and readiness is `degraded`, while the event log is away."""
    posting = Posting(parts.config.billing, parts.clock)
    if parts.documents is not None:
        posting.follow(parts.documents)
    counting = Counting(
        database=parts.database,
        events=parts.events,
        clock=parts.clock,
        log=parts.log,
        metrics=parts.metrics,
        posting=posting,
    )
    accounts = Accounts(parts.database, parts.clock, parts.config, posting, settled=lambda: counting.settled)
    budgets = Budgets(parts.database, parts.clock, parts.config.billing, posting)
    service = BillingService(parts.database, parts.clock, parts.config.billing.currency)

    async def tidy() -> None:
        while True:
            await accounts.forget()
            await asyncio.sleep(TIDY)

    return create_app(
        parts,
        [*handlers(service), *money_handlers(accounts), *budget_handlers(budgets)],
        lifespan=[
            background("counting", counting.run, parts.log),
            background("lag", counting.watch_lag, parts.log),
            background("tidy", tidy, parts.log),
            background("done requests", accounts.once.run, parts.log),
        ],
        optional={"counting": counting.check},
    )
