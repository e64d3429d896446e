"""Following a relayed stream so that it can be continued elsewhere, and whether it may be. Pure.

    endpoint ──► Follower.chunk ──► whole events, without their token lines ──► client
                     └─ Transcript, when it is asked for

A relayed event is not read: events are kept (`KeptEvents`), and read only when a stream breaks. An event that
was not forwarded whole is not part of the answer.

What all events of a stream have in common is looked at once (`is_plain`): of those that follow only what
differs is, and the client's stream is told, for those who come after (`Stream.plain`).
"""

import re
from typing import Protocol

import msgspec

from moonpool.contracts.continuation import MARK
from moonpool.core.body import Stream
from moonpool.core.errors import BadRequest, MoonpoolError, StreamTruncated, UpstreamError, UpstreamMalformed
from moonpool.http.sse import data_of, whole_events
from moonpool.middleware.kept_events import BATCH, LARGE, KeptEvents
from moonpool.middleware.transcript import Transcript
from moonpool.openai.errors import ErrorBody
from moonpool.openai.formats import TextFormat
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest

BRACE = ord("}")
LIMIT = 8 * 1024 * 1024
"""Bytes of events, some 30,000 tokens, beyond which an answer is not continued."""

_TOKEN_LINES = re.compile(MARK + rb"[^\n]*")
_ERROR = b'{"error"'
_error = msgspec.json.Decoder(ErrorBody)
_EARLY = len(b"data:  " + _ERROR)
"""Bytes of an event within which its object would begin with an error."""
_odd = re.compile(rb"[\r\n{]").search
"""What no plain event has where it differs from others."""


class Account(Protocol):
    """Whose answer is followed."""

    stream: Stream
    """The client's."""

    @property
    def transcript(self) -> Transcript: ...


class Follower:
    """The transform that lets whole events of one stream into the transcript and on. `traced`: it may have
    lines of tokens. `done`: its `[DONE]` has come, and it is at its end."""

    __slots__ = ("_account", "_held", "_kept", "_stream", "_traced", "done")

    def __init__(self, account: Account, *, traced: bool) -> None:
        self._kept = KeptEvents(is_plain)
        self._held = b""
        self._traced = traced
        self._account = account
        self._stream = account.stream
        self.done = False

    def chunk(self, data: bytes) -> bytes:
        """What may go on. Raises the error that an endpoint tells of in its stream."""
        kept = self._kept
        if kept.plain and not self._held:
            middle = data.removeprefix(kept.head).removesuffix(kept.tail)
            middles = kept.middles
            if len(data) - kept.common == len(middle) <= LARGE and len(middles) < BATCH and not _odd(middle):
                middles.append(middle)
                self._stream.plain = data
                return data
        return self._look(data)

    def _look(self, data: bytes) -> bytes:
        if self._held or not data.endswith(b"\n\n"):
            data, self._held = whole_events(self._held + data)
            if not data:
                return b""
        kept = self._kept
        if kept.size > LIMIT:
            self._give_up()
        end, last = data.find(b"\n"), len(data) - 2
        if end == last and data.find(_ERROR, 0, _EARLY) < 0:
            if data[last - 1] != BRACE:
                _look_for_cut_json(data)
            passed = data
        elif data.startswith(MARK, end) and data.find(b"\n", end + 1) == last:
            if data[end - 1] != BRACE:
                _look_for_cut_json(data)
            passed = data[:end] + b"\n\n" if self._traced else data
        else:
            return self._several(data)
        kept.add(data)
        return passed

    def finish(self) -> bytes:
        """The stream has ended by itself: a `[DONE]` without its blank line gets it.

        Raises StreamTruncated when the answer is not complete.
        """
        last, self._held = self._held.strip(), b""
        last = last + b"\n\n" if last in {b"data: [DONE]", b"data:[DONE]"} else b""
        if last:
            self._kept.add(last)
        if last or self._kept.last.endswith(b"[DONE]\n\n"):
            self.done = True
            return last
        transcript = self.read()
        if not transcript.done and not transcript.finished:
            raise StreamTruncated("the model's stream ended before it was complete")
        return last

    def read(self) -> Transcript:
        """The transcript of all that was let through."""
        transcript = self._account.transcript
        for data in self._kept.take():
            for event in _events(data):
                transcript.read(event)
        return transcript

    def _give_up(self) -> None:
        self._kept.clear()
        self._account.transcript.give_up("it is too long")

    def _several(self, data: bytes) -> bytes:
        """What came before an error in the same chunk is given up with it: it is continued from there."""
        events = _events(data)
        if data.find(_ERROR) >= 0:
            for event in events:
                told = data_of(event)
                if told is not None and told.lstrip().startswith(_ERROR):
                    raise _told(told)
        if data.count(b"}\n\n") < len(events):
            _look_for_cut_json(data)
        for event in events:  # one by one: what they have in common is then kept once
            self._kept.add(event)
        return _TOKEN_LINES.sub(b"", data) if self._traced else data


