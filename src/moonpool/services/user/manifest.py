"""What user offers and how it is to be called."""

from moonpool.contracts.manifest import Access, BodyKind, Manifest, Remember, Route, Timeouts

_QUICK = Timeouts(total=10.0, connect=2.0, first_byte=5.0, between_bytes=5.0)

MANIFEST = Manifest(
    service="user",
    summary="Profiles and preferences.",
    fallback="moonpool.services.user.fallback:create",
    routes=(
        Route(
            method="GET",
            path="/api/users/me",
            access=Access.KEY,
            scope="profile",
            body=BodyKind.NONE,
            timeouts=_QUICK,
            remember=Remember.CALLER,
            summary="The caller's profile.",
        ),
        Route(
            method="PATCH",
            path="/api/users/me",
            access=Access.KEY,
            scope="profile",
            body_limit=16 * 1024,
            timeouts=_QUICK,
            summary="Change the caller's profile; what is left out stays.",
        ),
        Route(
            method="GET",
            path="/api/users",
            access=Access.ADMIN,
            scope="admin",
            body=BodyKind.NONE,
            timeouts=_QUICK,
            remember=Remember.CALLER,
            summary="The organisation's profiles.",
        ),
    ),
)
