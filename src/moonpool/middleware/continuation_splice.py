"""The rest of an answer from an external endpoint, made the rest of the stream that it continues. Pure.

A local instance was told what to repeat, and needs no splice. Here every chunk is read and written again: a
few microseconds an event, only on streams that broke.
"""

import msgspec

from moonpool.contracts.usage import Usage
from moonpool.http.sse import EventScanner, data_of
from moonpool.middleware.transcript import Head, Transcript
from moonpool.openai.chunks import wire_usage
from moonpool.openai.usage import usage_of_event

SHORTEST_REPEAT = 16
"""Characters of a beginning that must come again before it is taken for a repetition: a shorter one may well
be what the model says next ("ha", "ha")."""

Fields = dict[str, msgspec.Raw]

_fields = msgspec.json.Decoder(Fields)
_choices = msgspec.json.Decoder(list[Fields])
_text = msgspec.json.Decoder(str | None)
_encode = msgspec.json.Encoder().encode
_NULL = b"null"


class Splice:
    """A transform for the second stream. `transcript` is of all that was said before it."""

    def __init__(self, transcript: Transcript) -> None:
        self._scanner = EventScanner()
        self._head = transcript.head or Head()
        self._count = transcript.count
        self._reasoning = transcript.reasoning_count
        self._repeat = transcript.text
        if len(self._repeat) < SHORTEST_REPEAT:
            self._repeat = ""
        self._seen = ""
        self._waiting: list[bytes] = []

    def chunk(self, data: bytes) -> bytes:
        return b"".join([self._event(event) for event in self._scanner.feed(data)])

    def finish(self) -> bytes:
        rest = self._scanner.finish() or self._scanner.held
        return self._release() + (rest if rest else b"")

    def _event(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None:
            return event
        if not data.startswith(b"{"):
            return self._release() + event
        try:
            fields = _fields.decode(data)
            choices = _choices.decode(fields["choices"]) if "choices" in fields else None
        except msgspec.DecodeError:
            return self._release() + event  # the follower gives up on it as well
        if choices is None:
            return self._release() + event
        for name in ("id", "created", "model", "system_fingerprint"):
            value = getattr(self._head, name)
            if value is not None and name in fields:
                fields[name] = msgspec.Raw(_encode(value))
        self._mend_usage(fields, event)
        if choices and all(_says_nothing(choice) for choice in choices):
            return b""
        return self._choices(fields, choices)

    def _choices(self, fields: Fields, choices: list[Fields]) -> bytes:
        for choice in choices:
            _without_role(choice)
        if not self._repeat:
            return _chunk(fields, choices)
        said = "".join([_content(choice) for choice in choices])
        self._seen += said
        if self._repeat.startswith(self._seen):
            if len(self._seen) == len(self._repeat):  # all of it came again: from here on it is new
                self._forget()
            elif not said:
                return self._release() + _chunk(fields, choices)
            else:
                self._waiting.append(_chunk(fields, choices))
            return b""
        if self._seen.startswith(self._repeat):
            for choice in choices[:1]:
                _set_content(choice, self._seen[len(self._repeat) :])
            self._forget()
            return _chunk(fields, choices)
        return self._release() + _chunk(fields, choices)

    def _forget(self) -> None:
        self._repeat = ""
        self._waiting.clear()

    def _release(self) -> bytes:
        """It was no repetition."""
        held = b"".join(self._waiting)
        self._forget()
        return held

    def _mend_usage(self, fields: Fields, event: bytes) -> None:
        """The prompt without the beginning of the answer, the answer with it."""
        usage, _ = usage_of_event(event)
        if usage is None:
            return
        prompt = max(0, usage.prompt_tokens - self._count)
        whole = Usage(
            prompt_tokens=prompt,
            cached_tokens=min(usage.cached_tokens, prompt),
            completion_tokens=self._count + usage.completion_tokens,
            reasoning_tokens=self._reasoning + usage.reasoning_tokens,
        )
        fields["usage"] = msgspec.Raw(_encode(wire_usage(whole)))


def _chunk(fields: Fields, choices: list[Fields]) -> bytes:
    fields["choices"] = msgspec.Raw(_encode(choices))
    return b"data: " + _encode(fields) + b"\n\n"


def _delta(choice: Fields) -> Fields:
    delta = choice.get("delta")
    return {} if delta is None or bytes(delta) == _NULL else _fields.decode(delta)


def _says_nothing(choice: Fields) -> bool:
    """Whether it only opens the stream, which is open."""
    if "delta" not in choice or bytes(choice.get("finish_reason", _NULL)) != _NULL:
        return False
    delta = _delta(choice)
    return "role" in delta and not any(
        bytes(value) not in {_NULL, b'""', b"[]"} for name, value in delta.items() if name != "role"
    )


def _without_role(choice: Fields) -> None:
    delta = _delta(choice)
    if delta.pop("role", None) is not None:
        choice["delta"] = msgspec.Raw(_encode(delta))


def _content(choice: Fields) -> str:
    raw = _delta(choice).get("content") if "delta" in choice else choice.get("text")
    return "" if raw is None else _text.decode(raw) or ""


def _set_content(choice: Fields, text: str) -> None:
    content = msgspec.Raw(_encode(text))
    if "delta" in choice:
        choice["delta"] = msgspec.Raw(_encode({**_delta(choice), "content": content}))
    else:
        choice["text"] = content
