"""The dead letter queue over HTTP: /admin/dlq for operators, /v1/deferred for whoever asked.

An admin sees the letters of the own organisation, as with everything below /admin.
"""

from typing import TypeVar
from urllib.parse import parse_qs

import msgspec

from moonpool.contracts.dead_letters import LetterPage, Purged, ReplayReport, ReplayView, Selection
from moonpool.contracts.manifest import Access, BodyKind, Route, Timeouts
from moonpool.core.context import Context
from moonpool.core.errors import BadRequest, NotFound, Unavailable
from moonpool.core.handler import Handler
from moonpool.core.message import Request, Response
from moonpool.gateway.letter_views import detail, view
from moonpool.middleware.dead_letter import PLACE, Deferred, accepted
from moonpool.middleware.letter_replay import FAILURES, Outcome, Replays, Report
from moonpool.openai.parse import parse
from moonpool.ports.dead_letters import DeadLetters, Letter, State, Which

T = TypeVar("T", bound=msgspec.Struct)
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")
_PATIENT = Timeouts(total=1200.0)
_ONE = "/admin/dlq/{letter_id}"
_STATES = {state.value: state for state in State}
_LONGEST_PAGE = 1000


class DeadLetterRoutes:
    def __init__(self, letters: DeadLetters, replays: Replays) -> None:
        self._letters = letters
        self._replays = replays

    def routes(self) -> list[tuple[Route, Handler]]:
        return [
            (_admin("GET", "/admin/dlq", "List dead letters"), self.index),
            (_admin("GET", _ONE, "One dead letter; ?content=true with its bodies"), self.show),
            (_admin("POST", _ONE + "/replay", "Send one again"), self.replay),
            (_admin("DELETE", _ONE, "Delete one"), self.delete),
            (_admin("POST", "/admin/dlq/replay", "Send many again, while they succeed", True), self.many),
            (_admin("POST", "/admin/dlq/purge", "Delete many", True), self.purge),
            (
                Route(
                    method="GET",
                    path=PLACE + "{letter_id}",
                    access=Access.KEY,
                    body=BodyKind.NONE,
                    summary="The answer of a deferred request: 202 until it is there",
                ),
                self.deferred,
            ),
        ]

    # ── for operators ──────────────────────────────────────────────────────────────────────────────

    async def index(self, ctx: Context, request: Request) -> Response:
        """Query: `state`, `service`, `route`, `cause`, `before`, `limit`, `after`."""
        query = _query(request)
        limit = _limit(query.get("limit", "50"))
        which = Which(
            tenant=ctx.principal.tenant,
            states=_states(tuple(word for word in query.get("state", "").split(",") if word)),
            service=query.get("service", ""),
            route=query.get("route", ""),
            cause=query.get("cause", ""),
            before=_moment(query.get("before")),
        )
        notes = await self._letters.page(which, limit=limit + 1, after=query.get("after", ""))
        return _json(
            200, LetterPage(data=[view(note) for note in notes[:limit]], has_more=len(notes) > limit)
        )

    async def show(self, ctx: Context, request: Request) -> Response:
        letter = await self._own(ctx)
        return _json(200, detail(letter, content=_query(request).get("content") in {"1", "true"}))

    async def replay(self, ctx: Context, request: Request) -> Response:
        letter = await self._own(ctx)
        result = await self._replays.one(letter.note.id)
        if result.outcome is Outcome.GONE:
            raise _unknown(letter.note.id)
        return _json(200, _report(Report(results=[result], stopped=False, has_more=False, after=result.id)))

    async def delete(self, ctx: Context, request: Request) -> Response:
        letter = await self._own(ctx)
        which = Which(id=letter.note.id, tenant=ctx.principal.tenant)
        return _json(200, Purged(deleted=await self._letters.purge(which)))

    async def many(self, ctx: Context, request: Request) -> Response:
        chosen = _body(request, Selection)
        which = _which(ctx, chosen, default=(State.DEAD,))
        report = await self._replays.many(which, limit=chosen.limit, rate=chosen.rate, after=chosen.after)
        return _json(200, _report(report))

    async def purge(self, ctx: Context, request: Request) -> Response:
        which = _which(ctx, _body(request, Selection), default=())
        return _json(200, Purged(deleted=await self._letters.purge(which)))

    # ── for whoever asked ──────────────────────────────────────────────────────────────────────────

    async def deferred(self, ctx: Context, request: Request) -> Response:
        letter = await self._own(ctx, personal=True)
        note, answer = letter.note, letter.answer
        if note.state is State.WAITING:
            told = Deferred(id=note.id, status="waiting", attempts=note.attempts, created_at=note.created_at)
            return accepted(told)
        if answer is None:
            # What attempts of the request itself failed of is told in the words of the inside: for operators.
            last = letter.failures[-1].message if note.deferred and letter.failures else note.cause
            raise Unavailable(
                f"the request could not be done: {last}",
                code="deferred_failed",
                hint=f"It is kept as {note.id}: an operator may send it again.",
            )
        headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        return Response(answer.status, [*headers, _NO_STORE], answer.body)

    async def _own(self, ctx: Context, *, personal: bool = False) -> Letter:
        """The letter that the path names. Raises NotFound also for those of others."""
        id = ctx.parameters["letter_id"]
        letter = await self._letters.get(id)
        principal = ctx.principal
        if letter is None or letter.note.tenant != principal.tenant or not principal.tenant:
            raise _unknown(id)
        if personal and letter.note.user != principal.user and not principal.may("admin"):
            raise _unknown(id)
        return letter


