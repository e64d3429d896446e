"""What the monitoring service promises, and the policies of its routes."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Remember, Route, Timeouts

_QUICK = Timeouts(total=15.0, first_byte=10.0, between_bytes=10.0)


def _route(path: str, access: Access, summary: str, *, quiet: bool = False) -> Route:
    return Route(
        method="GET",
        path=path,
        access=access,
        scope="monitoring",
        body=BodyKind.NONE,
        timeouts=_QUICK,
        priority=0,
        quiet=quiet,
        remember=Remember.CALLER,
        summary=summary,
    )


MANIFEST = Manifest(
    service="monitoring",
    summary="Health of everything, recent requests with their decisions, all metrics in one place",
    fallback="moonpool.services.monitoring.fallback:create",
    nice=5,  # records may come a second later
    routes=(
        _route("/api/monitoring/health", Access.ADMIN, "The health of every instance", quiet=True),
        _route("/api/monitoring/summary", Access.ADMIN, "The last minutes in figures"),
        _route("/api/monitoring/requests", Access.ADMIN, "Recent requests"),
        _route("/admin/requests/{request_id}", Access.ADMIN, "One request with decisions and attempts"),
        _route("/metrics", Access.LOCAL, "The metrics of all instances (Prometheus)", quiet=True),
    ),
)
