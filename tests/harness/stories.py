"""Long streams of the real model at temperature 0: the same question has the same answer, to the byte,
whatever happens to the instances that write it."""

import json
import time
from collections.abc import Callable

import httpx

from harness.exchanges import Seen, judge
from harness.platform import Platform

SUBJECTS = ("the sea", "a clock", "winter", "bread", "a bridge", "music", "iron", "the moon")
PATIENCE = 100.0
"""Seconds for one story, on a machine that is busy with the others."""


async def follow(
    client: httpx.AsyncClient,
    subject: str,
    told: Callable[[int], None],
    *,
    model: str = "local",
    tokens: int = 100,
) -> Seen:
    """A stream read to its end; `told` learns of the events so far."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"Write a long story about {subject}."}],
        "temperature": 0,
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, read, wrong = time.monotonic(), b"", ""
    try:
        async with client.stream("POST", "/chat/completions", json=body, timeout=PATIENCE) as answer:
            async for part in answer.aiter_bytes():
                read += part
                told(read.count(b"data: "))
    except httpx.TransportError as error:
        wrong = repr(error)
    return judge(answer.status_code, answer.headers, read, wrong, time.monotonic() - began)


def counted(seen: Seen) -> tuple[int, int]:
    """Tokens of the prompt and of the answer, as the client was told."""
    assert seen.usage is not None
    return seen.usage["prompt_tokens"], seen.usage["completion_tokens"]


def engines(platform: Platform, release: str = "") -> dict[str, int]:
    """The pid of every instance of inference that is ready, of one release if it is named."""
    said = json.loads(platform.command("status", "--json").stdout)
    return {
        each["instance"]: each["pid"]
        for each in said["modules"]
        if each["name"] == "inference" and each["state"] == "ready" and release in ("", each["release"])
    }


def under_way(platform: Platform) -> dict[str, float]:
    """Requests that are at each instance of inference."""
    active: dict[str, float] = {}
    for line in platform.request("GET", "/internal/metrics").body.decode().splitlines():
        if line.startswith("moonpool_endpoint_requests_active{") and 'service="inference"' in line:
            active[line.split('endpoint="')[1].split('"')[0]] = float(line.rpartition(" ")[2])
    return active