def is_plain(head: bytes, tail: bytes) -> bool:
    """Whether what begins and ends like this, and has neither line breaks nor "{" between, is one whole event
    that is neither an error nor `[DONE]` and has no object of usage."""
    opening = head[: _EARLY + 1]
    return (
        head.startswith(b"data:")
        and len(head) >= _EARLY
        and opening.find(b'"error"') < 0
        and not re.search(rb'[\r\n]|"usage": ?{', head)
        and tail.endswith(b"}\n\n")
        and not _odd(tail, 0, len(tail) - 2)
    )


def _look_for_cut_json(data: bytes) -> None:
    """Raises UpstreamMalformed for an event whose JSON ends in the middle. To parse every event would cost as
    much as to relay it."""
    for event in _events(data):
        told = [line for line in event.split(b"\n") if line.startswith(b"data:")]
        if told and not told[-1].rstrip().endswith((b"}", b"[DONE]")):
            raise UpstreamMalformed("an event of the endpoint's stream is no JSON")


def continuable(
    payload: ChatCompletionRequest | CompletionRequest, transcript: Transcript, *, local: bool
) -> str | None:
    """Why an answer cannot be continued, or None. `local`: by another instance of ours, from its tokens."""
    reason = never(payload) or transcript.fault
    if reason is not None:
        return reason
    if local:
        if transcript.reasoning_count:
            return "it has thoughts, of which the tokens do not tell the end"
        return None if transcript.traced else "its tokens are not known"
    if transcript.reasoning_count and not transcript.text:
        return "it broke while the model was thinking"
    if isinstance(payload, CompletionRequest) and not isinstance(payload.prompt, str) and transcript.count:
        return "its prompt is not one text"
    return None


def never(payload: ChatCompletionRequest | CompletionRequest) -> str | None:
    """Why no answer to this request could be continued, or None."""
    if (payload.n or 1) > 1:
        return "several choices"
    if isinstance(payload, ChatCompletionRequest):
        if payload.tools and payload.tool_choice != "none":
            return "tools"
        if payload.functions and payload.function_call != "none":
            return "tools"
        return None if payload.response_format in (None, TextFormat()) else "a response format"
    if len(payload.prompts()) > 1 or (payload.best_of or 1) > 1:
        return "several choices"
    if payload.echo or payload.suffix or payload.logprobs is not None:
        return "echo, suffix or logprobs"
    return None


def _events(data: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in data.split(b"\n\n") if part]


def _told(data: bytes) -> MoonpoolError:
    """An endpoint's error as one of ours: the client's fault stays the client's."""
    try:
        error = _error.decode(data).error
    except msgspec.DecodeError:
        return UpstreamError("the endpoint broke its answer off")
    if error.type == "invalid_request_error":
        return BadRequest(error.message, code=error.code, param=error.param)
    return UpstreamError(f"the endpoint broke its answer off: {error.message}", code=error.code)
