"""billing's application, from its parts."""

from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.background import background
from moonpool.asgi.parts import Parts
from moonpool.services.billing.counting import Counting
from moonpool.services.billing.routes import handlers
from moonpool.services.billing.service import BillingService


def create(parts: Parts) -> ASGIApp:
    """Reports are answered, and readiness is `degraded`, while the event log is away."""
    counting = Counting(
        database=parts.database,
        events=parts.events,
        clock=parts.clock,
        log=parts.log,
        metrics=parts.metrics,
    )
    return create_app(
        parts,
        handlers(BillingService(parts.database, parts.clock)),
        lifespan=[
            background("counting", counting.run, parts.log),
            background("lag", counting.watch_lag, parts.log),
        ],
        optional={"counting": counting.check},
    )
