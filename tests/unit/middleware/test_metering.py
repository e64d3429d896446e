"""One request, one usage event: whatever the shape of the answer and the way it ends."""

import asyncio

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonpool.contracts.manifest import Route
from moonpool.contracts.usage import Usage, UsageEvent
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Attempt
from moonpool.core.errors import StreamStalled, StreamTruncated
from moonpool.core.message import Request, Response
from moonpool.middleware import metering
from moonpool.middleware.metering import PROGRESS_EVERY, Metering

REQUEST = Request("POST", "/v1/chat/completions")
TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3}}\n\n'
WITH_CHOICES = (
    b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":10,"completion_tokens":3,'
    b'"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}}\n\n'
)
DONE = b"data: [DONE]\n\n"
REPORTED = Usage(prompt_tokens=10, completion_tokens=3)


def only(journal) -> UsageEvent:
    """The one event that was closed."""
    ((id, value),) = journal.closed
    event = msgspec.json.decode(value, type=UsageEvent)
    assert event.id == id == "req_1"
    return event


async def answer(ctx, journal, response: Response) -> Response:
    async def next(ctx, request) -> Response:
        return response

    return await Metering(journal)(ctx, REQUEST, next)


async def stream(ctx, journal, sink, *pieces: bytes, content_type: bytes = b"text/event-stream") -> Stream:
    body = Stream()
    await answer(ctx, journal, Response(200, [(b"content-type", content_type)], body))
    body.connect(sink)
    for piece in pieces:
        body.feed(piece)
    return body


def test_only_for_metered_routes(journal) -> None:
    meter = Metering(journal)
    assert meter.applies(Route(method="POST", path="/", metered=True))
    assert not meter.applies(Route(method="POST", path="/"))


async def test_a_whole_answer(make_ctx, journal, clock) -> None:
    ctx = make_ctx(model="m", release="v3")
    ctx.attempts = [Attempt("inference-0", "v2", 0.0), Attempt("inference-1", "v3", 1.0)]
    await answer(ctx, journal, Response(200, [], b'{"usage":{"prompt_tokens":10,"completion_tokens":3}}'))
    assert only(journal) == UsageEvent(
        id="req_1", at=clock.time(), user="user_1", tenant="org_1", key="key_1",
        route="/v1/chat/completions", model="m", target="inference-1", release="v3",
        usage=REPORTED, streamed=False,
    )  # fmt: skip


async def test_a_whole_answer_without_usage_is_estimated(make_ctx, journal) -> None:
    await answer(make_ctx(prompt_tokens=12), journal, Response(200, [], b"{}"))
    event = only(journal)
    assert (event.usage, event.estimated) == (Usage(prompt_tokens=12), True)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_refusals_cost_nothing(make_ctx, journal, status: int) -> None:
    await answer(make_ctx(), journal, Response(status, [], b'{"usage":{"prompt_tokens":1}}'))
    await answer(make_ctx(), journal, Response(status, [], Stream()))
    assert journal.closed == []
    assert journal.opened == {}


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_stream_with_its_usage_chunk(make_ctx, journal, sink, wanted: bool) -> None:
    body = await stream(make_ctx(usage_wanted=wanted), journal, sink, TEXT, TEXT + USAGE, DONE)
    body.finish()
    assert sink.data == TEXT + TEXT + (USAGE if wanted else b"") + DONE
    event = only(journal)
    assert (event.usage, event.streamed, event.outcome, event.estimated) == (
        REPORTED,
        True,
        "completed",
        False,
    )
    assert sink.ended == "close"


@pytest.mark.parametrize("wanted", [True, False])
async def test_usage_beside_choices_stays(make_ctx, journal, sink, wanted: bool) -> None:
    body = await stream(make_ctx(usage_wanted=wanted), journal, sink, TEXT, WITH_CHOICES, DONE)
    body.finish()
    assert sink.data == TEXT + WITH_CHOICES + DONE
    assert only(journal).usage == Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)


async def test_the_event_is_safe_before_the_last_byte_leaves(make_ctx, journal, sink) -> None:
    seen: list[int] = []
    body = await stream(make_ctx(), journal, sink, TEXT, USAGE)
    sink.write = lambda data: seen.append(len(journal.closed))
    body.feed(DONE)
    assert seen == [1]


async def test_opened_at_the_first_byte_as_what_a_kill_would_leave(make_ctx, journal, sink) -> None:
    await stream(make_ctx(prompt_tokens=12), journal, sink, TEXT)
    event = msgspec.json.decode(journal.opened["req_1"], type=UsageEvent)
    assert (event.outcome, event.estimated, event.usage.prompt_tokens) == ("interrupted", True, 12)
    assert journal.closed == []


