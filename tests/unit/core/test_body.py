"""The stream under every order of calls that a producer, a sink and filters can make."""

import asyncio
import weakref
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from moonpool.core.body import BUFFER_LIMIT, Outcome, Stream
from moonpool.core.errors import InternalError, StreamTruncated, UpstreamMalformed


class Source:
    """A producer that keeps its bargain: it may feed until told to pause, and once more then."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.paused = False
        self.on_resume: Callable[[], None] = lambda: None

    def pause(self) -> None:
        self.calls.append("pause")
        self.paused = True

    def resume(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.on_resume()

    def cancel(self) -> None:
        self.calls.append("cancel")


class Target:
    def __init__(self, on_write: Callable[[bytes], None] = lambda data: None) -> None:
        self.data: list[bytes] = []
        self.ended: list[object] = []
        self.on_write = on_write

    def write(self, data: bytes) -> None:
        assert not self.ended, "written to after the end"
        self.data.append(data)
        self.on_write(data)

    def close(self) -> None:
        self.ended.append("close")

    def abort(self, error: Exception) -> None:
        self.ended.append(error)


class Mapped:
    def __init__(self, change: Callable[[bytes], bytes], tail: Callable[[], bytes] = lambda: b"") -> None:
        self.chunk = change
        self.finish = tail


def raising(error: Exception) -> Callable[..., bytes]:
    def call(*_: object) -> bytes:
        raise error

    return call


def test_holds_until_connected_then_passes_in_order() -> None:
    stream, target = Stream(), Target()
    stream.feed(b"a")
    stream.feed(b"b")
    stream.connect(target)
    assert target.data == [b"a", b"b"]
    stream.feed(b"c")
    stream.finish()
    assert (target.data, target.ended) == ([b"a", b"b", b"c"], ["close"])
    assert stream.outcome is Outcome.COMPLETED


def test_what_is_fed_after_the_end_is_dropped() -> None:
    stream, target = Stream(), Target()
    stream.feed(b"a")
    stream.finish()
    stream.feed(b"late")
    stream.connect(target)
    stream.feed(b"later")
    assert (target.data, target.ended) == ([b"a"], ["close"])


def test_a_failure_comes_after_what_was_given_before() -> None:
    stream, target, error = Stream(), Target(), StreamTruncated("cut")
    stream.feed(b"a")
    stream.fail(error)
    stream.connect(target)
    assert (target.data, target.ended) == ([b"a"], [error])
    assert (stream.outcome, stream.error) == (Outcome.FAILED, error)


def test_settled_before_the_sink_hears_of_the_end() -> None:
    order: list[str] = []
    stream, target = Stream(), Target()
    target.close = lambda: order.append("close")  # type: ignore[method-assign]
    stream.on_settled(lambda outcome, error: order.append(outcome.value))
    stream.connect(target)
    stream.finish()
    assert order == ["completed", "close"]


def test_late_callbacks_are_called_at_once() -> None:
    stream = Stream()
    stream.cancel()
    seen: list[Outcome] = []
    stream.on_settled(lambda outcome, error: seen.append(outcome))
    assert seen == [Outcome.CANCELLED]


def test_cancelling_stops_the_producer_and_every_later_sink_hears_nothing() -> None:
    source, target = Source(), Target()
    stream = Stream(source)
    stream.feed(b"a")
    stream.cancel()
    stream.cancel()
    stream.connect(target)
    stream.feed(b"b")
    assert source.calls == ["cancel"]
    assert (target.data, target.ended) == ([], [])


def test_an_unread_stream_pauses_its_producer_at_the_limit_and_resumes_when_read() -> None:
    source = Source()
    stream = Stream(source)
    stream.feed(b"x" * (BUFFER_LIMIT - 1))
    assert source.calls == []
    stream.feed(b"x")
    stream.feed(b"x")
    assert source.calls == ["pause"]
    stream.connect(Target())
    assert source.calls == ["pause", "resume"]


def test_a_sink_that_what_was_held_has_filled_stays_paused() -> None:
    """A slow client's buffer: connecting may not undo the pause that it asked for meanwhile."""
    source = Source()
    stream = Stream(source)
    stream.feed(b"x" * BUFFER_LIMIT)
    stream.connect(Target(on_write=lambda data: stream.pause()))
    assert source.paused
    stream.resume()
    assert not source.paused


