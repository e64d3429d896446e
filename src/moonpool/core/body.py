"""A body that arrives over time.

    producer (upstream connection)  ──feed/finish/fail──►  Stream  ──write/close/abort──►  Sink (edge)
                                    ◄─pause/resume/cancel─         ◄─pause/resume/cancel──

Push, not pull: a chunk travels from the socket it came from to the socket it goes to in one call
stack, with no task switch between, which is what makes relaying an event cheap. Like asyncio's own
transports it carries back-pressure as pause and resume.

A stream has one consumer and settles exactly once: COMPLETED, FAILED or CANCELLED. Whatever a filter
holds for the length of a body (lease, permit, reservation, span) it gives back in `on_settled`, which
runs before the sink hears of the end: when a client has its answer, nothing is held for it any more. One
that raises is reported to the event loop and keeps neither the others nor the sink from hearing of it.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from moonpool.core.errors import InternalError, MoonpoolError

BUFFER_LIMIT = 64 * 1024
"""Bytes a stream holds for a consumer that has not come yet before it pauses its producer."""


class Outcome(Enum):
    """How a body ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_CONSUMED = (Outcome.COMPLETED, Outcome.FAILED)


class Sink(Protocol):
    """Where a stream's bytes go. Calls come in order; after `close` or `abort` there are none."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """The body is complete."""

    def abort(self, error: Exception) -> None:
        """The body broke off."""


class Producer(Protocol):
    """What a stream asks of the side that feeds it. `cancel` must stop it and free what it holds."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self) -> None: ...


