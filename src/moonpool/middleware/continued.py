"""A stream whose source may be replaced: what its client reads goes on where it broke.

    source A ──► Continued ──► Stream ──► client          A breaks: `resume` finds source B, and the client
    source B ──►                                          sees neither gap nor repetition

Back-pressure and cancellation go to whichever source is there. What cannot be continued fails as A did: the
edge renders that as an error event, and there is no `[DONE]`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

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


Resume = Callable[[Transcript, UpstreamError], Awaitable[Source | None]]
"""Finds who continues a broken answer; None when nobody may or can. An error of ours says the same."""


class Ceremony(NamedTuple):
    """What is needed to end a stream whose source broke after the last word."""

    chat: bool
    usage_wanted: bool
    prompt_tokens: int
    """An estimate."""
    limit: int | None = None
    """The most tokens that were asked for."""


class Continued:
    """`stream` is the client's. Producer of that one, sink of the sources (`write` is its `feed`)."""

    __slots__ = (
        "_ceremony",
        "_follower",
        "_paused",
        "_resume",
        "_resuming",
        "_source",
        "_transcript",
        "stream",
        "write",
    )

    def __init__(self, source: Source, transcript: Transcript, ceremony: Ceremony, resume: Resume) -> None:
        self._transcript = transcript
        self._ceremony = ceremony
        self._resume = resume
        self._resuming: asyncio.Task[None] | None = None
        self._paused = False
        self._source: Stream | None = None
        self.stream = Stream(self)
        self.write = self.stream.feed
        self._follow(source)

    # ── sink of the source ─────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """The answer is complete: the follower would have made anything else a failure."""
        self._source = None
        self._complete()

    def abort(self, error: Exception) -> None:
        self._source = None
        self._follower.read()
        if self.stream.outcome is not None:
            return
        if self._transcript.done or self._transcript.finished or self._is_full():
            self._complete()
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
        source, self._source = self._source, None
        if source is not None:
            source.cancel()
        if self._resuming is not None:
            self._resuming.cancel()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _follow(self, source: Source) -> None:
        """A half event of the source before never was."""
        self._source = source.stream
        self._follower = Follower(self._transcript, traced=source.traced)
        source.stream.transform(self._follower)
        source.stream.connect(self)
        if self._paused and self._source is source.stream:
            source.stream.pause()

    def _complete(self) -> None:
        if not self._transcript.done:
            self.stream.feed(closing(self._transcript, self._ceremony))
        self.stream.finish()

    def _is_full(self) -> bool:
        """Whether an external endpoint would be asked for no tokens. A local one counts itself, exactly."""
        transcript, limit = self._transcript, self._ceremony.limit
        known = transcript.fault is None and not transcript.traced
        return known and limit is not None and transcript.count >= limit

    async def _go_on(self, error: UpstreamError) -> None:
        try:
            source = await self._resume(self._transcript, error)
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
