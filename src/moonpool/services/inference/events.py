"""What the engine made → the events of a stream. Pure; whole answers are made by `answers`.

A traced piece has its tokens in a comment line at the end of its event (contracts/continuation.py).
"""

from typing import Protocol

from msgspec import UNSET

from moonpool.contracts.continuation import traced
from moonpool.contracts.usage import Usage
from moonpool.openai.chunks import (
    DONE,
    ChatChunk,
    ChunkChoice,
    Delta,
    Logprobs,
    TextChoice,
    TextCompletion,
    event,
    wire_usage,
)
from moonpool.services.inference.answers import Head, text_logprobs
from moonpool.services.inference.engine import Finished, Piece


class Events(Protocol):
    """Makes the events of a stream."""

    def piece(self, index: int, piece: Piece) -> bytes: ...

    def finished(self, index: int, end: Finished) -> bytes: ...

    def end(self, usage: Usage) -> bytes:
        """Usage, when asked for, and `[DONE]`."""


class ChatEvents:
    """A choice's first chunk names the role, unless the answer has `begun` elsewhere."""

    def __init__(self, head: Head, *, include_usage: bool, begun: bool = False) -> None:
        self._head = head
        self._include_usage = include_usage
        self._begun: set[int] = {0} if begun else set()

    def piece(self, index: int, piece: Piece) -> bytes:
        delta = Delta(
            content=piece.text or UNSET,
            reasoning_content=piece.reasoning or UNSET,
            tool_calls=list(piece.tool_calls) or UNSET,
        )
        logprobs = Logprobs(list(piece.logprobs)) if piece.logprobs else None
        chunk = self._chunk([ChunkChoice(index=index, delta=delta, logprobs=logprobs)])
        return self._begin(index) + traced(chunk, piece.tokens, piece.count)

    def finished(self, index: int, end: Finished) -> bytes:
        last = ChunkChoice(index=index, delta=Delta(), finish_reason=end.reason)
        return self._begin(index) + self._chunk([last])

    def end(self, usage: Usage) -> bytes:
        return (self._chunk([], usage) if self._include_usage else b"") + DONE

    def _begin(self, index: int) -> bytes:
        if index in self._begun:
            return b""
        self._begun.add(index)
        return self._chunk([ChunkChoice(index=index, delta=Delta(role="assistant", content=""))])

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> bytes:
        head = self._head
        return event(
            ChatChunk(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=choices,
                usage=(None if usage is None else wire_usage(usage)) if self._include_usage else UNSET,
                system_fingerprint=head.fingerprint,
            )
        )


class TextEvents:
    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._head = head
        self._include_usage = include_usage
        self._offsets: dict[int, int] = {}

    def piece(self, index: int, piece: Piece) -> bytes:
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(piece.text)
        logprobs = text_logprobs(piece.logprobs, offset)
        chunk = self._chunk([TextChoice(index=index, text=piece.text, logprobs=logprobs)])
        return traced(chunk, piece.tokens, piece.count)

    def finished(self, index: int, end: Finished) -> bytes:
        return self._chunk([TextChoice(index=index, text="", finish_reason=end.reason)])

    def end(self, usage: Usage) -> bytes:
        return (self._chunk([], usage) if self._include_usage else b"") + DONE

    def _chunk(self, choices: list[TextChoice], usage: Usage | None = None) -> bytes:
        head = self._head
        return event(
            TextCompletion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=choices,
                usage=(None if usage is None else wire_usage(usage)) if self._include_usage else UNSET,
                system_fingerprint=head.fingerprint,
            )
        )
