"""What billing offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Remember, Route, Timeouts

_TIMEOUTS = Timeouts(total=20.0, connect=2.0, first_byte=15.0, between_bytes=5.0)
_BALANCE = Timeouts(total=5.0, connect=1.0, first_byte=2.0, between_bytes=2.0)
"""A look-up: who asks for it would rather have the last known one than wait."""

MANIFEST = Manifest(
    service="billing",
    summary="Usage, counted exactly once, and what it costs.",
    fallback="moonpool.services.billing.fallback:create",
    nice=5,  # counting may lag, the log keeps it
    routes=(
        Route(
            method="GET",
            path="/user/balance",
            access=Access.KEY,
            body=BodyKind.NONE,
            timeouts=_BALANCE,
            remember=Remember.CALLER,
            summary="The organisation's balance, as DeepSeek has it.",
        ),
        Route(
            method="GET",
            path="/api/billing/balance",
            access=Access.KEY,
            scope="usage",
            body=BodyKind.NONE,
            timeouts=_BALANCE,
            remember=Remember.CALLER,
            summary="The organisation's balance, account by account.",
        ),
        Route(
            method="POST",
            path="/api/billing/credits",
            access=Access.ADMIN,
            scope="admin",
            body_limit=16 * 1024,
            timeouts=_TIMEOUTS,
            repeatable=True,
            summary="Credit an organisation: a top-up or a grant.",
        ),
        Route(
            method="GET",
            path="/api/billing/entries",
            access=Access.ADMIN,
            scope="admin",
            body=BodyKind.NONE,
            timeouts=_TIMEOUTS,
            remember=Remember.CALLER,
            summary="The ledger's entries, newest first.",
        ),
        Route(
            method="GET",
            path="/api/billing/budgets",
            access=Access.KEY,
            body=BodyKind.NONE,
            timeouts=_BALANCE,
            remember=Remember.CALLER,
            summary="Budgets of keys and what is left: of one's own, or the organisation's for admins.",
        ),
        Route(
            method="GET",
            path="/api/billing/usage",
            access=Access.KEY,
            scope="usage",
            body=BodyKind.NONE,
            timeouts=_TIMEOUTS,
            remember=Remember.CALLER,
            summary="Totals and recent events: one's own, or the organisation's for admins.",
        ),
        Route(
            method="GET",
            path="/api/billing/usage/{request_id}",
            access=Access.KEY,
            scope="usage",
            body=BodyKind.NONE,
            timeouts=_TIMEOUTS,
            remember=Remember.CALLER,
            summary="What one request consumed.",
        ),
    ),
)
