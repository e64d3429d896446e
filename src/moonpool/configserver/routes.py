"""The config server over HTTP: thin handlers around ConfigService."""

from collections.abc import Awaitable
from typing import Annotated

import msgspec
from litestar import Response, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.configserver.faults import Author, StaleMatch, VersionConflict
from moonpool.configserver.hub import Hub
from moonpool.configserver.service import ConfigService, Expected
from moonpool.configserver.views import (
    LAST_VERSION,
    AuditPage,
    DiffView,
    DocumentHeads,
    DocumentView,
    KindView,
    KindViews,
    Outcome,
    PatchDocument,
    PutDocument,
    Rollback,
    Trial,
    head,
)
from moonpool.contracts.documents.diff import diff
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.wire import OPERATOR, WATCH
from moonpool.core.errors import BadRequest, PermissionDenied, Unavailable
from moonpool.core.principal import RANK, Role
from moonpool.openai.errors import render_error

CallerOf = NamedDependency[Caller]
IfMatch = Annotated[str, HeaderParameter(name="if-match")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Version = Annotated[int | None, QueryParameter(ge=0, le=LAST_VERSION)]
Before = Annotated[int | None, QueryParameter(ge=1, le=LAST_VERSION)]
Answer = Response[Outcome] | Response[bytes]
_BASE = "/admin/config"


def handlers(service: ConfigService, hub: Hub, kinds: Kinds) -> list[ControllerRouterHandler]:
    return [*_reading(service, kinds), *_history(service), *_changing(service), *_internal(service, hub)]


def _reading(service: ConfigService, kinds: Kinds) -> list[ControllerRouterHandler]:
    @get(f"{_BASE}/documents", summary="List the documents")
    async def list_documents(caller: CallerOf) -> DocumentHeads:
        _admin(caller)
        return DocumentHeads(data=[head(each) for each in service.snapshot.documents])

    @get(f"{_BASE}/documents/{{name:path}}", summary="A document")
    async def show(caller: CallerOf, name: FromPath[str], version: Version = None) -> Response[DocumentView]:
        _admin(caller)
        found = await service.find(name.lstrip("/"), version)
        view = DocumentView(
            name=found.name,
            version=found.version,
            author=found.author,
            reason=found.reason,
            at=found.at,
            content=found.content,
            stale=service.snapshot.stale,
        )
        return Response(view, headers={"etag": f'"{found.version}"'})

    @get(f"{_BASE}/kinds", summary="The kinds of documents")
    async def list_kinds(caller: CallerOf) -> KindViews:
        _admin(caller)
        return KindViews(
            data=[
                KindView(name=kind.name, summary=kind.summary, schema=msgspec.json.schema(kind.shape))
                for kind in kinds
            ]
        )

    return [list_documents, show, list_kinds]


def _history(service: ConfigService) -> list[ControllerRouterHandler]:
    @get(f"{_BASE}/history/{{name:path}}", summary="A document's versions")
    async def history(
        caller: CallerOf, name: FromPath[str], limit: Limit = 20, before: Before = None
    ) -> DocumentHeads:
        _admin(caller)
        found = await service.history(name.lstrip("/"), before, limit + 1)
        return DocumentHeads(data=[head(each) for each in found[:limit]], has_more=len(found) > limit)

    @get(f"{_BASE}/diff/{{name:path}}", summary="What differs between two versions")
    async def compare(
        caller: CallerOf,
        name: FromPath[str],
        old: Version = None,
        new: Version = None,
    ) -> DiffView:
        """Without `new` the present version; without `old` the one before."""
        _admin(caller)
        title = name.lstrip("/")
        after = await service.find(title, new)
        base = after.version - 1 if old is None else old
        before = await service.find(title, base) if base > 0 else None
        return DiffView(
            name=title,
            old=before.version if before else 0,
            new=after.version,
            changes=diff(before.content if before else {}, after.content),
        )

    @get(f"{_BASE}/audit", summary="Who changed what")
    async def audit(
        caller: CallerOf, name: FromQuery[str] = "", limit: Limit = 50, before: Before = None
    ) -> AuditPage:
        _admin(caller)
        found = await service.audited(name, before, limit + 1)
        return AuditPage(data=found[:limit], has_more=len(found) > limit)

    return [history, compare, audit]


def _changing(service: ConfigService) -> list[ControllerRouterHandler]:
    @put(f"{_BASE}/documents/{{name:path}}", summary="Replace a document")
    async def replace(
        caller: CallerOf, name: FromPath[str], data: JSONBody[PutDocument], if_match: IfMatch = ""
    ) -> Answer:
        author = _admin(caller)
        expected = _expected(data.version, if_match, needed=True)
        return await _done(service.put(name.lstrip("/"), data.content, expected, author, data.reason))

    @patch(f"{_BASE}/documents/{{name:path}}", summary="Change places of a document")
    async def change(
        caller: CallerOf, name: FromPath[str], data: JSONBody[PatchDocument], if_match: IfMatch = ""
    ) -> Answer:
        author = _admin(caller)
        expected = _expected(data.version, if_match)
        return await _done(service.patch(name.lstrip("/"), data, expected, author))

    @post(f"{_BASE}/rollback/{{name:path}}", status_code=200, summary="Go back to a version")
    async def rollback(
        caller: CallerOf, name: FromPath[str], data: JSONBody[Rollback], if_match: IfMatch = ""
    ) -> Answer:
        author = _admin(caller)
        expected = _expected(data.version, if_match)
        return await _done(service.rollback(name.lstrip("/"), data, expected, author))

    @post(f"{_BASE}/validate/{{name:path}}", status_code=200, summary="Check a document")
    async def validate(caller: CallerOf, name: FromPath[str], data: JSONBody[Trial]) -> Outcome:
        _admin(caller)
        title = name.lstrip("/")
        judgement = service.judge(title, data.content)
        present = service.snapshot.find(title)
        return Outcome(
            name=title,
            version=present.version if present else 0,
            changed=False,
            changes=judgement.changes,
            takes_effect="restart" if judgement.restart else "now",
            restart=judgement.restart,
            shadowed=judgement.shadowed,
            lost=judgement.lost,
        )

    return [replace, change, rollback, validate]


def _internal(service: ConfigService, hub: Hub) -> list[ControllerRouterHandler]:
    @get(WATCH, include_in_schema=False)
    async def watch(caller: CallerOf, since: FromQuery[str] = "") -> Stream:
        _module(caller)
        if hub.closed:
            raise Unavailable("this config server is ending", retry_after=1.0)
        if not service.snapshot.epoch:
            service.require()
        return Stream(
            hub.watch(since),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    @put("/internal/documents/{name:path}", include_in_schema=False)
    async def write(caller: CallerOf, name: FromPath[str], data: JSONBody[PutDocument]) -> Answer:
        author = _module(caller)
        expected = _expected(data.version, "", needed=True)
        return await _done(service.put(name.lstrip("/"), data.content, expected, author, data.reason))

    return [watch, write]


async def _done(change: Awaitable[Outcome]) -> Answer:
    """The outcome with its version as `etag`; who comes too late gets the present one."""
    try:
        outcome = await change
    except (VersionConflict, StaleMatch) as error:
        refused = render_error(error)
        assert isinstance(refused.body, bytes)
        headers = {"etag": f'"{error.present}"'}
        return Response(
            refused.body, status_code=refused.status, headers=headers, media_type="application/json"
        )
    return Response(outcome, headers={"etag": f'"{outcome.version}"'})


def _expected(version: int | None, if_match: str, *, needed: bool = False) -> Expected:
    if if_match:
        text = if_match.strip().removeprefix("W/").strip('"')
        if not text.isdecimal() or len(text) > len(str(LAST_VERSION)):
            raise BadRequest(
                "if-match must name a version", param="if-match", hint='Write it as in `etag`: "7".'
            )
        return Expected(int(text), header=True)
    if version is None and needed:
        raise BadRequest(
            "which version does this replace?",
            code="version_required",
            param="version",
            hint="Give the version you have read in `version` (0: there is none yet), or as If-Match.",
        )
    return Expected(version)


def _admin(caller: Caller) -> Author:
    principal = caller.principal
    if RANK[principal.role] < RANK[Role.ADMIN] or not principal.may("admin"):
        raise PermissionDenied("only admins see and change the platform's documents")
    local = caller.issuer == OPERATOR
    return Author(principal.user, principal.key, caller.request_id, local=local)


def _module(caller: Caller) -> Author:
    service = caller.principal.service
    if not service or service != caller.issuer:
        raise PermissionDenied("only modules follow the platform's documents, for themselves")
    return Author(service, "", caller.request_id, service)
