"""The storage service's HTTP surface: /v1/files, and the web pages."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.core.errors import NotFound
from moonpool.services.storage.manifest import FILE_LIMIT, UPLOAD_LIMIT
from moonpool.services.storage.pages import HEADERS, INDEX, Page
from moonpool.services.storage.schema import DeletedFile, File, FilePage, Order
from moonpool.services.storage.service import Files
from moonpool.services.storage.upload import Upload

AnyRequest = Request[Any, Any, Any]
CallerOf = NamedDependency[Caller]
Limit = Annotated[int, QueryParameter(ge=1, le=10_000)]
Text = FromQuery[str | None]
Id = FromPath[str]


def file_routes(files: Files) -> list[ControllerRouterHandler]:
    @post("/v1/files", status_code=200, request_max_body_size=UPLOAD_LIMIT, summary="Upload a file")
    async def create(caller: CallerOf, request: AnyRequest) -> File:
        content_type = request.headers.get("content-type", "")
        upload = Upload(content_type, request.stream(), limit=FILE_LIMIT)
        return await files.upload(caller.principal, upload)

    @get("/v1/files", summary="List files")
    async def index(
        caller: CallerOf,
        purpose: Text = None,
        limit: Limit = 10_000,
        after: Text = None,
        order: FromQuery[Order] = "desc",
    ) -> FilePage:
        data, more = await files.store.list(
            caller.principal.tenant, purpose=purpose, limit=limit, after=after, order=order
        )
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return FilePage(data=data, first_id=first, last_id=last, has_more=more)

    @get("/v1/files/{file_id:str}", summary="One file")
    async def show(caller: CallerOf, file_id: Id) -> File:
        return await files.store.find(caller.principal.tenant, file_id)

    @get("/v1/files/{file_id:str}/content", summary="A file's bytes")
    async def content(caller: CallerOf, file_id: Id) -> Stream:
        file, chunks = await files.content(caller.principal, file_id)
        # Never shown as a page: whatever was uploaded must not run in this origin.
        headers = {
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox",
            "cache-control": "private, no-store",
        }
        return Stream(chunks, media_type="application/octet-stream", headers=headers)

    @delete("/v1/files/{file_id:str}", status_code=200, summary="Delete a file")
    async def remove(caller: CallerOf, file_id: Id) -> DeletedFile:
        await files.delete(caller.principal, file_id)
        return DeletedFile(id=file_id)

    return [create, index, show, content, remove]


def page_routes(pages: Mapping[str, Page]) -> list[ControllerRouterHandler]:
    @get("/", include_in_schema=False)
    async def index(request: AnyRequest) -> Response[bytes]:
        return _serve(pages[INDEX], request)

    @get("/assets/{path:path}", include_in_schema=False)
    async def asset(request: AnyRequest, path: FromPath[str]) -> Response[bytes]:
        page = pages.get("assets/" + path.removeprefix("/"))
        if page is None:
            raise NotFound("There is no such page.")
        return _serve(page, request)

    return [index, asset]


def _serve(page: Page, request: AnyRequest) -> Response[bytes]:
    headers = {**HEADERS, "etag": page.etag}
    if page.matches(request.headers.get("if-none-match")):
        return Response(b"", status_code=304, headers=headers, media_type=page.content_type)
    return Response(page.content, headers=headers, media_type=page.content_type)