def test_what_comes_while_the_held_is_written_comes_behind_it() -> None:
    """A sink that asks for more while it is written to, of a producer that gives it at once."""
    source, target = Source(), Target()
    stream = Stream(source)
    more = [b"c", b"d"]

    def give() -> None:
        if more:
            stream.feed(more.pop(0))
        else:
            stream.finish()

    source.on_resume = give
    target.on_write = lambda data: stream.resume()
    stream.feed(b"a")
    stream.feed(b"b")
    stream.connect(target)
    assert b"".join(target.data) == b"abcd"
    assert target.ended == ["close"]


def test_a_sink_may_cancel_while_it_is_written_to() -> None:
    source = Source()
    stream = Stream(source)
    stream.feed(b"a")
    stream.feed(b"b")
    target = Target(on_write=lambda data: stream.cancel())
    stream.connect(target)
    assert (target.data, target.ended) == ([b"a"], [])
    assert source.calls == ["cancel"]


def test_a_sink_may_cancel_on_the_last_bytes() -> None:
    stream = Stream()
    stream.transform(Mapped(lambda data: data, lambda: b"tail"))
    target = Target(on_write=lambda data: stream.cancel())
    stream.connect(target)
    stream.finish()
    assert (target.data, target.ended, stream.outcome) == ([b"tail"], [], Outcome.CANCELLED)


def test_transforms_apply_in_order_and_their_tails_pass_those_behind() -> None:
    stream, target = Stream(), Target()
    stream.transform(Mapped(bytes.upper, lambda: b"one"))
    stream.transform(Mapped(lambda data: b"<%b>" % data, lambda: b"two"))
    stream.connect(target)
    stream.feed(b"a")
    stream.finish()
    assert target.data == [b"<A>", b"<one>two"]


@pytest.mark.parametrize(
    "order", [("first", "easy"), ("easy", "first"), ("first", "easy", "last"), ("easy",)]
)
def test_plain_pieces_pass_those_by_that_need_not_see_them(order: tuple[str, ...]) -> None:
    seen: dict[str, list[bytes]] = {name: [] for name in order}
    stream, target = Stream(), Target()
    for name in order:
        note = Mapped(lambda data, name=name: (seen[name].append(data), data)[1])
        stream.transform(note, thorough=name != "easy")
    stream.plain = held = b"held: all see it"
    stream.feed(held)
    stream.connect(target)
    stream.plain = plain = b"plain"
    stream.feed(plain)
    stream.feed(bytes(bytearray(b"plain")))  # the same bytes, and nobody has told anything of them
    stream.finish()
    assert target.data == [held, plain, plain]
    assert seen.pop("easy") == [held, plain]
    assert all(pieces == [held, plain, plain] for pieces in seen.values())
    assert stream.passed_by == 1


def test_what_is_plain_is_for_one_piece_only() -> None:
    stream, target = Stream(), Target()
    stream.connect(target)
    stream.plain = piece = b"plain"
    stream.feed(piece)
    stream.feed(piece)
    assert (stream.plain, stream.passed_by) == (None, 0)  # all transforms there are have seen it


def test_a_transform_that_holds_everything_back_writes_nothing() -> None:
    stream, target = Stream(), Target()
    stream.transform(Mapped(lambda data: b""))
    stream.connect(target)
    stream.feed(b"a")
    stream.finish()
    assert (target.data, target.ended) == ([], ["close"])


