"""Chat completions as the command line needs them: the request, the whole answer, a stream's text."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from moonpool.cli.api import FAILED, CommandFailed
from moonpool.core.errors import UpstreamMalformed
from moonpool.http.sse import EventScanner, data_of


class Turn(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class Request(msgspec.Struct, frozen=True):
    model: str
    messages: list[Turn]
    stream: bool


class _Message(msgspec.Struct):
    role: str = "assistant"
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    index: int = 0
    finish_reason: str | None = None


class Completion(msgspec.Struct):
    """What `--json` prints."""

    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Error(msgspec.Struct):
    message: str = "the model failed"
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    error: _Error | None = None


def pieces(chunks: Iterable[bytes]) -> Iterator[str]:
    """The text in a stream of chunks, as it comes. Raises CommandFailed when it ends before its end."""
    scanner = EventScanner()
    for chunk in chunks:
        try:
            events = scanner.feed(chunk)
        except UpstreamMalformed as error:
            raise CommandFailed(error.message, exit_code=FAILED) from None
        for event in events:
            data = data_of(event)
            if data == b"[DONE]":
                return
            if data is not None:
                yield from _text(data)
    raise CommandFailed("the answer broke off", exit_code=FAILED)


def _text(data: bytes) -> Iterator[str]:
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except msgspec.DecodeError:
        raise CommandFailed("the answer has an event that is not a chunk", exit_code=FAILED) from None
    if chunk.error is not None:
        raise CommandFailed(f"the answer broke off: {chunk.error.message}", exit_code=FAILED)
    for choice in chunk.choices:
        if choice.delta.content:
            yield choice.delta.content
