"""A stream as the whole answer it stands for, and a whole answer as a stream.

What is not understood is not guessed at: `assemble` gives None, and nothing is kept that could be replayed
wrongly. A replayed stream has one chunk a choice, one that ends it, the usage if asked for, and `[DONE]`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from moonpool.http.sse import EventScanner, data_of
from moonpool.openai.chunks import DONE, Usage

ENDED = frozenset({"stop", "length", "tool_calls", "function_call"})
"""Finish reasons of answers that are whole. After others (a filter, no resources) the next may differ."""

Object = dict[str, Any]
_decode = msgspec.json.Decoder(Object).decode
_encode = msgspec.json.Encoder().encode


def complete(answer: bytes) -> bool:
    """Whether `answer` is a whole completion or list of embeddings."""
    try:
        return _is_whole(_decode(answer))
    except msgspec.DecodeError:
        return False


def assemble(stream: bytes, usage: Usage | None = None) -> bytes | None:
    """The whole answer; None when the stream is not complete, tells of an error, or has unknown parts.

    `usage` is for streams that report none."""
    try:
        whole = _collect(stream)
    except (msgspec.DecodeError, _Unknown):
        return None
    if whole is None or not _is_whole(whole):
        return None
    if whole.get("usage") is None and usage is not None:
        whole["usage"] = msgspec.to_builtins(usage)
    return _encode(whole)


def as_stream(answer: bytes, *, usage: bool) -> bytes:
    """`answer` is one that `complete` or `assemble` took. `usage`: the client asked for it."""
    whole = _decode(answer)
    reported = whole.pop("usage", None)
    choices = whole.pop("choices")
    base = whole
    chat = base.get("object") == "chat.completion"
    if chat:
        base["object"] = "chat.completion.chunk"
    nothing: Object = {"usage": None} if usage else {}
    events = []
    for choice in choices:
        for part in _chat_parts(choice) if chat else _text_parts(choice):
            events.append(_event({**base, "choices": [part], **nothing}))
    if usage and reported is not None:
        events.append(_event({**base, "choices": [], "usage": reported}))
    return b"".join([*events, DONE])


class _Unknown(Exception):
    """A part of a stream that nobody here knows how to put together."""


def _event(chunk: Object) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"


def _is_whole(answer: Object) -> bool:
    if "error" in answer:
        return False
    if answer.get("object") == "list":
        return bool(answer.get("data"))
    choices = answer.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and choice.get("finish_reason") in ENDED for choice in choices)
    )


def _collect(stream: bytes) -> Object | None:
    whole: Object = {}
    choices: dict[int, Object] = {}
    done = False
    for event in EventScanner(limit=len(stream) + 1).feed(stream):
        data = data_of(event)
        if data is None:
            continue
        if data.strip() == b"[DONE]":
            done = True
            continue
        chunk = _decode(data)
        if "error" in chunk or "choices" not in chunk:
            raise _Unknown
        for choice in chunk.pop("choices") or ():
            index = choice.get("index", 0)
            _add(choices.setdefault(index, {"index": index, "logprobs": None}), choice)
        for name, value in chunk.items():
            if value is not None or name not in whole:
                whole[name] = value if name == "usage" else whole.get(name) or value
    if not done or not whole:
        return None
    if whole.get("object") == "chat.completion.chunk":
        whole["object"] = "chat.completion"
    usage = whole.pop("usage", None)
    whole["choices"] = [choices[index] for index in sorted(choices)]
    whole["usage"] = usage
    return whole


def _add(choice: Object, piece: Object) -> None:
    """One choice of a chunk to what is there of that choice."""
    for name, value in piece.items():
        if name == "delta":
            message = choice.setdefault("message", {"role": "assistant", "content": None, "refusal": None})
            _add_delta(message, value or {})
        elif name == "text":
            choice["text"] = choice.get("text", "") + (value or "")
        elif name == "logprobs":
            choice["logprobs"] = _longer(choice.get("logprobs"), value)
        elif name in {"index", "finish_reason"} or value is None:
            if value is not None or name not in choice:
                choice[name] = value
        else:
            choice[name] = value


def _add_delta(message: Object, delta: Object) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for call in value or ():
                _add_call(message.setdefault("tool_calls", []), call)
        elif name == "role":
            message[name] = value or message.get(name)
        elif value is None:
            message.setdefault(name, None)
        elif isinstance(value, str):
            message[name] = (message.get(name) or "") + value
        else:
            raise _Unknown


def _add_call(calls: list[Object], piece: Object) -> None:
    index = piece.get("index", len(calls))
    if not isinstance(index, int) or not 0 <= index <= len(calls):
        raise _Unknown
    if index == len(calls):
        calls.append({})
    call = calls[index]
    for name, value in piece.items():
        if name == "index" or value is None:
            continue
        if name in {"function", "custom"}:
            inner = call.setdefault(name, {})
            for key, text in value.items():
                if text is not None:
                    inner[key] = inner.get(key, "") + text
        else:
            call[name] = value


def _longer(known: Object | None, more: Object | None) -> Object | None:
    """Log probabilities: lists side by side that grow, in chat as in the legacy shape."""
    if known is None or more is None:
        return known if more is None else more
    joined: Object = {}
    for name in {**known, **more}:
        one, other = known.get(name), more.get(name)
        if one is not None and other is not None and not (isinstance(one, list) and isinstance(other, list)):
            raise _Unknown
        joined[name] = other if one is None else one if other is None else one + other
    return joined


def _chat_parts(choice: Object) -> Iterator[Object]:
    message = {name: value for name, value in choice["message"].items() if value is not None}
    calls = message.get("tool_calls")
    if calls:
        message["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    else:
        message.setdefault("content", "")
    index, logprobs = choice.get("index", 0), choice.get("logprobs")
    yield {"index": index, "delta": message, "logprobs": logprobs, "finish_reason": None}
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}


def _text_parts(choice: Object) -> Iterator[Object]:
    yield {**choice, "finish_reason": None}
    yield {**choice, "text": "", "logprobs": None}
