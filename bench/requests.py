"""What is asked and what the stub answers: a chat request and an answer of 1 kB, and events of 200 bytes."""

import json
from dataclasses import dataclass

PATH = "/v1/chat/completions"
MODEL = "bench"
_TEXT = "The quick brown fox jumps over the lazy dog near the quiet bank of the river. "


def stream_model(interval_ms: float) -> str:
    """The model whose answers are endless streams with one event every `interval_ms` (0: no pause)."""
    return f"events-{interval_ms:g}"


def chat(model: str = MODEL, *, stream: bool = False) -> bytes:
    """1 kB as a client would send it."""
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": (_TEXT * 20)[:760]},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if stream:
        body["stream"] = True
    return json.dumps(body).encode()


def answer() -> bytes:
    """1 kB as an OpenAI-compatible endpoint answers."""
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": (_TEXT * 20)[:700]},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 180, "completion_tokens": 160, "total_tokens": 340},
        }
    ).encode()


def event() -> bytes:
    """One chunk of a stream: 200 bytes with its framing."""
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": " river and bank"}, "finish_reason": None}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@dataclass(frozen=True)
class Site:
    """Where to send requests, and the key that is wanted there ("" for none)."""

    port: int
    key: str = ""

    def headers(self) -> dict[str, str]:
        headers = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return headers

    def request(self, body: bytes) -> bytes:
        """A whole HTTP/1.1 request."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
        return f"POST {PATH} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
