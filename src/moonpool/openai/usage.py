"""Finds the usage in answers, at a price that a relayed event can bear: most are never parsed."""

import msgspec

from moonpool.contracts.usage import Usage
from moonpool.http.sse import whole_events


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = 0


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = 0


class _WireUsage(msgspec.Struct):
    """OpenAI's and DeepSeek's usage object; every field may be missing or null."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_cache_hit_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    def usage(self) -> Usage:
        cached = self.prompt_cache_hit_tokens
        if cached is None:
            cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0
        details = self.completion_tokens_details
        prompt, completion = _count(self.prompt_tokens), _count(self.completion_tokens)
        return Usage(
            prompt_tokens=prompt,
            cached_tokens=min(_count(cached), prompt),
            completion_tokens=completion,
            reasoning_tokens=min(_count(details.reasoning_tokens), completion) if details else 0,
        )


def _count(reported: int | None) -> int:
    """Never negative, whatever an endpoint reports: nobody is paid for asking."""
    return max(reported or 0, 0)


class _Answer(msgspec.Struct):
    usage: _WireUsage | None = None


class _Chunk(msgspec.Struct):
    usage: _WireUsage | None = None
    choices: list[msgspec.Raw] | None = None


_answer = msgspec.json.Decoder(_Answer)
_chunk = msgspec.json.Decoder(_Chunk)


def usage_of_body(body: bytes) -> Usage | None:
    """The usage of a whole answer; None when it reports none."""
    try:
        usage = _answer.decode(body).usage
    except msgspec.DecodeError:
        return None
    return None if usage is None else usage.usage()


def usage_of_event(event: bytes) -> tuple[Usage | None, bool]:
    """The usage of one SSE event (its lines, as received), and whether it carries nothing else."""
    data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        chunk = _chunk.decode(data)
    except msgspec.DecodeError:
        return None, False
    if chunk.usage is None:
        return None, False
    return chunk.usage.usage(), not chunk.choices


class ChunkScan:
    """Follows a chat stream: lets whole events through, counts them, and tells when one is worth a parse.

    Each line of JSON has its newlines escaped, so "\\n\\n" ends events and nothing else. Line ends of
    CRLF are turned into LF on the way.
    """

    __slots__ = ("done", "events", "failed", "held", "noteworthy")

    def __init__(self) -> None:
        self.held = b""
        """The beginning of an event whose end has not come."""
        self.events = 0
        """Events with data so far; comments and `[DONE]` are not counted."""
        self.done = False
        self.failed = False
        """Whether the endpoint itself reported an error in the stream."""
        self.noteworthy = False
        """Whether what the last `feed` returned carries a usage object."""

    def feed(self, data: bytes) -> bytes:
        """The whole events that are complete by now. Raises UpstreamMalformed when one has no end."""
        # `find`, not `in`: that tries bytes as a number first, and takes three times as long.
        if self.held or not data.endswith(b"\n\n") or data.find(b"\r") >= 0:
            data, self.held = whole_events(self.held + data)
            if not data:
                self.noteworthy = False
                return b""
        self.events += data.startswith(b"data:")
        if data.find(b"\n") != len(data) - 2:
            self.events += data.count(b"\ndata:")
        if data.find(b"[DONE]") >= 0 and (b"data: [DONE]\n" in data or b"data:[DONE]\n" in data):
            self.done = True
            self.events -= 1
        self.noteworthy = data.rfind(b'"usage":{') >= 0 or data.rfind(b'"usage": {') >= 0
        if data.find(b'"error"') >= 0:
            self._look_for_error(data)
        return data

    def finish(self) -> bytes:
        """What is still of use at the end: a `[DONE]` that came without its blank line gets it."""
        last, self.held = self.held.strip(), b""
        if last not in {b"data: [DONE]", b"data:[DONE]"}:
            return b""
        self.done = True
        return last + b"\n\n"

    def split(self, events: bytes) -> list[bytes]:
        """The single events of what `feed` returned."""
        return [part + b"\n\n" for part in events.split(b"\n\n")[:-1]]

    def _look_for_error(self, data: bytes) -> None:
        for event in self.split(data):
            text = event.lstrip()
            if text.startswith((b'data: {"error"', b'data:{"error"', b'data: { "error"')):
                self.failed = True
