"""Documents made to be expensive, to a whole platform: refused in words, and at a bounded cost to others."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from harness.books import held
from harness.platform import wait_until
from harness.siege import CHAT, LARGEST, MESSAGES, Siege, good, told

PATIENCE = 20.0
"""Seconds that the most expensive refusal may take, of which most is the way of ten megabytes."""
STILL = 3.0
"""Seconds for which nobody else may have to wait because of it."""


def filled(before: str, piece: str, after: str, *, between: str = "") -> bytes:
    """As many pieces as ten megabytes hold."""
    count = (LARGEST - len(before) - len(after) - 1) // (len(piece) + len(between))
    return (before + between.join([piece] * count) + after).encode()


START = f'{{"model": "far", {MESSAGES}, '
NUMBERED = ", ".join(f'"k{n}": 1' for n in range(500_000))
BOMBS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "open lists": (400, lambda: b"[" * LARGEST),
    "open objects": (400, lambda: filled("", '{"a":', "")),
    "nested in metadata": (400, lambda: filled(START + '"metadata": ', "[", "")),
    "nested and closed": (400, lambda: (START + '"x": ' + "[" * 2_000_000 + "]" * 2_000_000 + "}").encode()),
    "one key again and again": (400, lambda: filled(START, '"a": 1', "}", between=", ")),
    "half a million keys": (400, lambda: (START + NUMBERED + "}").encode()),
    "half a million keys, one twice": (400, lambda: (START + NUMBERED + ', "k7": 1}').encode()),
    "empty lists": (400, lambda: filled(START + '"x": [', "[]", "]}", between=",")),
    "as many keys as may be": (
        200,
        lambda: (START + ", ".join(f'"k{n}": 1' for n in range(90_000)) + "}").encode(),
    ),
    "a twice used key inside": (
        400,
        lambda: b'{"model": "far", "messages": [{"role": "user", "content": "a", "content": "b"}]}',
    ),
    "a twice used key, once escaped": (400, lambda: (START + '"\\u0073top": "a", "stop": "b"}').encode()),
    "a twice used key in what nobody knows": (
        400,
        lambda: (START + '"x": {"y": {"z": 1, "z": 2}}}').encode(),
    ),
    "a number of a million digits": (400, lambda: (START + '"seed": ' + "9" * 1_000_000 + "}").encode()),
    "such a number in what nobody knows": (
        400,
        lambda: (START + '"x": ' + "9" * 9_000_000 + "}").encode(),
    ),
    "a number beyond all": (400, lambda: (START + '"temperature": 1e999999}').encode()),
    "NaN": (400, lambda: (START + '"x": NaN}').encode()),
    "a million messages": (
        400,
        lambda: filled('{"model": "far", "messages": [', '{"role":"user","content":""}', "", between=","),
    ),
    "escapes": (400, lambda: filled(START + '"user": "', "\\ud800", '"}')),
    "blanks": (400, lambda: b" " * LARGEST),
    "not UTF-8": (400, lambda: good()[:-2] + b"\xff\xfe}"),
    "UTF-16": (400, lambda: good().decode().encode("utf-16")),
    "gzip": (400, lambda: b"\x1f\x8b\x08" + b"\0" * 1000),
}


@dataclass
class Pulse:
    """How long somebody else's requests take, one after the other, meanwhile."""

    waits: list[float] = field(default_factory=list)


@contextmanager
def pulse(stage: Siege) -> Iterator[Pulse]:
    found, over = Pulse(), threading.Event()

    def beat() -> None:
        with httpx.Client(base_url=stage.platform.url, trust_env=False, timeout=30) as client:
            while not over.wait(0.02):
                began = time.monotonic()
                assert client.get("/livez").status_code == 200
                found.waits.append(time.monotonic() - began)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(stage: Siege, asked: Callable[[], int], name: str) -> None:
    status, make = BOMBS[name]
    body = make()
    assert len(body) <= LARGEST
    with pulse(stage) as meanwhile:
        began = time.monotonic()
        answer = stage.platform.request("POST", CHAT, body, key=stage.member)
        took = time.monotonic() - began
    waits = meanwhile.waits or [0.0]
    print(
        f"\n{name}: {len(body)} bytes, {answer.status} after {took:.3f} s; others waited "
        f"{max(waits) * 1000:.0f} ms at most, {statistics.median(waits) * 1000:.0f} ms usually"
    )

    if status == 200:
        assert answer.status == 200
    else:
        error = told(answer, status)
        assert error["type"] == "invalid_request_error"
        assert len(answer.body) < 2000, "the bomb is repeated"
        assert asked() == 0
    assert took < PATIENCE
    assert max(waits) < STILL


def test_nothing_is_held_afterwards(stage: Siege) -> None:
    wait_until(lambda: not held(stage.platform), f"nothing is held, but {held(stage.platform)}", seconds=10)
