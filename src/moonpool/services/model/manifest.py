"""What model offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Remember, Route, Timeouts

_QUICK = Timeouts(total=10.0, connect=2.0, first_byte=5.0, between_bytes=5.0)


def _read(path: str, access: Access, summary: str) -> Route:
    return Route(
        method="GET",
        path=path,
        access=access,
        scope="admin" if access is Access.ADMIN else "",
        body=BodyKind.NONE,
        timeouts=_QUICK,
        remember=Remember.CALLER if access is Access.ADMIN else Remember.EVERYONE,
        summary=summary,
    )


MANIFEST = Manifest(
    service="model",
    summary="The registry of models, their aliases and targets.",
    fallback="moonpool.services.model.fallback:create",
    routes=(
        _read("/v1/models", Access.KEY, "List the models."),
        _read("/v1/models/{model:path}", Access.KEY, "One model."),
        _read("/admin/models", Access.ADMIN, "List the models with their targets."),
        _read("/admin/models/{model:path}", Access.ADMIN, "One model with its targets."),
        Route(
            method="PUT",
            path="/admin/models/{model:path}",
            access=Access.ADMIN,
            scope="admin",
            body_limit=256 * 1024,
            timeouts=_QUICK,
            summary="Add or replace a model.",
        ),
        Route(
            method="DELETE",
            path="/admin/models/{model:path}",
            access=Access.ADMIN,
            scope="admin",
            body=BodyKind.NONE,
            timeouts=_QUICK,
            summary="Remove a model, or what was put over a configured one.",
        ),
    ),
)
