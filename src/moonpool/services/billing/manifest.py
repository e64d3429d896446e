"""What billing offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Remember, Route, Timeouts

_TIMEOUTS = Timeouts(total=20.0, connect=2.0, first_byte=15.0, between_bytes=5.0)

MANIFEST = Manifest(
    service="billing",
    summary="Usage, counted exactly once.",
    fallback="moonpool.services.billing.fallback:create",
    nice=5,  # counting may lag, the log keeps it
    routes=(
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
