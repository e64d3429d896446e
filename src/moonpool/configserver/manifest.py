"""What the config server offers and how it is to be called."""

from moonpool.contracts.documents.wire import CONFIG
from moonpool.contracts.manifest import Access, BodyKind, Manifest, Route, Timeouts

_QUICK = Timeouts(total=10.0, connect=2.0, first_byte=8.0, between_bytes=5.0)


def _read(path: str, summary: str) -> Route:
    return Route(
        method="GET",
        path=f"/admin/config/{path}",
        access=Access.ADMIN,
        scope="admin",
        body=BodyKind.NONE,
        timeouts=_QUICK,
        summary=summary,
    )


def _write(method: str, path: str, summary: str) -> Route:
    return Route(
        method=method,
        path=f"/admin/config/{path}",
        access=Access.ADMIN,
        scope="admin",
        body_limit=4 * 1024 * 1024,
        timeouts=_QUICK,
        summary=summary,
    )


MANIFEST = Manifest(
    service=CONFIG,
    summary="The platform's documents: versions, history, changes.",
    routes=(
        _read("documents", "List the documents."),
        _read("documents/{name:path}", "A document, as it is or as it was in a version."),
        _write("PUT", "documents/{name:path}", "Replace a document, if it is still at the named version."),
        _write("PATCH", "documents/{name:path}", "Change single places of a document, all or none."),
        _read("history/{name:path}", "A document's versions, the newest first."),
        _read("diff/{name:path}", "What differs between two versions, path by path."),
        _write("POST", "rollback/{name:path}", "Make an older version's content the newest."),
        _write("POST", "validate/{name:path}", "Check a document, and tell what it would change."),
        _read("audit", "Who changed what, when and why; and who was refused."),
        _read("kinds", "The kinds of documents, with their schemas."),
    ),
)