async def test_progress_is_noted_now_and_then(make_ctx, journal, sink) -> None:
    ctx, produced, used = make_ctx(), [], []
    ctx.produced, ctx.progress = produced.append, used.append
    await stream(ctx, journal, sink, *[TEXT] * (PROGRESS_EVERY * 2 + 5))
    assert produced == [PROGRESS_EVERY] * 2
    assert used == [PROGRESS_EVERY, PROGRESS_EVERY * 2]
    assert journal.marks == [("req_1", PROGRESS_EVERY), ("req_1", PROGRESS_EVERY * 2)]


@pytest.mark.parametrize("told", [True, False])
async def test_events_are_counted_the_same_whether_they_are_told_to_be_plain_or_not(
    make_ctx, journal, sink, told: bool
) -> None:
    ctx, produced = make_ctx(), []
    ctx.produced = produced.append
    body = await stream(ctx, journal, sink)
    begun, rest = TEXT[:9], TEXT[9:]
    pieces = [*[bytes(bytearray(TEXT)) for _ in range(PROGRESS_EVERY + 3)], begun, rest, TEXT]
    for piece in pieces:
        if told and piece == TEXT:
            body.plain = piece
        body.feed(piece)
    body.cancel()
    assert sink.data == b"".join(pieces)
    assert produced == [PROGRESS_EVERY]
    assert only(journal).usage.completion_tokens == PROGRESS_EVERY + 5


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (lambda body: body.cancel(), "cancelled"),
        (lambda body: body.fail(StreamStalled("x")), "failed"),
        (lambda body: body.finish(), "failed"),  # without [DONE]: truncated
    ],
)
async def test_what_breaks_off_is_counted_by_events(make_ctx, journal, sink, end, outcome: str) -> None:
    body = await stream(make_ctx(prompt_tokens=12), journal, sink, TEXT, b": keep-alive\n\n", TEXT)
    end(body)
    event = only(journal)
    assert (event.outcome, event.estimated) == (outcome, True)
    assert event.usage == Usage(prompt_tokens=12, completion_tokens=2)


async def test_a_stream_without_its_end_is_a_failure_not_an_end(make_ctx, journal, sink) -> None:
    body = await stream(make_ctx(), journal, sink, TEXT, USAGE)
    body.finish()
    assert isinstance(sink.ended, StreamTruncated)
    assert body.outcome is Outcome.FAILED
    assert only(journal).usage == REPORTED


async def test_an_endpoint_s_own_error_is_passed_on_and_is_no_truncation(make_ctx, journal, sink) -> None:
    error = b'data: {"error":{"message":"out of memory"}}\n\n'
    body = await stream(make_ctx(), journal, sink, TEXT, error)
    body.finish()
    assert sink.data == TEXT + error
    assert sink.ended == "close"
    assert only(journal).outcome == "failed"


async def test_what_comes_after_the_end_changes_nothing(make_ctx, journal, sink) -> None:
    body = await stream(make_ctx(), journal, sink, TEXT, USAGE, DONE, b": bye\n\n")
    body.cancel()
    assert only(journal).outcome == "completed"


async def test_a_silent_stream_that_is_left(make_ctx, journal, sink) -> None:
    body = await stream(make_ctx(prompt_tokens=12), journal, sink)
    body.cancel()
    event = only(journal)
    assert (event.outcome, event.usage.completion_tokens) == ("cancelled", 0)


async def test_an_end_without_its_blank_line_gets_it(make_ctx, journal, sink) -> None:
    body = await stream(make_ctx(), journal, sink, TEXT, USAGE, b"data: [DONE]")
    body.finish()
    assert sink.data.endswith(DONE)
    assert sink.ended == "close"
    assert only(journal).outcome == "completed"


