"""A stream whose source may be replaced: what its client reads goes on where it broke.

    source A ──► Continued ──► Stream ──► client          A breaks: `resume` finds source B, and the client
    source B ──►                                          sees neither gap nor repetition

Back-pressure and cancellation go to whichever source is there. What cannot be continued fails as A did: the
edge renders that as an error event, and there is no `[DONE]`.
"""

import asyncio
from typing import NamedTuple, Protocol

from moonpool.contracts.usage import Usage
from moonpool.core.body import Stream
from moonpool.core.errors import MoonpoolError, UpstreamError
from moonpool.middleware.continuation import Follower
from moonpool.middleware.transcript import Head, Transcript
from moonpool.openai.chunks import (
    DONE,
    ChatChunk,
    ChunkChoice,
    Delta,
    TextChoice,
    TextCompletion,
    event,
    wire_usage,
)


class Source(NamedTuple):
    """A stream to be followed, not connected yet. `traced`: of a local instance that tells its tokens."""

    stream: Stream
    traced: bool


class Ceremony(NamedTuple):
    """What is needed to end a stream whose source broke after the last word."""

    chat: bool
    usage_wanted: bool
    prompt_tokens: int
    """An estimate."""
    limit: int | None = None
    """The most tokens that were asked for."""


class Answer(Protocol):
    """What is to be known of an answer that breaks: nothing of it is made before it does."""

    def transcript(self) -> Transcript:
        """For what is read of it, called once."""

    def ceremony(self) -> Ceremony: ...

    async def resume(self, transcript: Transcript, error: UpstreamError, /) -> Source | None:
        """Finds who continues it; None when nobody may or can. An error of ours says the same."""


class Continued:
    """`stream` is the client's. Producer of that one, sink of the sources (`write` is its `feed`)."""

    __slots__ = (
        "_answer",
        "_follower",
        "_paused",
        "_resuming",
        "_source",
        "_transcript",
        "stream",
        "write",
    )

    def __init__(self, source: Source, answer: Answer) -> None:
        self._answer = answer
        self._transcript: Transcript | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._paused = False
        self._source: Stream | None = None
        self._follower: Follower | None = None
        self.stream = Stream(self)
        self.write = self.stream.feed
        self._follow(source)

    @property
    def transcript(self) -> Transcript:
        if self._transcript is None:
            self._transcript = self._answer.transcript()
        return self._transcript

    # ── sink of the source ─────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """The answer is complete: the follower would have made anything else a failure."""
        if self._let_go().done:
            self.stream.finish()
        else:
            self._complete(self.transcript)

    def abort(self, error: Exception) -> None:
        follower = self._let_go()
        if self.stream.outcome is not None:
            return
        transcript = follower.read()
        if transcript.done or transcript.finished or self._is_full(transcript):
            self._complete(transcript)
        elif isinstance(error, UpstreamError):
            self._resuming = asyncio.get_running_loop().create_task(self._go_on(error))
        else:
            self.stream.fail(error)

    # ── producer of the client's stream ────────────────────────────────────────────────────────────

    def pause(self) -> None:
        self._paused = True
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        self._paused = False
        if self._source is not None:
            self._source.resume()

    def cancel(self) -> None:
        source = self._source
        if source is not None:
            self._let_go()
            source.cancel()
        if self._resuming is not None:
            self._resuming.cancel()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _let_go(self) -> Follower:
        """The source is over. It, its follower and this know each other: nobody else would free them."""
        follower, self._follower, self._source = self._follower, None, None
        assert follower is not None
        return follower

    def _follow(self, source: Source) -> None:
        """A half event of the source before never was."""
        self._source = source.stream
        self._follower = Follower(self, traced=source.traced)
        source.stream.transform(self._follower)
        source.stream.connect(self)
        if self._paused and self._source is source.stream:
            source.stream.pause()

    def _complete(self, transcript: Transcript) -> None:
        if not transcript.done:
            self.stream.feed(closing(transcript, self._answer.ceremony()))
        self.stream.finish()

    def _is_full(self, transcript: Transcript) -> bool:
        """Whether an external endpoint would be asked for no tokens. A local one counts itself, exactly."""
        limit = self._answer.ceremony().limit
        known = transcript.fault is None and not transcript.traced
        return known and limit is not None and transcript.count >= limit

    async def _go_on(self, error: UpstreamError) -> None:
        try:
            source = await self._answer.resume(self.transcript, error)
        except MoonpoolError:
            source = None
        except Exception:
            self.stream.fail(error)  # the task's end: its client must not wait for ever
            raise
        self._resuming = None
        if self.stream.outcome is not None:
            if source is not None:
                source.stream.cancel()
        elif source is None:
            self.stream.fail(error)
        else:
            self._follow(source)


def closing(transcript: Transcript, ceremony: Ceremony) -> bytes:
    """What a stream still owes its client after the last word."""
    head = transcript.head or Head()
    events = []
    if not transcript.finished:
        events.append(_event(head, ceremony, reason="length"))
    if ceremony.usage_wanted and not transcript.usage_told:
        usage = Usage(
            prompt_tokens=ceremony.prompt_tokens,
            completion_tokens=transcript.count,
            reasoning_tokens=min(transcript.reasoning_count, transcript.count),
        )
        events.append(_event(head, ceremony, usage=usage))
    return b"".join([*events, DONE])


def _event(head: Head, ceremony: Ceremony, *, reason: str = "", usage: Usage | None = None) -> bytes:
    told = None if usage is None else wire_usage(usage)
    name, created, model = head.id or "", head.created or 0, head.model or ""
    fingerprint = head.system_fingerprint
    if ceremony.chat:
        ends = [ChunkChoice(index=0, delta=Delta(), finish_reason=reason)] if reason else []
        return event(
            ChatChunk(
                id=name,
                created=created,
                model=model,
                choices=ends,
                usage=told,
                system_fingerprint=fingerprint,
            )
        )
    texts = [TextChoice(index=0, text="", finish_reason=reason)] if reason else []
    return event(
        TextCompletion(
            id=name,
            created=created,
            model=model,
            choices=texts,
            usage=told,
            system_fingerprint=fingerprint,
        )
    )
