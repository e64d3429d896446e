"""However a request ends, its key's token limit is charged what billing counts, to the token.

Each case has a key of its own, whose bucket gains a token in a second and a half. What was charged is owed,
and the next request, which wants the whole bucket, is told how long it has to wait: that is the charge.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.books import billed
from harness.exchanges import SAYS
from harness.injector import Injector, injecting
from harness.platform import Platform, running, wait_until

PER_MINUTE = 40
SECONDS_A_TOKEN = 60.0 / PER_MINUTE
WORDS = 90
"""Of the answers, unless the case says otherwise. More than the bucket holds."""


@dataclass(frozen=True)
class Case:
    """`fault` is the endpoint's, `read` how many events of a stream are read before the client leaves; None:
    all. `status` is what the client gets, `outcome` what the bill says of it ("": there is no bill)."""

    name: str
    outcome: str
    status: int = 200
    stream: bool = False
    read: int | None = None
    fault: tuple[tuple[str, Any], ...] = ()
    body: tuple[tuple[str, Any], ...] = ()
    repeated: bool = False
    """Whether the same was answered before, to another key of the same owner."""
    tokens: int | None = None
    """What must have been counted, where it is known beforehand."""


ASKED = len(f"{WORDS} words in CASE".split())
SLOW = (("kind", "trickle"), ("gap", 0.1), ("bytes", 1 << 20))
MIDDLE = (("after", 9), ("when_seen", True))
CASES = [
    Case("whole", "completed", tokens=WORDS + ASKED),
    Case("stream", "completed", stream=True, tokens=WORDS + ASKED),
    Case("short", "completed", body=(("max_tokens", 3),), tokens=3 + ASKED),
    Case("longer", "completed", stream=True, body=(("max_tokens", 80),), tokens=80 + ASKED),
    Case("left", "cancelled", stream=True, read=6, fault=SLOW),
    Case("broken", "failed", stream=True, fault=(("kind", "reset"), *MIDDLE)),
    Case("truncated", "failed", stream=True, fault=(("kind", "truncate"), ("how", "done"), *MIDDLE)),
    Case("refused", "", status=503, fault=(("kind", "status"), ("status", 500))),
    Case("invalid", "", status=400, body=(("temperature", "hot"),)),
    Case("unknown", "", status=404, body=(("model", "nobody"),)),
    Case("cached", "", body=(("temperature", 0),), repeated=True),
    Case("cached-stream", "", stream=True, body=(("temperature", 0),), repeated=True),
]


@dataclass(frozen=True)
class Stage:
    platform: Platform
    injector: Injector

    def key(self, limit: int) -> str:
        wish = {"name": "settled", "limits": {"tokens_per_minute": limit}}
        made = self.platform.request("POST", "/api/auth/keys", wish)
        assert made.status in (200, 201), made.body
        secret: str = made.json()["key"]
        return secret


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with injecting() as injector:
        models = {case.name: {"targets": [{"url": injector.url}]} for case in CASES}
        for case in CASES:
            injector.fault(case.name, **dict(case.fault))
        config = {"models": models, "resilience": {"retry": {"attempts": 1}}}
        with running(tmp_path_factory.mktemp("settled") / "data", config) as platform:
            yield Stage(platform, injector)


@dataclass(frozen=True)
class Told:
    status: int
    headers: dict[str, str]
    at: float
    """When it was over."""


def ask(stage: Stage, case: Case, key: str) -> Told:
    prompt = f"{WORDS} words in {case.name}"
    said = {"model": case.name, "messages": [{"role": "user", "content": prompt}]}
    body = said | ({"stream": True} if case.stream else {}) | dict(case.body)
    address = urlsplit(stage.platform.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body, separators=(",", ":")), headers)
    response = connection.getresponse()
    if case.read is None:
        if MIDDLE[1] in case.fault:
            while (line := response.readline()) and not SAYS.search(line):
                pass
            stage.injector.seen(prompt)
        response.read()
    else:
        for _ in range(2 * case.read):
            response.readline()
    at = time.monotonic()
    response.close()
    connection.close()
    return Told(response.status, {name.lower(): value for name, value in response.getheaders()}, at)


def charged(stage: Stage, case: Case, key: str, since: float) -> int:
    """Tokens, from the time that a request has to wait."""
    probe = Case(case.name, "", fault=(), body=(("model", "invalid"), ("max_tokens", PER_MINUTE)))
    told = ask(stage, probe, key)
    if told.status == 200:
        assert told.at - since < SECONDS_A_TOKEN, "too slow to tell"
        return 0
    assert told.status == 429, told
    ahead = float(told.headers["retry-after-ms"]) / 1000 + told.at - since
    count = round(ahead / SECONDS_A_TOKEN)
    assert abs(ahead / SECONDS_A_TOKEN - count) < 0.4, f"{ahead} s are no whole tokens"
    return count


@pytest.fixture(scope="module")
def bill(stage: Stage) -> Callable[[str], dict[str, Any] | None]:
    """The usage event of a request, once all that was asked before it is billed."""

    def look(request_id: str) -> dict[str, Any] | None:
        last = stage.platform.chat("3 words", model="whole").headers["x-request-id"]
        events = wait_until(lambda: (found := billed(stage.platform)).keys() >= {last} and found, "bills")
        assert isinstance(events, dict)
        return events.get(request_id)

    return look


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_limit_is_charged_what_is_billed(stage: Stage, bill: Callable[..., Any], case: Case) -> None:
    if case.repeated:
        assert ask(stage, case, stage.platform.key).status == 200
    key = stage.key(PER_MINUTE)
    told = ask(stage, case, key)
    if case.outcome == "cancelled":
        wait_until(lambda: stage.injector.stats()["active"] == 0, "the endpoint is left")
    counted = charged(stage, case, key, told.at)
    event = bill(told.headers["x-request-id"])

    assert told.status == case.status, told
    if not case.outcome:
        assert event is None
        assert counted == 0
        return
    assert event is not None
    assert event["outcome"] == case.outcome
    assert counted == event["total_tokens"] > 0
    if case.tokens is not None:
        assert counted == case.tokens
