"""Money on a real platform: until it is spent, again after credit, and to the last unit of what is booked.

Costs are recomputed here, from usage events and the price list, by arithmetic of the test's own. All tests
share one platform and its books: what one of them has credited and spent stands there for the next one.
"""

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from harness.books import billed
from harness.injector import Injector, injecting
from harness.platform import UNCACHED, Answer, Platform, running, wait_until

PRICES = {
    "m": {"prompt": 5.0, "cached_prompt": 0.5, "completion": 20.0},
    "odd": {"prompt": 0.333333, "completion": 1.234567},
}
NANO = Decimal("0.000000001")


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    with injecting() as started:
        yield started


@dataclass
class Account:
    """What tests have put in, and the ids of all requests that must be in the books."""

    platform: Platform
    credited: Decimal = Decimal(0)
    served: set[str] = field(default_factory=set)

    def credit(self, amount: str, *options: str) -> dict[str, Any]:
        said = self.platform.command("billing", "credit", amount, *options, "--json")
        assert said.returncode == 0, said.stderr
        self.credited += Decimal(amount)
        found: dict[str, Any] = json.loads(said.stdout)["balance"]
        return found


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, injector: Injector) -> Iterator[Account]:
    models: dict[str, Any] = {
        alias: {"targets": [{"url": injector.url}], "price": price} for alias, price in PRICES.items()
    }
    models["free"] = {"targets": [{"url": injector.url}]}
    with running(tmp_path_factory.mktemp("money") / "data", {"models": models}) as started:
        yield Account(started)


@pytest.fixture
def platform(account: Account, injector: Injector) -> Platform:
    injector.clear()
    return account.platform


@pytest.fixture
def served(account: Account) -> set[str]:
    return account.served


def ask(platform: Platform, words: int = 20, *, model: str = "m", stream: bool = False) -> Answer:
    return platform.chat(f"{words} words", model=model, headers=UNCACHED, max_tokens=words, stream=stream)


def cost(event: dict[str, Any]) -> Decimal:
    price = {name: Decimal(str(value)) for name, value in PRICES.get(event["model"], {}).items()}
    if not price:
        return Decimal(0)
    fresh = event["prompt_tokens"] - event["cached_tokens"]
    millionths = (
        fresh * price["prompt"]
        + event["cached_tokens"] * price.get("cached_prompt", price["prompt"])
        + event["completion_tokens"] * price["completion"]
    )
    return (millionths / 1_000_000).quantize(NANO, ROUND_HALF_UP)


def balance(platform: Platform) -> dict[str, Any]:
    answer = platform.request("GET", "/api/billing/balance")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def counted(platform: Platform, served: set[str]) -> dict[str, dict[str, Any]]:
    """All usage events, once those of `served` are among them."""
    return wait_until(
        lambda: served <= (events := billed(platform)).keys() and events, "all usage is counted"
    )


def agree(account: Account) -> None:
    """Nothing lost, nothing doubled: books and usage events say the same, to the unit."""
    platform, events = account.platform, counted(account.platform, account.served)
    assert events.keys() == account.served
    for event in events.values():
        assert Decimal(event["cost"]) == cost(event), event
    spent = sum(map(cost, events.values()), Decimal(0))
    books = balance(platform)
    assert Decimal(books["spent"]) == spent
    assert Decimal(books["total"]) == account.credited - spent + Decimal(books["uncollected"])
    assert Decimal(books["total"]) >= 0
    totals = platform.request("GET", "/api/billing/usage?limit=0").json()["totals"]
    assert Decimal(totals["cost"]) == spent


def kill(platform: Platform, module: str) -> None:
    os.kill(platform.pid(module), signal.SIGKILL)


def spend_all(platform: Platform, served: set[str], *, most: int = 200) -> Answer:
    """Ask until it is refused; the refusal."""
    for number in range(most):
        answer = ask(platform, stream=number % 2 == 1)
        if answer.status != 200:
            return answer
        served.add(answer.headers["x-request-id"])
    raise AssertionError(f"{most} requests, and still not spent")