class Transform(Protocol):
    """Sees every chunk on its way, and may change, hold back or add bytes.

    `finish` returns what is still held and may raise (StreamTruncated) to turn an end into a failure.
    """

    def chunk(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


Settled = Callable[[Outcome, Exception | None], None]
Worth = Callable[[bytes], bool]
"""Whether what has come so far is content, for `Stream.begun`."""


class Stream:
    """See the module. Not thread-safe: all calls come from the event loop that owns the sockets."""

    __slots__ = (
        "_begun",
        "_ended",
        "_flowing",
        "_held",
        "_held_size",
        "_on_settled",
        "_paused",
        "_producer",
        "_sink",
        "_thorough",
        "_transforms",
        "error",
        "outcome",
        "passed_by",
        "plain",
    )

    def __init__(self, producer: Producer | None = None) -> None:
        self._producer = producer
        self._sink: Sink | None = None
        self._held: list[bytes] | None = None  # thousands wait and flow at a time: nothing empty is kept
        self._held_size = 0
        self._ended = False
        self._flowing = False  # the sink has all that was held
        self._paused = False
        self._transforms: tuple[Transform, ...] = ()
        self._thorough: tuple[Transform, ...] = ()  # those of them that see plain pieces, too
        self._on_settled: tuple[Settled, ...] = ()
        self._begun: tuple[Worth, asyncio.Future[None]] | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.plain: bytes | None = None
        """The piece that is being passed on, this very object, when who feeds it knows that it is one whole
        event of an answer and holds nothing but content: whoever would look into it need not."""
        self.passed_by = 0
        """Plain pieces that were not shown to transforms which had no need of them."""

    # ── for filters ────────────────────────────────────────────────────────────────────────────────

    def transform(self, transform: Transform, *, thorough: bool = True) -> None:
        """Put `transform` behind those already there; only before a consumer is connected. One that is not
        `thorough` is content with the number of plain pieces that it was not shown, `passed_by`."""
        assert self._sink is None, "a transform must see the body from its first byte"
        alike = self._thorough is self._transforms
        self._transforms += (transform,)
        if thorough:
            self._thorough = self._transforms if alike else (*self._thorough, transform)

    def on_settled(self, callback: Settled) -> None:
        """Call back once when the body is over (at once when it already is), in order of registration."""
        if self.outcome is None:
            self._on_settled += (callback,)
        else:
            callback(self.outcome, self.error)

    async def begun(self, worth: Worth) -> bool:
        """Returns once `worth` says of what has come (all of it in one piece) that it is content, or when the
        body is over or too long to be looked at. Only before a consumer is connected.

        False for one that came to its end without content. Raises the error of a body that broke off before,
        or what `worth` raises. Cancelling this cancels nothing else.
        """
        if not (self._ended or self._paused or self._is_worth(worth)):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._begun = worth, waiter
            try:
                await waiter
            finally:
                self._begun = None
        if self._is_worth(worth) or not self._ended or self.outcome is not None:
            return True
        if self.error is not None:
            raise self.error
        return False

    def _is_worth(self, worth: Worth) -> bool:
        held = self._held
        return held is not None and worth(held[0] if len(held) == 1 else b"".join(held))

    def _tell_begun(self) -> None:
        assert self._begun is not None
        worth, waiter = self._begun
        if waiter.done():
            return
        try:
            if self._ended or self._paused or self._is_worth(worth):
                waiter.set_result(None)
        except MoonpoolError as error:
            waiter.set_exception(error)

    # ── for the consumer ───────────────────────────────────────────────────────────────────────────

    def connect(self, sink: Sink) -> None:
        """Start the flow into `sink`. What was held so far is written before this returns."""
        assert self._sink is None, "a stream has one consumer"
        assert self.outcome not in _CONSUMED, "a stream has one consumer"
        if self.outcome is Outcome.CANCELLED:
            return
        self._sink = sink
        self._paused, full = False, self._paused
        while self._held:  # writing may make the sink ask for more, which then comes behind
            held, self._held = self._held, None
            for data in held:
                self._pass(data)
                if self.outcome is not None:
                    return
        self._held_size = 0
        self._flowing = True
        if self._ended:
            self._end()
        elif full and not self._paused:  # what was held may have filled the sink
            self.resume()

    def pause(self) -> None:
        self._paused = True
        if self._producer is not None:
            self._producer.pause()

    def resume(self) -> None:
        self._paused = False
        if self._producer is not None:
            self._producer.resume()

    def cancel(self) -> None:
        """The consumer wants no more. Safe at any time and any number of times."""
        if self.outcome is None:
            self._held = None
            self._ended = True
            if self._begun is not None:
                self._tell_begun()
            self._settle(Outcome.CANCELLED, None)

    # ── for the producer ───────────────────────────────────────────────────────────────────────────

    def feed(self, data: bytes) -> None:
        if self._flowing:  # as `_pass`, which would be a frame more for every event
            transforms = self._transforms
            if data is self.plain:
                transforms = self._thorough
                if transforms is not self._transforms:
                    self.passed_by += 1
            if transforms:
                try:
                    for transform in transforms:
                        data = transform.chunk(data)
                        if not data:
                            return
                except Exception as error:  # noqa: BLE001 - see _as_ours
                    self._break(_as_ours(error))
                    return
            if self._sink is not None:  # a transform may have made the consumer cancel
                self._sink.write(data)
            self.plain = None  # what is gone leaves its memory, which is in the cache, to the next event
        elif self.outcome is None and not self._ended:
            if self._held is None:
                self._held = []
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size >= BUFFER_LIMIT and self._sink is None and not self._paused:
                self.pause()
            if self._begun is not None:
                self._tell_begun()

    def finish(self) -> None:
        """The producer has given everything there was."""
        if self.outcome is not None or self._ended:
            return
        self._ended = True
        self._producer = None
        if self._begun is not None:
            self._tell_begun()
        if self._flowing:
            self._end()

    def fail(self, error: Exception) -> None:
        """The producer broke off. What it gave before is still delivered."""
        if self.outcome is not None or self._ended:
            return
        self._ended = True
        self._producer = None
        self.error = error
        if self._begun is not None:
            self._tell_begun()
        if self._flowing:
            self._end()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _pass(self, data: bytes) -> None:
        """To the sink, in `connect`, which holds back what comes meanwhile."""
        try:
            for transform in self._transforms:
                data = transform.chunk(data)
                if not data:
                    return
        except Exception as error:  # noqa: BLE001 - see _as_ours
            self._break(_as_ours(error))
            return
        if self._sink is not None:  # a transform may have made the consumer cancel
            self._sink.write(data)

    def _end(self) -> None:
        sink = self._sink
        assert sink is not None
        self._flowing = False  # what is fed after the end, from within the last write, goes nowhere
        if self.error is not None:
            self._break(self.error)
            return
        try:
            tail = self._finish_transforms()
        except Exception as error:  # noqa: BLE001 - see _as_ours
            self._break(_as_ours(error))
            return
        if tail and self.outcome is None:
            sink.write(tail)
        if self.outcome is None:  # writing may have made the consumer cancel
            self._settle(Outcome.COMPLETED, None)
            sink.close()

    def _finish_transforms(self) -> bytes:
        tail = b""
        for transform in self._transforms:
            if tail:
                tail = transform.chunk(tail)
            tail += transform.finish()
        return tail

    def _break(self, error: Exception) -> None:
        if self.outcome is None:
            sink = self._sink
            assert sink is not None
            self._settle(Outcome.FAILED, error)
            sink.abort(error)

    def _settle(self, outcome: Outcome, error: Exception | None) -> None:
        self.outcome = outcome
        self.error = error
        self._sink = None  # it knows us, too: a circle would keep both, and what filters hold, for minutes
        self._transforms = self._thorough = ()
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.cancel()
            except Exception as fault:  # noqa: BLE001 - see _report
                _report(fault)
        callbacks, self._on_settled = self._on_settled, ()
        for callback in callbacks:
            try:
                callback(outcome, error)
            except Exception as fault:  # noqa: BLE001 - see _report
                _report(fault)


def _report(fault: Exception) -> None:
    """A fault of one who is told that a body is over. It must not reach the others: what they hold would
    leak, and the client would wait for ever."""
    message = "a fault at the end of a body"
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": fault})


def _as_ours(error: Exception) -> MoonpoolError:
    """What a transform raised. An unforeseen error must settle the stream too, or all that is held for
    it would leak: it goes on as the cause of one of ours."""
    if isinstance(error, MoonpoolError):
        return error
    failure = InternalError("the answer could not be processed")
    failure.__cause__ = error
    return failure
