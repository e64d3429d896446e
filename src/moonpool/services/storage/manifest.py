"""What the storage service promises, and the policies of its routes."""

from moonpool.contracts.manifest import Access, BalancerKind, BodyKind, Manifest, Remember, Route, Timeouts

FILE_LIMIT = 512 * 1024 * 1024
"""Bytes of one file, as OpenAI has it."""
UPLOAD_LIMIT = FILE_LIMIT + 64 * 1024
"""Bytes of an upload: the file and what the form puts around it."""
_READ = Timeouts(total=15.0, first_byte=10.0)
_UPLOAD = Timeouts(total=3600.0, first_byte=3600.0, between_bytes=60.0)
_PAGE = Timeouts(total=10.0, first_byte=5.0, between_bytes=10.0)


def _page(path: str, summary: str) -> Route:
    return Route(
        method="GET",
        path=path,
        access=Access.PUBLIC,
        body=BodyKind.NONE,
        balancer=BalancerKind.WEB,
        timeouts=_PAGE,
        remember=Remember.EVERYONE,
        summary=summary,
    )


def _file(method: str, path: str, summary: str) -> Route:
    return Route(
        method=method,
        path=path,
        scope="files",
        body=BodyKind.NONE,
        timeouts=_READ,
        remember=Remember.CALLER if method == "GET" else Remember.NO,
        summary=summary,
    )


MANIFEST = Manifest(
    service="storage",
    summary="Files of tenants, and the web pages",
    fallback="moonpool.services.storage.fallback:create",
    routes=(
        _page("/", "The web client"),
        _page("/assets/{path:path}", "What the web client is made of"),
        Route(
            method="POST",
            path="/v1/files",
            scope="files",
            body=BodyKind.STREAMED,
            body_limit=UPLOAD_LIMIT,
            timeouts=_UPLOAD,
            priority=2,
            summary="Upload a file",
        ),
        _file("GET", "/v1/files", "List files"),
        _file("GET", "/v1/files/{file_id}", "One file"),
        _file("GET", "/v1/files/{file_id}/content", "A file's bytes"),
        _file("DELETE", "/v1/files/{file_id}", "Delete a file"),
    ),
)