def test_until_it_is_spent_and_on_after_credit(
    account: Account, platform: Platform, served: set[str]
) -> None:
    wait_until(lambda: not _served(ask(platform), served), "balances have been told")
    assert _served(ask(platform, model="free"), served)

    assert account.credit("0.01", "--reference", "one")["total"] == "0.01"
    wait_until(lambda: _served(ask(platform), served), "the credit has been told")
    refusal = spend_all(platform, served)
    assert refusal.status == 402
    assert refusal.headers["x-should-retry"] == "false"
    error = refusal.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_balance", "insufficient_balance")
    assert _served(ask(platform, model="free", stream=True), served)

    deepseek = platform.request("GET", "/user/balance").json()
    assert deepseek["balance_infos"][0]["currency"] == "USD"
    account.credit("0.004", "--grant")
    wait_until(lambda: _served(ask(platform, model="odd"), served), "the credit has been told")
    for _ in range(5):
        assert _served(ask(platform), served)
    agree(account)


def test_while_billing_is_away_the_last_known_balance_holds(
    account: Account, platform: Platform, served: set[str]
) -> None:
    """Stopped, not killed: nobody restarts it, and what is spent meanwhile is known to the gateway alone."""
    uncollected = balance(platform)["uncollected"]  # of what was served before balances had been told
    account.credit("0.01")
    wait_until(lambda: _served(ask(platform), served), "the credit has been told")
    known = platform.request("GET", "/user/balance").json()
    pid = platform.pid("billing")
    os.kill(pid, signal.SIGSTOP)
    try:
        had = len(served)
        assert spend_all(platform, served).status == 402
        assert len(served) > had + 5
        told = platform.request("GET", "/user/balance")
        assert (told.status, told.headers["x-moonpool-fallback"]) == (200, "service")
        assert told.json() == known
    finally:
        os.kill(pid, signal.SIGCONT)
    agree(account)
    assert balance(platform)["uncollected"] == uncollected
    now = platform.request("GET", "/user/balance").json()
    assert now["balance_infos"][0]["total_balance"] < known["balance_infos"][0]["total_balance"]


def test_a_stream_ends_when_nothing_is_left(account: Account, platform: Platform, served: set[str]) -> None:
    account.credit("0.012")
    wait_until(lambda: _served(ask(platform, 1), served), "the credit has been told")
    # Without max_tokens 256 are reserved; this answer is longer than what is left.
    answer = platform.chat("2000 words", model="m", headers=UNCACHED, stream=True)
    assert answer.status == 200
    served.add(answer.headers["x-request-id"])
    events = answer.body.split(b"\n\n")
    assert b"[DONE]" not in answer.body
    assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] == "insufficient_balance"
    agree(account)


def test_nothing_is_lost_or_doubled_when_billing_is_killed(
    account: Account, platform: Platform, served: set[str]
) -> None:
    """Killed again and again under load: requests go on, and the books are right to the unit."""
    account.credit("1.00")
    wait_until(lambda: _served(ask(platform), served), "the credit has been told")
    with ThreadPoolExecutor(8) as workers:
        for _ in range(4):
            asked = [
                workers.submit(ask, platform, 5 + n, model=("m", "odd")[n % 2], stream=n % 3 == 0)
                for n in range(40)
            ]
            kill(platform, "billing")
            for one in asked:
                assert _served(one.result(), served), one.result()
    agree(account)


