"""What the fault injector answers when it is well: a text that follows from the prompt alone.

Two injectors give the same text for the same prompt, and one that is handed the beginning of the text as
the last assistant message gives exactly the rest: a continued stream is right if it equals `text_of`.
"""

import json
import re
import secrets
import zlib
from typing import Any, NamedTuple

WORDS = ("tide", "moon", "pool", "keel", "calm", "deep", "hull", "gate", "wave", "salt", "drift", "anchor")
LENGTH = 16
"""Tokens of a text whose prompt asks for no number of words."""
CREATED = 1_700_000_000
_NUMBER = re.compile(r"(\d+) words")


class Answer(NamedTuple):
    """`pieces` are what may be sent one by one: events of a stream, of which the first carries no content, or
    parts of a JSON text."""

    content_type: str
    pieces: list[bytes]


def tokens_of(prompt: str) -> list[str]:
    """The undisturbed answer: `… 40 words …` in the prompt makes 40 tokens of it."""
    asked = _NUMBER.search(prompt)
    count = int(asked[1]) if asked else LENGTH
    seed = zlib.crc32(prompt.encode())
    words = [WORDS[zlib.crc32(b"%d %d" % (seed, place)) % len(WORDS)] for place in range(count)]
    return [f"{word}-{place} " for place, word in enumerate(words)]


def text_of(prompt: str) -> str:
    return "".join(tokens_of(prompt))


def answer(path: str, body: dict[str, Any]) -> Answer | None:
    """None for a path that nobody has."""
    if path.endswith("/chat/completions"):
        messages = list(body["messages"])
        before = _content(messages.pop()) if messages[-1]["role"] == "assistant" else ""
        return _generation("chat", body, "\n".join(map(_content, messages)), before)
    if path.endswith("/completions"):
        prompt = body["prompt"]
        return _generation("text", body, prompt if isinstance(prompt, str) else str(prompt), "")
    if path.endswith("/embeddings"):
        return _embeddings(body)
    return None


def prompted(body: dict[str, Any]) -> str:
    """What a chat is about: its last question, whatever was answered to it already."""
    return next(_content(each) for each in reversed(body["messages"]) if each["role"] == "user")


def models(names: list[str]) -> bytes:
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "faulty"} for name in names]
    return encode({"object": "list", "data": data})


def error(status: int, message: str) -> bytes:
    kind = "rate_limit_error" if status == 429 else "server_error"
    code = "rate_limit_exceeded" if status == 429 else "injected"
    return encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(value: object) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _generation(kind: str, body: dict[str, Any], prompt: str, before: str) -> Answer:
    tokens, reason = _rest(tokens_of(prompt), before), "stop"
    bound = body.get("max_completion_tokens") or body.get("max_tokens")
    if bound is not None and bound < len(tokens):
        tokens, reason = tokens[:bound], "length"
    prompted = len(prompt.split()) + len(before.split())
    usage = {
        "prompt_tokens": prompted,
        "completion_tokens": len(tokens),
        "total_tokens": prompted + len(tokens),
    }
    if body.get("stream"):
        return _stream(kind, body, tokens, reason, usage)
    text = "".join(tokens)
    choice = {"message": {"role": "assistant", "content": text}} if kind == "chat" else {"text": text}
    whole = _object(kind, body, streamed=False) | {
        "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": reason}],
        "usage": usage,
    }
    return Answer("application/json", _parts(encode(whole)))


def _rest(tokens: list[str], before: str) -> list[str]:
    """What is left of the text after `before`, which may end inside a token."""
    left, rest = len(before), []
    for token in tokens:
        if left < len(token):
            rest.append(token[left:])
        left = max(0, left - len(token))
    return rest


def _stream(kind: str, body: dict[str, Any], tokens: list[str], reason: str, usage: object) -> Answer:
    counted = (body.get("stream_options") or {}).get("include_usage", False)
    base = _object(kind, body, streamed=True) | ({"usage": None} if counted else {})

    def chunk(text: str | None, finish: str | None = None, **delta: str) -> bytes:
        if kind == "chat":
            what: object = {"delta": delta if text is None else {**delta, "content": text}}
        else:
            what = {"text": text or ""}
        return event(base | {"choices": [{"index": 0, **what, "logprobs": None, "finish_reason": finish}]})  # type: ignore[dict-item]

    pieces = [chunk("", role="assistant"), *map(chunk, tokens), chunk(None, reason)]
    if counted:
        pieces.append(event(base | {"choices": [], "usage": usage}))
    return Answer("text/event-stream", [*pieces, b"data: [DONE]\n\n"])


def _object(kind: str, body: dict[str, Any], *, streamed: bool) -> dict[str, object]:
    name = "text_completion" if kind == "text" else "chat.completion.chunk" if streamed else "chat.completion"
    return {
        "id": f"cmpl-{secrets.token_hex(6)}",
        "object": name,
        "created": CREATED,
        "model": body.get("model", ""),
    }


def _embeddings(body: dict[str, Any]) -> Answer:
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": place, "embedding": _vector(str(text))}
        for place, text in enumerate(inputs)
    ]
    count = sum(len(str(text).split()) for text in inputs)
    usage = {"prompt_tokens": count, "total_tokens": count}
    whole = {"object": "list", "model": body.get("model", ""), "data": data, "usage": usage}
    return Answer("application/json", _parts(encode(whole)))


def _vector(text: str) -> list[float]:
    return [(zlib.crc32(b"%d" % place + text.encode()) % 2001 - 1000) / 1000 for place in range(8)]


def _parts(body: bytes, count: int = 4) -> list[bytes]:
    size = -(-len(body) // count)
    return [body[start : start + size] for start in range(0, len(body), size)]
