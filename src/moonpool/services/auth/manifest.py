"""What auth offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Remember, Route, Timeouts

_QUICK = Timeouts(total=10.0, connect=2.0, first_byte=5.0, between_bytes=5.0)
_SMALL = 64 * 1024

MANIFEST = Manifest(
    service="auth",
    summary="Organisations, users and API keys.",
    fallback="moonpool.services.auth.fallback:create",
    routes=(
        Route(
            method="POST",
            path="/api/auth/keys",
            access=Access.KEY,
            scope="keys",
            body_limit=_SMALL,
            timeouts=_QUICK,
            summary="Create an API key; its secret is in this answer and never again.",
        ),
        Route(
            method="GET",
            path="/api/auth/keys",
            access=Access.KEY,
            scope="keys",
            body=BodyKind.NONE,
            remember=Remember.CALLER,
            timeouts=_QUICK,
            summary="List API keys: one's own, or all of the organisation for admins.",
        ),
        Route(
            method="DELETE",
            path="/api/auth/keys/{key_id}",
            access=Access.KEY,
            scope="keys",
            body=BodyKind.NONE,
            timeouts=_QUICK,
            priority=0,
            summary="Revoke an API key.",
        ),
        Route(
            method="PUT",
            path="/api/auth/keys/{key_id}/budget",
            access=Access.ADMIN,
            scope="keys",
            body_limit=_SMALL,
            timeouts=_QUICK,
            summary="Change an API key's budget, or take it away.",
        ),
        Route(
            method="GET",
            path="/api/auth/me",
            access=Access.KEY,
            body=BodyKind.NONE,
            remember=Remember.CALLER,
            timeouts=_QUICK,
            summary="Whom the platform takes the caller for.",
        ),
    ),
    calls=("billing", "model"),
)
