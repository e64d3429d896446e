"""A platform for hostile input: an external endpoint that counts what reaches it, and who asks."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.injector import Injector, injecting
from harness.platform import Answer, Platform, packaged_weights, running

CHAT = "/v1/chat/completions"
MESSAGES = '"messages": [{"role": "user", "content": "Hi"}]'
LARGEST = 10 * 1024 * 1024
"""Bytes of a body."""


@dataclass(frozen=True)
class Siege:
    """`member` is the key of somebody who administers nothing."""

    platform: Platform
    injector: Injector
    member: str

    def chat(self, model: str = "far", **headers: str) -> Answer:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.platform.request("POST", CHAT, body.encode(), key=self.member, headers=named)

    def raw(self, data: bytes, *, close: bool = False, seconds: float = 10.0) -> bytes:
        """All that is answered until the end of the connection; with `close` no more is sent after `data`."""
        address = urlsplit(self.platform.url)
        with socket.create_connection((address.hostname or "", address.port or 0), seconds) as connection:
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := connection.recv(65536):
                    answer += part
            except ConnectionResetError:
                pass
            return answer

    def head(self, *fields: str) -> bytes:
        lines = [f"POST {CHAT} HTTP/1.1", "Host: a", f"Authorization: Bearer {self.member}", *fields]
        return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode()


@contextmanager
def besieged(data: Path) -> Iterator[Siege]:
    with injecting() as injector:
        config: dict[str, Any] = {
            "models": {
                "far": {"targets": [{"url": injector.url}]},
                "local": {"targets": [{"local": packaged_weights()}]},
            },
            "limits": {"default": {"requests_per_minute": 100_000, "tokens_per_minute": 1_000_000_000}},
            "resilience": {"retry": {"attempts": 1}, "breaker": {"consecutive_failures": 1000}},
        }
        with running(data, config) as platform:
            made = platform.command("keys", "create", "--name", "member", "--role", "member", "--json")
            yield Siege(platform, injector, json.loads(made.stdout)["key"])


def told(answer: Answer, status: int, code: str = "") -> dict[str, Any]:
    """The error object, as clients rely on it."""
    assert answer.status == status, answer
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert not code or error["code"] == code
    return error


def good(model: str = "far") -> bytes:
    return f'{{"model": "{model}", {MESSAGES}}}'.encode()