def _admin(method: str, path: str, summary: str, takes_body: bool = False) -> Route:
    return Route(
        method=method,
        path=path,
        access=Access.ADMIN,
        scope="admin",
        body=BodyKind.BUFFERED if takes_body else BodyKind.NONE,
        body_limit=64 * 1024,
        timeouts=_PATIENT,
        priority=0,
        summary=summary,
    )


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no dead letter '{id[:64]}'", code="dead_letter_not_found")


def _which(ctx: Context, chosen: Selection, *, default: tuple[State, ...]) -> Which:
    named = chosen.states or chosen.service or chosen.route or chosen.cause or chosen.before is not None
    if not named and not chosen.all:
        raise BadRequest(
            "nothing was chosen", code="nothing_chosen", hint='Name conditions, or all with {"all": true}.'
        )
    return Which(
        tenant=ctx.principal.tenant,
        states=_states(chosen.states) or default,
        service=chosen.service,
        route=chosen.route,
        cause=chosen.cause,
        before=chosen.before,
    )


def _states(words: tuple[str, ...]) -> tuple[State, ...]:
    try:
        return tuple(_STATES[word] for word in words)
    except KeyError as error:
        raise BadRequest(
            f"there is no state {error}",
            param="state",
            code="invalid_value",
            hint=f"Known are {', '.join(_STATES)}.",
        ) from None


def _report(report: Report) -> ReplayReport:
    outcomes = [result.outcome for result in report.results]
    return ReplayReport(
        data=[
            ReplayView(id=each.id, outcome=each.outcome.value, status=each.status, message=each.message)
            for each in report.results
        ],
        answered=outcomes.count(Outcome.ANSWERED),
        failed=sum(outcome in FAILURES for outcome in outcomes),
        stopped=report.stopped,
        has_more=report.has_more,
        after=report.after,
    )


def _query(request: Request) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(request.query).items()}


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= _LONGEST_PAGE):
        raise BadRequest(f"limit is a number from 1 to {_LONGEST_PAGE}", param="limit", code="invalid_value")
    return int(text)


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise BadRequest("before is Unix seconds", param="before", code="invalid_value") from None


def _body(request: Request, shape: type[T]) -> T:
    assert isinstance(request.body, bytes)
    return parse(shape, request.body or b"{}", {})


def _json(status: int, value: object) -> Response:
    return Response(status, [_JSON, _NO_STORE], msgspec.json.encode(value))