def test_a_transform_may_turn_the_end_into_a_failure() -> None:
    stream, target, error = Stream(), Target(), StreamTruncated("no end")
    stream.transform(Mapped(lambda data: data, raising(error)))
    stream.connect(target)
    stream.finish()
    assert (target.ended, stream.outcome) == ([error], Outcome.FAILED)


@pytest.mark.parametrize("place", ["chunk", "finish"])
def test_an_unforeseen_error_of_a_transform_settles_too(place: str) -> None:
    """Else a lease, a permit and a place in the count of active requests would never come back."""
    source, target, error = Source(), Target(), ZeroDivisionError("a bug")
    stream = Stream(source)
    seen: list[Outcome] = []
    stream.on_settled(lambda outcome, error: seen.append(outcome))
    stream.transform(
        Mapped(raising(error)) if place == "chunk" else Mapped(lambda data: data, raising(error))
    )
    stream.connect(target)
    stream.feed(b"a")
    stream.finish()
    assert seen == [Outcome.FAILED]
    (told,) = target.ended
    assert isinstance(told, InternalError)
    assert told.__cause__ is error
    assert "bug" not in told.message


def test_two_consumers_are_a_mistake() -> None:
    stream = Stream()
    stream.connect(Target())
    with pytest.raises(AssertionError):
        stream.connect(Target())
    with pytest.raises(AssertionError):
        stream.transform(Mapped(lambda data: data))


REACTIONS = ("feed", "feed", "pause", "resume", "cancel", "finish", "fail")


