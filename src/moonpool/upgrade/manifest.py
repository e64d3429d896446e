"""What the upgrade manager offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Route, Timeouts

UPGRADE = "upgrade"
"""The module's name."""
_QUICK = Timeouts(total=15.0, connect=2.0, first_byte=10.0, between_bytes=10.0)
_WATCH = Timeouts(total=15.0, connect=2.0, first_byte=10.0, between_bytes=30.0)


def _read(path: str, summary: str, timeouts: Timeouts = _QUICK) -> Route:
    return Route(
        method="GET",
        path=path,
        access=Access.ADMIN,
        scope="admin",
        body=BodyKind.NONE,
        timeouts=timeouts,
        priority=0,
        summary=summary,
    )


def _write(path: str, summary: str) -> Route:
    return Route(
        method="POST",
        path=path,
        access=Access.ADMIN,
        scope="admin",
        timeouts=_QUICK,
        priority=0,
        summary=summary,
    )


MANIFEST = Manifest(
    service=UPGRADE,
    summary="Releases side by side, switched by rule and by evidence.",
    routes=(
        _write("/admin/upgrades", "Start an upgrade, or tell what would happen (`dry_run`)."),
        _read("/admin/upgrades", "The upgrades there were and are, the newest first."),
        _read("/admin/upgrades/watch", "Every change of the upgrades that run, as it happens (SSE).", _WATCH),
        _read("/admin/upgrades/history", "Who did what, when, why, and on what evidence."),
        _read("/admin/upgrades/{name}", "An upgrade, by its id, or the newest of a service."),
        _read("/admin/upgrades/{name}/experiment", "How its two releases compare, and what to do."),
        _write("/admin/upgrades/{name}/pause", "Stay where it is; it still rolls back by itself."),
        _write("/admin/upgrades/{name}/resume", "Go on."),
        _write("/admin/upgrades/{name}/promote", "Skip what it still waits for."),
        _write("/admin/upgrades/{name}/abort", "Back to the old release."),
        _write("/admin/upgrades/{name}/rollback", "Abort it, or undo it when it is done."),
        _read("/admin/releases", "The releases that were added, and what of them runs."),
    ),
    nice=0,
)
