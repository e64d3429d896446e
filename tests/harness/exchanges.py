"""Chat requests as a strict client sees them: how each one ended, and never later than `PATIENCE`."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

PATIENCE = 20.0
"""Seconds after which a client has been left hanging."""
SAYS = re.compile(rb'"content": ?"[^"]')
"""What a stream has when its first words are there."""
ERROR_FIELDS = {"message", "type", "param", "code"}


class Ending(StrEnum):
    ANSWERED = "answered"
    """A whole answer."""
    REFUSED = "refused"
    """An error object in the place of the answer."""
    BROKEN = "broken"
    """A stream that ended with an error event, and without `[DONE]`."""
    CUT = "cut"
    """An answer that ended without telling so. Must never be."""
    NONSENSE = "nonsense"
    """Something that no client understands. Must never be."""
    HUNG = "hung"
    """Nothing, for too long. Must never be."""


@dataclass(frozen=True, repr=False)
class Seen:
    """`text` is what was said, however it ended; `code` and `message` are those of the error."""

    ending: Ending
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=httpx.Headers)
    text: str = ""
    code: str = ""
    message: str = ""
    usage: Mapping[str, Any] | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        told = f"{self.code}: {self.message}" if self.code else self.message
        marks = f"attempts={self.attempts} fallback={self.fallback or '-'} id={self.request_id}"
        return f"<{self.ending} {self.status} {told!r} {marks} {self.seconds:.2f}s>"

    @property
    def fallback(self) -> str:
        return self.headers.get("x-moonpool-fallback", "")

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def attempts(self) -> int:
        return int(self.headers.get("x-moonpool-attempts", "0"))


def chatting(url: str, key: str, *, connections: int = 256) -> httpx.AsyncClient:
    """A client of a platform's chat completions."""
    return httpx.AsyncClient(
        base_url=f"{url}/v1",
        headers={"authorization": f"Bearer {key}"},
        timeout=PATIENCE,
        limits=httpx.Limits(max_connections=connections),
        trust_env=False,
    )


async def ask(
    client: httpx.AsyncClient,
    model: str,
    prompt: str,
    *,
    stream: bool,
    on_text: Callable[[], Awaitable[None]] | None = None,
) -> Seen:
    """`on_text` is awaited when the first words of a stream are there."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    began = time.monotonic()
    status, headers, parts, wrong = 0, httpx.Headers(), list[bytes](), ""
    try:
        async with asyncio.timeout(PATIENCE), client.stream("POST", "/chat/completions", json=body) as answer:
            status, headers = answer.status_code, answer.headers
            async for part in answer.aiter_bytes():
                parts.append(part)
                if on_text is not None and SAYS.search(b"".join(parts)):
                    await on_text()
                    on_text = None
    except (TimeoutError, httpx.TimeoutException):
        return Seen(Ending.HUNG, status, headers, seconds=time.monotonic() - began)
    except httpx.TransportError as error:
        wrong = repr(error)
    return judge(status, headers, b"".join(parts), wrong, time.monotonic() - began)


async def offer(
    client: httpx.AsyncClient, model: str, rate: float, over: asyncio.Event, *, stream: bool = False
) -> list[Seen]:
    """An open loop: `rate` requests a second, whatever becomes of the ones before, until `over`."""
    under_way: list[asyncio.Task[Seen]] = []
    began = time.monotonic()
    while not over.is_set():
        under_way.append(asyncio.create_task(ask(client, model, str(len(under_way)), stream=stream)))
        wait = began + len(under_way) / rate - time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), max(0.0, wait))
    return list(await asyncio.gather(*under_way))


def judge(status: int, headers: httpx.Headers, body: bytes, wrong: str, seconds: float) -> Seen:
    """`wrong` says how the transport failed, if it did."""

    def seen(ending: Ending, **more: Any) -> Seen:
        return Seen(ending, status, headers, seconds=seconds, **more)

    if wrong:
        return seen(Ending.CUT, message=f"{wrong} after {body[-200:]!r}")
    try:
        if status == 200 and headers.get("content-type", "").startswith("text/event-stream"):
            return _streamed(body, seen)
        value = json.loads(body)
        if status == 200:
            (choice,) = value["choices"]
            if choice["finish_reason"] is None:
                return seen(Ending.CUT, message="no finish_reason")
            return seen(Ending.ANSWERED, text=choice["message"]["content"], usage=value["usage"])
        return _told(value, Ending.REFUSED, "", seen)
    except (ValueError, KeyError, TypeError) as error:
        return seen(Ending.NONSENSE, message=f"{error!r} in {body[-300:]!r}")


def _streamed(body: bytes, seen: Any) -> Seen:
    text, finished, ids, usages = "", False, set[str](), list[Any]()
    events = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part and part[:1] != b":"]
    for place, event in enumerate(events):
        last = place == len(events) - 1
        if event == b"[DONE]":
            whole = finished and last and body.endswith(b"\n\n")
            ending = Ending.ANSWERED if whole and len(ids) == 1 and len(usages) == 1 else Ending.NONSENSE
            told = f"finished: {finished}, ids: {ids}, usages: {usages}"
            return seen(ending, text=text, usage=usages[-1] if usages else None, message=told)  # type: ignore[no-any-return]
        chunk = json.loads(event)
        if "error" in chunk:
            return _told(chunk, Ending.BROKEN if last else Ending.NONSENSE, text, seen)
        ids.add(chunk["id"])
        usages += [chunk["usage"]] if chunk.get("usage") else []
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finished = finished or choice["finish_reason"] is not None
    return seen(Ending.CUT, text=text, message=f"no [DONE] after {body[-200:]!r}")  # type: ignore[no-any-return]


def _told(value: Any, ending: Ending, text: str, seen: Any) -> Seen:
    error = value["error"]
    if set(error) != ERROR_FIELDS or not error["message"]:
        ending = Ending.NONSENSE
    return seen(ending, text=text, code=error["code"] or "", message=error["message"])  # type: ignore[no-any-return]