class AnyOrder(RuleBasedStateMachine):
    """A producer that overruns its pause by one chunk at most, a sink that does what it likes when it is
    written to, transforms that hold back or raise: in any order."""

    @initialize(
        holds_back=st.booleans(),
        raises_at=st.sampled_from([None, None, None, 1, 2, 5]),
        fails_at_end=st.sampled_from([False, False, True]),
    )
    def begin(self, holds_back: bool, raises_at: int | None, fails_at_end: bool) -> None:
        self.source, self.target = Source(), Target(self.written)
        self.stream = Stream(self.source)
        self.given = self.fed_paused = 0
        self.ended = self.connected = False
        self.settled: list[Outcome] = []
        self.reactions: list[str] = []
        self.raises_at, self.chunks, self.late = raises_at, 0, b""
        self.fails_at_end, self.holds_back = fails_at_end, holds_back
        self.stream.on_settled(lambda outcome, error: self.settled.append(outcome))
        self.stream.transform(Mapped(self.change, self.tail))

    def change(self, data: bytes) -> bytes:
        self.chunks += 1
        if self.chunks == self.raises_at:
            raise StreamTruncated("a transform's")
        if not self.holds_back:
            return data
        out, self.late = self.late, data
        return out

    def tail(self) -> bytes:
        if self.fails_at_end:
            raise StreamTruncated("at the end")
        return self.late

    def written(self, data: bytes) -> None:
        for reaction in self.reactions[:1]:
            del self.reactions[0]
            getattr(self, reaction)()

    def piece(self) -> bytes:
        self.given += 1
        return b"%d," % self.given + b"." * (BUFFER_LIMIT // 3)

    @rule()
    def feed(self) -> None:
        if self.source.paused:
            if self.fed_paused:
                return
            self.fed_paused += 1
        else:
            self.fed_paused = 0
        if not self.ended:
            self.stream.feed(self.piece())
        else:
            self.stream.feed(b"late")

    @rule(reactions=st.lists(st.sampled_from(REACTIONS), min_size=1, max_size=3))
    def react(self, reactions: list[str]) -> None:
        self.reactions = reactions

    @rule()
    def finish(self) -> None:
        self.ended = True
        self.stream.finish()

    @rule()
    def fail(self) -> None:
        self.ended = True
        self.stream.fail(StreamTruncated("the producer's"))

    @precondition(lambda self: self.given > 2)
    @rule()
    def cancel(self) -> None:
        self.stream.cancel()

    @precondition(lambda self: self.connected)
    @rule()
    def pause(self) -> None:
        self.stream.pause()

    @precondition(lambda self: self.connected)
    @rule()
    def resume(self) -> None:
        self.stream.resume()

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.stream.connect(self.target)

    @invariant()
    def settles_once(self) -> None:
        if not hasattr(self, "stream"):
            return
        assert self.settled == ([] if self.stream.outcome is None else [self.stream.outcome])
        assert self.source.calls.count("cancel") <= 1
        told = self.target.ended
        if self.stream.outcome is Outcome.COMPLETED:
            assert told == ["close"]
        elif self.stream.outcome is Outcome.FAILED:
            assert len(told) == 1
            assert isinstance(told[0], StreamTruncated)
        else:
            assert told == []
        if self.connected and self.ended:
            assert self.stream.outcome is not None

    @invariant()
    def order_is_kept(self) -> None:
        if not hasattr(self, "stream"):
            return
        data = b"".join(self.target.data)
        numbers = [int(n) for n in data.replace(b".", b"").split(b",")[:-1]]
        assert b"late" not in data
        assert numbers == list(range(1, len(numbers) + 1))
        if self.stream.outcome is Outcome.COMPLETED:
            assert len(numbers) == self.given

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        if not hasattr(self, "stream"):
            return
        if not self.connected:
            piece = BUFFER_LIMIT // 3 + 8
            assert sum(map(len, self.stream._held or ())) <= BUFFER_LIMIT + 2 * piece
        else:
            assert self.stream.outcome is not None or not self.stream._held


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


class Broken(Source):
    def cancel(self) -> None:
        raise ValueError("producer")


@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
async def test_a_callback_that_raises_stops_neither_the_others_nor_the_sink(end: str) -> None:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: faults.append(str(context["exception"]))
    )
    stream, sink, told = Stream(Broken()), Target(), []

    def broken(outcome: Outcome, error: Exception | None) -> None:
        raise ValueError("callback")

    stream.on_settled(broken)
    stream.on_settled(lambda outcome, error: told.append(outcome))
    stream.connect(sink)
    error = StreamTruncated("x")
    {"finish": stream.finish, "fail": lambda: stream.fail(error), "cancel": stream.cancel}[end]()
    outcomes = {"finish": Outcome.COMPLETED, "fail": Outcome.FAILED, "cancel": Outcome.CANCELLED}
    assert told == [outcomes[end]]
    assert sink.ended == {"finish": ["close"], "fail": [error], "cancel": []}[end]
    assert faults == (["producer", "callback"] if end == "cancel" else ["callback"])


# ── begun ────────────────────────────────────────────────────────────────────────────────────────


def has_x(data: bytes) -> bool:
    return b"x" in data


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_begun_is_over_once_what_came_is_content() -> None:
    stream, target = Stream(), Target()
    stream.feed(b"a")
    waiting = asyncio.create_task(stream.begun(has_x))
    await turns()
    stream.feed(b"b")
    await turns()
    assert not waiting.done()
    stream.feed(b"x")
    assert await waiting
    stream.feed(b"c")
    stream.connect(target)
    assert target.data == [b"a", b"b", b"x", b"c"]  # nothing was taken


async def test_begun_looks_at_all_that_came_in_one_piece() -> None:
    stream, seen = Stream(), []

    def worth(data: bytes) -> bool:
        seen.append(data)
        return data == b"abc"

    stream.feed(b"a")
    stream.feed(b"b")
    waiting = asyncio.create_task(stream.begun(worth))
    await turns()
    stream.feed(b"c")
    assert await waiting
    assert seen[0] == b"ab"
    assert seen[-1] == b"abc"


