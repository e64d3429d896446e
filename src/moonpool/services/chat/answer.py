"""One answer as it arrives: OpenAI chunks in, text and its ending out. Pure.

Chunks are read leniently (endpoints differ) and passed on as they came.
"""

import msgspec

from moonpool.contracts.usage import Usage
from moonpool.core.errors import UpstreamMalformed
from moonpool.openai.usage import usage_of_body
from moonpool.services.chat.schema import ErrorDetail

DONE = b"[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Error(msgspec.Struct):
    """Some endpoints give numbers as codes, or leave the type out."""

    message: str
    type: str | None = None
    param: str | None = None
    code: str | int | None = None

    def detail(self) -> ErrorDetail:
        code = None if self.code is None else str(self.code)
        return ErrorDetail(
            message=self.message, type=self.type or "server_error", param=self.param, code=code
        )


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


_chunks = msgspec.json.Decoder(_Chunk)


class Answer:
    """Collects what the chunks say. `error` is set when the model broke off by itself."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.error: ErrorDetail | None = None
        self.size = 0
        """Characters so far, thoughts included."""

    @property
    def content(self) -> str:
        return _joined(self._content)

    @property
    def reasoning(self) -> str | None:
        return _joined(self._reasoning) or None

    def add(self, data: bytes) -> None:
        """One event's data (not [DONE]). Raises UpstreamMalformed."""
        try:
            chunk = _chunks.decode(data)
        except msgspec.DecodeError:
            raise UpstreamMalformed("The model's stream has an event that is not a chunk.") from None
        if chunk.error is not None:
            self.error = chunk.error.detail()
        if b'"usage"' in data:
            self.usage = usage_of_body(data) or self.usage
        for choice in chunk.choices:
            self._append(self._content, choice.delta.content)
            self._append(self._reasoning, choice.delta.reasoning_content)
            self.finish_reason = choice.finish_reason or self.finish_reason

    def _append(self, parts: list[str], text: str | None) -> None:
        if text:
            parts.append(text)
            self.size += len(text)


def read_error(body: bytes, status: int) -> ErrorDetail:
    """The error of a refused request, whatever its body is."""
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error.detail()
    except msgspec.DecodeError:
        return ErrorDetail(message=f"The model answered with status {status}.", code="upstream_error")


def _joined(parts: list[str]) -> str:
    """Joins in place, so that asking often does not cost the whole text each time."""
    if len(parts) > 1:
        parts[:] = ["".join(parts)]
    return parts[0] if parts else ""