def test_a_gateway_that_is_killed_leaves_books_that_agree(
    account: Account, platform: Platform, served: set[str], injector: Injector
) -> None:
    """Streams that were cut are billed as far as they had come; the next gateway knows the balance."""
    account.credit("1.00")
    wait_until(lambda: _served(ask(platform), served), "the credit has been told")
    injector.fault(kind="trickle", gap=0.05, bytes=1 << 20)
    with ThreadPoolExecutor(8) as workers:
        asked = [workers.submit(_cut, platform) for _ in range(8)]
        wait_until(lambda: injector.stats() and all(not one.done() for one in asked), "streams are under way")
        time.sleep(1.0)  # streams have come some way: that is what is to be cut
        kill(platform, "gateway")
        assert sum(one.result() for one in asked) == 8
    injector.clear()
    wait_until(lambda: _served(ask(platform), served), "the next gateway answers")
    events = wait_until(
        lambda: len(found := counted(platform, served)) == len(served) + 8 and found,
        "cut streams are billed",
    )
    cut = [event for event in events.values() if event["outcome"] == "interrupted"]
    assert len(cut) == 8
    assert all(Decimal(event["cost"]) > 0 for event in cut)
    served |= {event["id"] for event in cut}
    agree(account)


def test_a_key_spends_no_more_than_its_budget(account: Account, platform: Platform, served: set[str]) -> None:
    """Whatever is killed meanwhile; others go on, and so does this one with another budget."""

    def say(*words: str) -> dict[str, Any]:
        said = platform.command("keys", *words, "--json")
        assert said.returncode == 0, said.stderr
        told: dict[str, Any] = json.loads(said.stdout)
        return told

    def ask_with(key: str) -> Answer:
        body = {"model": "m", "messages": [{"role": "user", "content": "20 words"}], "max_tokens": 20}
        answer = platform.request("POST", "/v1/chat/completions", body, headers=UNCACHED, key=key)
        _served(answer, served)
        return answer

    def refused() -> None:
        answer = ask_with(made["key"])
        assert answer.status == 402, answer.body
        error = answer.json()["error"]
        assert (error["code"], "a month" in error["message"]) == ("key_budget_exceeded", True)

    account.credit("0.05")
    made = say("create", "--name", "app", "--budget", "0.005", "--budget-period", "month")
    assert made["budget"] == {"amount": "0.005", "period": "month"}
    assert "warning" not in made
    wait_until(lambda: ask_with(platform.key).status == 200, "the credit has been told")
    statuses = [ask_with(made["key"]).status for _ in range(20)]
    assert statuses == sorted(statuses)
    assert {200, 402} == set(statuses)
    assert ask_with(platform.key).status == 200

    def is_counted() -> bool:
        (told,) = platform.request("GET", "/api/billing/budgets").json()["data"]
        groups = platform.request("GET", "/api/billing/usage?group_by=key&limit=0").json()["data"]
        used = sum(Decimal(group["cost"]) for group in groups if group["key"] == made["id"])
        assert Decimal(told["spent"]) + Decimal(told["left"]) == Decimal("0.005")
        return used == Decimal(told["spent"]) > Decimal("0.003")

    counted(platform, served)
    wait_until(is_counted, "what is left is what was not used")
    talk = platform.request("POST", "/api/conversations", {"model": "m"}, key=made["key"]).json()["id"]
    asked = {"content": "20 words", "stream": False, "max_tokens": 20}
    said = platform.request("POST", f"/api/conversations/{talk}/messages", asked, key=made["key"])
    assert (said.status, said.json()["error"]["code"]) == (402, "key_budget_exceeded"), said.body
    for victim in ("billing", "gateway"):
        kill(platform, victim)
    wait_until(lambda: _answers(platform, served), "the next gateway answers")
    wait_until(lambda: ask_with(made["key"]).status == 402, "the next gateway knows, from the next billing")
    refused()
    say("budget", made["id"], "0.05", "--budget-period", "day")
    wait_until(lambda: ask_with(made["key"]).status == 200, "the new budget has been told")


def _answers(platform: Platform, served: set[str]) -> bool:
    try:
        return _served(ask(platform), served)
    except (http.client.HTTPException, OSError):
        return False


def _cut(platform: Platform) -> bool:
    """Whether the connection broke in the middle of the answer."""
    try:
        answer = ask(platform, 200, stream=True)
    except (http.client.HTTPException, OSError):
        return True
    return b"[DONE]" not in answer.body


def _served(answer: Answer, served: set[str]) -> bool:
    if answer.status == 200:
        served.add(answer.headers["x-request-id"])
    return answer.status == 200
