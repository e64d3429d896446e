"""A client's stream whose source breaks: it goes on, ends properly, or fails; and nothing is left behind."""

import asyncio
import gc
from collections.abc import Callable, Iterator

import msgspec
import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import BadRequest, ConnectionReset, StreamTruncated, Unavailable, UpstreamError
from moonpool.middleware.continued import Ceremony, Continued, Source
from moonpool.middleware.kept_events import BATCH
from moonpool.middleware.transcript import Transcript

DONE = b"data: [DONE]\n\n"
BROKE = ConnectionReset("broke")


def event(text: str = "", reason: str | None = None, token: int | None = None, **fields) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    line = b"" if token is None else b":k=%d\n" % token
    data = {"id": "c", "created": 1, "model": "m", "choices": [choice], **fields}
    return b"data: " + msgspec.json.encode(data) + b"\n" + line + b"\n"


class Endpoint:
    """A source's producer, which remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.stream = Stream(self)
        self.outcome: Outcome | None = None
        self.stream.on_settled(lambda outcome, error: setattr(self, "outcome", outcome))

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def cancel(self) -> None:
        self.told.append("cancel")


class Client:
    def __init__(self) -> None:
        self.data = b""
        self.ended: str | Exception | None = None
        self.over = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.ended = "closed"
        self.over.set()

    def abort(self, error: Exception) -> None:
        self.ended = error
        self.over.set()


class Case:
    """One client's stream. `second` answers the first call of resume, `third` the next."""

    def __init__(
        self,
        *,
        chat: bool = True,
        usage_wanted: bool = False,
        limit: int | None = None,
        connected: bool = True,
    ) -> None:
        self.first, self.second, self.third = Endpoint(), Endpoint(), Endpoint()
        self.client = Client()
        self.asked: list[tuple[str, list, Exception]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusal: Exception | None = None
        self.nobody = False
        self._ceremony = Ceremony(chat, usage_wanted, 30, limit)
        self.continued = Continued(Source(self.first.stream, True), self)
        if connected:
            self.continued.stream.connect(self.client)

    def transcript(self) -> Transcript:
        return Transcript()

    def ceremony(self) -> Ceremony:
        return self._ceremony

    async def resume(self, transcript: Transcript, error: Exception) -> Source | None:
        self.asked.append((transcript.text, transcript.begun().answer, error))
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        if self.nobody:
            return None
        return Source((self.second, self.third)[len(self.asked) - 1].stream, True)


@pytest.fixture
async def case_of() -> Callable[..., Case]:
    return Case


@pytest.fixture
def left() -> Iterator[Callable[[], set[str]]]:
    """The kinds of what only the collector of circles can free: it looks rarely."""

    def look() -> set[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        return {type(each).__name__ for each in gc.garbage}

    gc.collect()
    gc.disable()
    yield look
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("how", ["done", "broken", "continued", "left"])
async def test_it_is_freed_when_it_is_over(case_of, left, how: str) -> None:
    case = case_of()
    case.nobody = how != "continued"
    case.first.stream.feed(event("a", token=1))
    if how == "done":
        case.first.stream.feed(DONE)
        case.first.stream.finish()
    elif how == "left":
        case.continued.stream.cancel()
    else:
        case.first.stream.fail(BROKE)
        await settle()
    if how == "continued":
        case.second.stream.feed(DONE)
        case.second.stream.finish()
    assert case.continued.stream.outcome is not None
    case.continued = None
    assert not left() & {"Continued", "Follower", "KeptEvents", "Transcript"}


async def test_plain_events_are_counted_for_whoever_they_pass_by(case_of) -> None:
    """As metering does, which must see the first of a stream and one of so many."""

    class Meter:
        def __init__(self) -> None:
            self.seen: list[bytes] = []

        def chunk(self, data: bytes) -> bytes:
            self.seen.append(data)
            return data

        def finish(self) -> bytes:
            return b""

    case, meter = case_of(connected=False), Meter()
    case.continued.stream.transform(meter, thorough=False)
    case.continued.stream.connect(case.client)
    events = [event(f" word{number}") for number in range(5 * BATCH)]
    gaps, since = [], 0
    for each in events:
        case.first.stream.feed(each)
        since = 0 if meter.seen and meter.seen[-1] is each else since + 1
        gaps.append(since)
    assert meter.seen[0] == events[0]
    assert BATCH - 3 <= max(gaps) <= BATCH
    assert len(meter.seen) + case.continued.stream.passed_by == len(events)
    assert case.client.data == b"".join(events)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_undisturbed_it_changes_nothing_but_the_lines_of_tokens(case_of) -> None:
    case = case_of()
    case.first.stream.feed(event("a", token=1) + event("b", token=2))
    case.first.stream.feed(event(reason="stop") + DONE)
    case.first.stream.finish()
    assert case.client.data == event("a") + event("b") + event(reason="stop") + DONE
    assert case.client.ended == "closed"
    assert case.asked == []
    assert case.first.outcome is Outcome.COMPLETED


async def test_it_goes_on_where_it_broke_as_often_as_it_breaks(case_of) -> None:
    case = case_of()
    case.first.stream.feed(event("a", token=1) + event("lost", token=9)[:-1])
    case.first.stream.fail(BROKE)
    await settle()
    case.second.stream.feed(event("b", token=2))
    case.second.stream.fail(BROKE)
    await settle()
    case.third.stream.feed(event("c", token=3) + event(reason="stop") + DONE)
    case.third.stream.finish()
    assert case.client.data == b"".join(map(event, "abc")) + event(reason="stop") + DONE
    assert case.client.ended == "closed"
    assert case.asked == [("a", [1], BROKE), ("ab", [1, 2], BROKE)]
    assert case.first.outcome is Outcome.FAILED


async def test_a_body_that_ends_too_early_failed(case_of) -> None:
    case = case_of()
    case.first.stream.feed(event("a"))
    case.first.stream.finish()
    await settle()
    assert case.first.outcome is Outcome.FAILED
    assert isinstance(case.asked[0][2], StreamTruncated)
    case.second.stream.feed(DONE)
    case.second.stream.finish()
    assert case.client.data == event("a") + DONE


async def test_an_error_told_in_the_stream_is_a_break(case_of) -> None:
    case = case_of()
    case.first.stream.feed(event("a"))
    case.first.stream.feed(b'data: {"error":{"message":"drained","type":"server_error"}}\n\n')
    await settle()
    assert case.client.data == event("a")
    assert isinstance(case.asked[0][2], UpstreamError)
    assert case.first.outcome is Outcome.FAILED


async def test_the_clients_own_fault_is_not_tried_elsewhere(case_of) -> None:
    case = case_of()
    case.first.stream.feed(b'data: {"error":{"message":"bad","type":"invalid_request_error"}}\n\n')
    await settle()
    assert isinstance(case.client.ended, BadRequest)
    assert case.asked == []


@pytest.mark.parametrize("refusal", [None, Unavailable("nobody is there")])
async def test_what_nobody_continues_fails_as_it_did_and_is_not_done(case_of, refusal) -> None:
    case = case_of()
    case.nobody, case.refusal = True, refusal
    case.first.stream.feed(event("a"))
    case.first.stream.fail(BROKE)
    await case.client.over.wait()
    assert case.client.ended is BROKE
    assert b"[DONE]" not in case.client.data


async def test_a_fault_of_ours_does_not_leave_the_client_waiting(case_of) -> None:
    case = case_of()
    case.refusal = KeyError("ours")
    told: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    case.first.stream.fail(BROKE)
    await case.client.over.wait()
    assert case.client.ended is BROKE


@pytest.mark.parametrize("wanted", [False, True])
async def test_after_the_last_word_only_the_ceremony_is_missing(case_of, wanted: bool) -> None:
    case = case_of(usage_wanted=wanted)
    case.first.stream.feed(event("a", token=1) + event(reason="stop"))
    case.first.stream.fail(BROKE)
    assert case.client.ended == "closed"
    assert case.asked == []
    rest = case.client.data.removeprefix(event("a") + event(reason="stop"))
    assert rest.endswith(DONE)
    if wanted:
        chunk = msgspec.json.decode(rest.removesuffix(DONE)[6:])
        assert (chunk["id"], chunk["choices"]) == ("c", [])
        assert (chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"]) == (30, 1)
    else:
        assert rest == DONE


async def test_a_break_after_done_is_none(case_of) -> None:
    case = case_of()
    case.first.stream.feed(event("a") + event(reason="stop") + DONE)
    case.first.stream.fail(BROKE)
    assert case.client.ended == "closed"
    assert case.client.data.count(b"[DONE]") == 1


@pytest.mark.parametrize("chat", [False, True])
async def test_an_external_answer_as_long_as_was_asked_for_is_complete(case_of, chat: bool) -> None:
    case = case_of(limit=2, chat=chat)
    case.first.stream.feed(event("a") + event("b"))
    case.first.stream.fail(BROKE)
    assert case.client.ended == "closed"
    *_, last, done, nothing = case.client.data.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    chunk = msgspec.json.decode(last[6:])
    assert chunk["choices"][0]["finish_reason"] == "length"
    assert ("delta" in chunk["choices"][0]) == chat


async def test_back_pressure_reaches_whoever_is_the_source(case_of) -> None:
    case = case_of()
    case.continued.stream.pause()
    assert case.first.told == ["pause"]
    case.first.stream.fail(BROKE)
    await settle()
    assert case.second.told == ["pause"]
    case.continued.stream.resume()
    assert case.second.told == ["pause", "resume"]
    assert case.first.told == ["pause"]


async def test_a_client_that_leaves_cancels_the_source(case_of) -> None:
    case = case_of()
    case.continued.stream.cancel()
    assert case.first.told == ["cancel"]
    case = case_of()
    case.first.stream.fail(BROKE)
    await settle()
    case.continued.stream.cancel()
    assert case.second.told == ["cancel"]
    assert case.second.outcome is Outcome.CANCELLED


async def test_a_client_that_leaves_meanwhile_stops_the_search(case_of) -> None:
    case = case_of()
    case.gate.clear()
    case.first.stream.fail(BROKE)
    await settle()
    case.continued.stream.cancel()
    task = case.continued._resuming
    assert task is not None
    await asyncio.wait([task])
    assert task.cancelled()
    assert case.second.told == []


async def test_what_a_source_held_before_it_was_followed_comes_first(case_of) -> None:
    case = case_of()
    case.second.stream.feed(event("b"))
    case.first.stream.feed(event("a"))
    case.first.stream.fail(BROKE)
    await settle()
    assert case.client.data == event("a") + event("b")