async def test_begun_does_not_wait_for_what_is_there() -> None:
    stream = Stream()
    stream.feed(b"x")
    assert await stream.begun(has_x)
    stream.feed(b"more")
    stream.finish()
    assert await stream.begun(has_x)


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("came", [b"", b"a"])
@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
async def test_begun_of_a_body_that_is_over_without_content(late: bool, came: bytes, end: str) -> None:
    stream, error = Stream(Source()), StreamTruncated("cut")

    def over() -> None:
        {"finish": stream.finish, "fail": lambda: stream.fail(error), "cancel": stream.cancel}[end]()

    if came:
        stream.feed(came)
    if not late:
        over()
    waiting = asyncio.create_task(stream.begun(has_x))
    await turns()
    assert waiting.done() != late
    if late:
        over()
    if end == "fail":
        with pytest.raises(StreamTruncated) as raised:
            await waiting
        assert raised.value is error
    else:
        assert await waiting == (end == "cancel")  # nobody is to blame for what the consumer did


async def test_content_that_came_before_a_body_broke_off_is_delivered() -> None:
    stream, target, error = Stream(), Target(), StreamTruncated("cut")
    stream.feed(b"x")
    stream.fail(error)
    assert await stream.begun(has_x)
    stream.connect(target)
    assert (target.data, target.ended) == ([b"x"], [error])


@pytest.mark.parametrize("late", [True, False])
async def test_begun_gives_up_on_what_is_too_long_to_be_looked_at(late: bool) -> None:
    """Also when all of it came before anybody looked: the producer is paused, and nothing more will come."""
    source = Source()
    stream = Stream(source)
    if not late:
        stream.feed(b"a" * BUFFER_LIMIT)
    waiting = asyncio.create_task(stream.begun(has_x))
    await turns()
    if late:
        stream.feed(b"a" * BUFFER_LIMIT)
    async with asyncio.timeout(1):
        assert await waiting
    assert source.paused
    stream.connect(Target())
    assert not source.paused


async def test_cancelling_begun_cancels_nothing_else() -> None:
    source, target = Source(), Target()
    stream = Stream(source)
    waiting = asyncio.create_task(stream.begun(has_x))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    stream.feed(b"x")
    stream.connect(target)
    stream.finish()
    assert (target.data, target.ended, source.calls) == ([b"x"], ["close"], [])


@pytest.mark.parametrize("late", [True, False])
async def test_what_a_judge_of_content_raises_reaches_whoever_waits(late: bool) -> None:
    """And not the socket that feeds."""
    stream, error = Stream(Source()), UpstreamMalformed("no events")
    if not late:
        stream.feed(b"a")
    waiting = asyncio.create_task(stream.begun(raising(error)))
    await turns()
    if late:
        stream.feed(b"a")
    with pytest.raises(UpstreamMalformed) as raised:
        await waiting
    assert raised.value is error
    stream.feed(b"b")
    assert stream.outcome is None


async def test_nothing_settles_a_body_because_it_has_begun() -> None:
    stream = Stream()
    seen: list[Outcome] = []
    stream.on_settled(lambda outcome, error: seen.append(outcome))
    stream.feed(b"x")
    stream.finish()
    assert await stream.begun(has_x)
    assert seen == []
    stream.connect(Target())
    assert seen == [Outcome.COMPLETED]


@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
def test_when_it_is_over_it_holds_neither_its_sink_nor_its_filters(end: str) -> None:
    """They know it as well: what makes a circle is freed minutes later."""
    stream, target = Stream(), Target()
    mapped = Mapped(bytes.upper)
    references = [weakref.ref(target), weakref.ref(mapped)]
    stream.transform(mapped)
    stream.connect(target)
    stream.feed(b"a")
    if end == "finish":
        stream.finish()
    elif end == "fail":
        stream.fail(UpstreamMalformed("x"))
    else:
        stream.cancel()
    del target, mapped

    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("end", ["finish", "fail"])
def test_one_consumer_also_when_it_is_over(end: str) -> None:
    stream = Stream()
    stream.connect(Target())
    stream.finish() if end == "finish" else stream.fail(UpstreamMalformed("x"))
    with pytest.raises(AssertionError):
        stream.connect(Target())
