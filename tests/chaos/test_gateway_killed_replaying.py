"""`kill -9` of the gateway while a model answers a dead letter: nothing is lost, nothing is billed twice, and
the letter is free again when its dead holder's claim is over.

It is killed at three moments: before the answer has begun, in its middle, and when it is whole and billed,
but the letter does not say so yet. The last is a moment of microseconds; here it lasts because the test holds
the database of the letters.
"""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest

from harness.books import billed, held
from harness.injector import Injector, injecting
from harness.platform import Answer, Platform, running, wait_until
from moonpool.middleware.letter_claim import LEASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODEL, SILENT = "far", "silent"
AGAIN = LEASE + 15.0
"""Seconds by which what a dead gateway was sending is sent by the next."""


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    with injecting() as injector:
        yield injector


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Platform]:
    config: dict[str, Any] = {
        "models": {name: {"targets": [{"url": injector.url}]} for name in (MODEL, SILENT)},
        "resilience": {
            "breaker": {"open_first": 0.2, "open_longest": 0.5, "probes": [1]},
            "retry": {"attempts": 1},
        },
        "limits": {"default": {"requests_per_minute": 1_000_000}},  # who waits for a lease looks often
    }
    with running(tmp_path_factory.mktemp("replaying") / "data", config) as started:
        yield started


@pytest.fixture(autouse=True)
def well(platform: Platform, injector: Injector) -> None:
    injector.clear()
    wait_until(lambda: platform.chat("Hello", model=MODEL).status == 200, "the endpoint is trusted again")


def later(platform: Platform, prompt: str, *, model: str = MODEL, **options: Any) -> Answer:
    asked = platform.chat(prompt, model=model, headers={"Prefer": "respond-async"}, **options)
    assert asked.status == 202, asked.body
    return asked


def under_way(injector: Injector) -> int:
    return sum(injector.count(name, "active") for name in (MODEL, SILENT))


def kill(platform: Platform) -> None:
    before = platform.pid("gateway")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: platform.pid("gateway") != before, "a new gateway")


def replay(platform: Platform, letter: str) -> Answer | None:
    """An operator's wish; None when the gateway is killed over it."""
    with suppress(OSError, HTTPException):
        return platform.request("POST", f"/admin/dlq/{letter}/replay")
    return None


def answer_of(platform: Platform, asked: Answer) -> Answer | None:
    """None: not yet."""
    with suppress(OSError, HTTPException):
        found = platform.request("GET", asked.headers["location"])
        return found if found.status != 202 else None
    return None


def told_usage(answer: Answer) -> tuple[int, int]:
    usage = answer.json()["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def bill_of(platform: Platform, asked: Answer) -> dict[str, Any]:
    id = asked.headers["x-request-id"]
    wait_until(lambda: platform.request("GET", f"/api/billing/usage/{id}").status == 200, "it is billed")
    return billed(platform)[id]


def charged(bill: dict[str, Any]) -> tuple[int, int]:
    return bill["prompt_tokens"], bill["completion_tokens"]


def letter(platform: Platform, id: str) -> dict[str, Any]:
    found: dict[str, Any] = platform.request("GET", f"/admin/dlq/{id}").json()
    return found


@contextmanager
def unwritable(platform: Platform) -> Iterator[None]:
    """The letters can be read, not written."""
    file = platform.data / "spool/letters.db"
    with closing(sqlite3.connect(file, timeout=5.0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_what_was_being_answered_is_answered_by_the_next_gateway(
    platform: Platform, injector: Injector
) -> None:
    injector.fault(MODEL, "status", status=500)
    dead = platform.chat("kept for an operator", model=MODEL).headers["x-moonpool-dead-letter"]
    injector.fault(MODEL, "stall", after=2)
    injector.fault(SILENT, "stall")
    asked = [later(platform, "later", stream=True), later(platform, "later", model=SILENT)]
    with ThreadPoolExecutor(1) as operator:
        replaying = operator.submit(replay, platform, dead)
        wait_until(lambda: under_way(injector) == 3, "all three are with the model")
        kill(platform)
        assert replaying.result() is None
    injector.mend(SILENT)
    injector.mend(MODEL)

    answers = [wait_until(partial(answer_of, platform, one), "its answer", AGAIN) for one in asked]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body.rstrip().endswith(b"data: [DONE]")
    assert charged(bill_of(platform, asked[1])) == told_usage(answers[1])
    assert bill_of(platform, asked[0])["outcome"] == "completed"

    def done() -> bool:
        result = replay(platform, dead)
        return result is not None and result.json()["answered"] == 1

    wait_until(done, "the operator's letter is free again", AGAIN)
    assert replay(platform, dead).json()["data"][0]["outcome"] == "already answered"  # type: ignore[union-attr]
    for one in asked:
        kept = letter(platform, one.json()["id"])
        assert (kept["state"], kept["attempts"]) == ("answered", 1), "a death is nobody's attempt"
    wait_until(lambda: not held(platform), "nothing is held any more")


@pytest.mark.parametrize("published", [True, False])
def test_what_was_billed_and_not_noted_is_billed_once(
    platform: Platform, injector: Injector, published: bool
) -> None:
    """`published`: billing has counted it. Otherwise a journal without an owner has it at most."""
    injector.fault(MODEL, "stall", seconds=2.0)  # time to take hold of the letters once it is claimed
    before = injector.count(MODEL)
    asked = later(platform, f"once {published}")
    wait_until(lambda: injector.count(MODEL) == before + 1, "the model is asked")
    with unwritable(platform):
        if published:
            assert bill_of(platform, asked)
        else:
            while injector.count(MODEL, "active"):
                time.sleep(0.001)
        kill(platform)
    injector.mend(MODEL)

    answer = wait_until(lambda: answer_of(platform, asked), "its answer", AGAIN)
    assert answer.status == 200
    assert injector.count(MODEL) == before + 2, "what nobody had noted was asked again"
    bill = bill_of(platform, asked)
    assert (bill["outcome"], charged(bill)) == ("completed", told_usage(answer))
    assert bill_of(platform, platform.chat("and another", model=MODEL))
    assert bill_of(platform, asked) == bill, "usage is counted in the order it came in: this one is, too"
    assert letter(platform, asked.json()["id"])["state"] == "answered"