WHOLE = TEXT + b": keep-alive\n\n" + TEXT + USAGE + DONE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, len(WHOLE.replace(b"\n", b"\r\n")) - 1), max_size=30, unique=True),
    wanted=st.booleans(),
    crlf=st.booleans(),
)
async def test_any_split_gives_the_client_and_the_bill_the_same(make_ctx, cuts, wanted, crlf) -> None:
    class Kept:
        def __init__(self) -> None:
            self.closed: list[tuple[str, bytes]] = []
            self.data = b""

        def open(self, id: str, value: bytes) -> None: ...

        def progress(self, id: str, count: int) -> None: ...

        def close(self, *closed: object) -> None:
            if closed:
                self.closed.append(closed)  # type: ignore[arg-type]

        def write(self, data: bytes) -> None:
            self.data += data

    journal, target = Kept(), Kept()
    text = WHOLE.replace(b"\n", b"\r\n") if crlf else WHOLE
    places = sorted(cut for cut in cuts if cut < len(text))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    body = await stream(make_ctx(usage_wanted=wanted), journal, target, *pieces)
    body.finish()
    expected = WHOLE if wanted else WHOLE.replace(USAGE, b"")
    assert target.data == expected
    assert only(journal).usage == REPORTED
    assert body.outcome is Outcome.COMPLETED


async def test_a_long_whole_answer_comes_in_pieces(make_ctx, journal, sink) -> None:
    """Embeddings of a mebibyte, and endpoints that answer JSON in chunks: no stream of events."""
    text = b'{"data":[' + b"0," * 1000 + b'0],"usage":{"prompt_tokens":10,"completion_tokens":3}}'
    pieces = [text[n : n + 100] for n in range(0, len(text), 100)]
    body = await stream(make_ctx(), journal, sink, *pieces, content_type=b"application/json; charset=utf-8")
    assert journal.closed == []
    assert "req_1" in journal.opened
    body.finish()
    assert (sink.data, sink.ended) == (text, "close")
    event = only(journal)
    assert (event.usage, event.streamed, event.outcome, event.estimated) == (
        REPORTED,
        False,
        "completed",
        False,
    )


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(lambda body: body.cancel(), "cancelled"), (lambda body: body.fail(StreamTruncated("x")), "failed")],
)
async def test_a_long_whole_answer_that_breaks_off(make_ctx, journal, sink, end, outcome: str) -> None:
    body = await stream(
        make_ctx(prompt_tokens=12), journal, sink, b'{"data":', content_type=b"application/json"
    )
    end(body)
    event = only(journal)
    assert (event.outcome, event.estimated, event.usage) == (outcome, True, Usage(prompt_tokens=12))


async def test_what_is_too_long_to_be_read_is_estimated(make_ctx, journal, sink, monkeypatch) -> None:
    monkeypatch.setattr(metering, "READ_LIMIT", 50)
    pieces = (b'{"data":"' + b"x" * 60, b'","usage":{"prompt_tokens":10}}')
    body = await stream(make_ctx(prompt_tokens=12), journal, sink, *pieces, content_type=b"application/json")
    body.finish()
    assert sink.data == b"".join(pieces)
    assert only(journal).estimated


@pytest.mark.parametrize("attempted", [True, False])
async def test_a_client_that_leaves_before_a_whole_answer(make_ctx, journal, attempted: bool) -> None:
    ctx = make_ctx(prompt_tokens=12)

    async def next(ctx, request) -> Response:
        if attempted:
            ctx.attempts = [Attempt("inference-0", "v1", 0.0)]
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Metering(journal)(ctx, REQUEST, next)
    if attempted:
        event = only(journal)
        assert (event.outcome, event.estimated, event.usage.prompt_tokens) == ("cancelled", True, 12)
    else:
        assert not journal.closed


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"application/json"])
@pytest.mark.parametrize("end", [lambda body: body.cancel(), lambda body: body.fail(StreamStalled("x"))])
async def test_a_letter_that_is_broken_off_is_counted_when_it_is_sent_again(
    make_ctx, journal, sink, end, content_type: bytes
) -> None:
    ctx = make_ctx(prompt_tokens=12, letter=True)
    pieces = [TEXT] * (PROGRESS_EVERY + 1)
    end(await stream(ctx, journal, sink, *pieces, content_type=content_type))
    assert (journal.opened, journal.marks, journal.closed) == ({}, [], [])
    assert ctx.usage is None


async def test_a_letter_that_is_done_is_counted(make_ctx, journal, sink) -> None:
    body = await stream(make_ctx(letter=True), journal, sink, TEXT, USAGE, DONE)
    body.finish()
    assert only(journal).usage == REPORTED


async def test_a_letter_is_not_counted_while_its_whole_answer_is_awaited(make_ctx, journal) -> None:
    ctx = make_ctx(prompt_tokens=12, letter=True)

    async def next(ctx, request) -> Response:
        ctx.attempts = [Attempt("inference-0", "v1", 0.0)]
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Metering(journal)(ctx, REQUEST, next)
    assert not journal.closed
