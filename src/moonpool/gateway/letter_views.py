"""Dead letters as operators see them. Pure."""

from collections.abc import Mapping

from moonpool.contracts.dead_letters import ContentView, FailureView, LetterDetail, LetterView
from moonpool.ports.dead_letters import Letter, Note, State


def view(note: Note) -> LetterView:
    return LetterView(
        id=note.id,
        request_id=note.request_id,
        state=note.state.value,
        deferred=note.deferred,
        user=note.user,
        service=note.service,
        method=note.method,
        route=note.route,
        cause=note.cause,
        attempts=note.attempts,
        created_at=note.created_at,
        updated_at=note.updated_at,
        next_at=note.next_at if note.state is State.WAITING else None,
        size=note.size,
    )


def detail(letter: Letter, *, content: bool) -> LetterDetail:
    short, sent, answer = view(letter.note), letter.sent, letter.answer
    failures = [
        FailureView(at=each.at, status=each.status, code=each.code, message=each.message)
        for each in letter.failures
    ]
    full = LetterDetail(
        **{name: getattr(short, name) for name in LetterView.__struct_fields__},
        path=sent.path,
        query=sent.query,
        body_bytes=len(sent.body),
        failures=failures,
        answer_status=None if answer is None else answer.status,
    )
    if content:
        full.request = _content(sent.headers, sent.body)
        full.answer = None if answer is None else _content(answer.headers, answer.body)
    return full


def _content(headers: Mapping[str, str], body: bytes) -> ContentView:
    return ContentView(headers=dict(headers), body=body.decode("utf-8", "replace"))
