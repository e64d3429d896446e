"""Hostile input to a whole platform: refused in words, with the right status, and nothing of it reaches an
endpoint, or stays behind."""

import asyncio
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.books import held
from harness.exchanges import Ending, ask, chatting
from harness.platform import UNCACHED, Answer, wait_until
from harness.siege import CHAT, LARGEST, Siege, good, told

PATIENCE = 20.0
"""Seconds that a body in the smallest chunks may take."""
OURS = (
    "x-moonpool-context",
    "x-moonpool-continue",
    "x-moonpool-tokens",
    "x-moonpool-dead-letter",
    "x-moonpool-message",
    "x-moonpool-question",
    "x-moonpool-attempts",
    "x-moonpool-anything",
)


# ── smuggled fields ────────────────────────────────────────────────────────────────────────────────


def test_no_field_of_ours_or_of_the_client_s_secrets_reaches_an_endpoint(stage: Siege) -> None:
    forged = dict.fromkeys(OURS, "1") | {"Cookie": "session=1", "X-Forwarded-For": "192.0.2.1"}
    body = {"model": "far", "messages": [{"role": "user", "content": "Hi"}]}
    answer = stage.platform.request("POST", CHAT, body, key=stage.member, headers=forged)

    assert answer.status == 200
    sent = stage.injector.log("far")[-1]["headers"]
    assert [name for name in sent if name.startswith("x-")] == []
    assert "authorization" not in sent
    assert "cookie" not in sent


@pytest.mark.parametrize("name", OURS)
def test_nobody_becomes_somebody_else(stage: Siege, name: str) -> None:
    owner = {"user": "root", "tenant": "org", "role": "owner", "aud": "gateway"}
    forged = {name: json.dumps(owner)}

    told(stage.platform.request("GET", "/admin/dlq", key=stage.member, headers=forged), 403)
    told(stage.platform.request("GET", "/v1/models", key="", headers=forged), 401)


def test_a_release_is_chosen_by_those_who_may(stage: Siege) -> None:
    """Otherwise the field is as if it were not there."""
    for wanted in ("inference@v9", "model@v9", "nonsense", "@", "a" * 5000):
        assert stage.chat(x_moonpool_release=wanted).status == 200
        assert (
            stage.platform.request(
                "GET", "/v1/models", key=stage.member, headers={"X-Moonpool-Release": wanted}
            ).status
            == 200
        )


def test_decisions_are_shown_to_administrators(stage: Siege) -> None:
    assert "server-timing" not in stage.chat(x_moonpool_explain="1").headers
    shown = stage.platform.chat("Hi", model="far", headers={"X-Moonpool-Explain": "1"})
    assert "server-timing" in shown.headers


@pytest.mark.real_model
def test_tokens_are_told_to_the_gateway_only(stage: Siege) -> None:
    """And the beginning of an answer is taken from the gateway only."""
    begun = {"answer": [1, 2, 3], "id": "chatcmpl-forged", "created": 1, "fingerprint": ""}
    body = {
        "model": "local",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 4,
        "stream": True,
        "moonpool": begun,
    }
    smuggled = {"X-Moonpool-Tokens": "1", "X-Moonpool-Continue": "1", **UNCACHED}
    answer = stage.platform.request("POST", CHAT, body, key=stage.member, headers=smuggled)

    assert answer.status == 200
    assert b":k=" not in answer.body
    assert b"forged" not in answer.body
    assert b'"role":"assistant"' in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Request-Id": "../../etc/passwd"},
        {"X-Request-Id": "a" * 4000},
        {"Traceparent": "00-zz-zz-01"},
        {"Traceparent": f"00-{'0' * 32}-{'0' * 16}-01"},
        {"Traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "Tracestate": "a=b," * 1000},
        {"Prefer": ";;,,=;wait=" + "9" * 400},
        {"Cache-Control": "max-age=-1, max-stale=" + "9" * 400 + ', ="'},
        {"Accept": "\x80\xff"},
        {"Idempotency-Key": "k" * 4000},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_nonsense_in_known_fields_is_no_failure(stage: Siege, fields: dict[str, str]) -> None:
    body = {"model": "far", "messages": [{"role": "user", "content": "Hi"}]}
    answer = stage.platform.request("POST", CHAT, body, key=stage.member, headers=fields)

    if "Idempotency-Key" in fields:
        told(answer, 400)
    else:
        assert answer.status == 200
    assert answer.headers["x-request-id"].startswith("req_") or answer.headers["x-request-id"].isalnum()


# ── bodies for services ────────────────────────────────────────────────────────────────────────────

DEEP = b'{"bogus":' + b"[" * 3000 + b"]" * 3000 + b"}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/conversations"),
        ("POST", "/api/auth/keys"),
        ("PATCH", "/api/users/me"),
        ("POST", "/v1/fine_tuning/jobs"),
    ],
)
def test_nobody_takes_a_service_from_the_others(stage: Siege, method: str, path: str) -> None:
    """Five failures in a row would open its breaker."""
    for body, code in (
        (DEEP, "nesting_too_deep"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b"{", "invalid_json"),
    ):
        for _ in range(6):
            refused = stage.platform.request(method, path, body, key=stage.member)
            assert told(refused, 400)["code"] == code
    packed = stage.platform.request(
        method, path, gzip.compress(b"{}"), key=stage.member, headers={"Content-Encoding": "gzip"}
    )
    assert told(packed, 400)["code"] == "unsupported_content_encoding"
    served = stage.platform.request(method, path, {"bogus": 1}, key=stage.member)
    assert told(served, 400)["code"] in {"unknown_parameter", "missing_required_parameter"}


@pytest.mark.parametrize(
    "path", ["documents/platform?version=", "diff/platform?old=", "history/platform?before=", "audit?before="]
)
def test_nobody_takes_the_configuration_from_the_others(stage: Siege, path: str) -> None:
    for _ in range(6):
        told(stage.platform.request("GET", f"/admin/config/{path}{'9' * 23}"), 400)
    assert stage.platform.request("GET", "/admin/config/documents/platform").status == 200


# ── fields and framing ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (431, ["A: " + "b" * 40_000]),
        (431, [f"A{n}: b" for n in range(200)]),
        (400, ["Authorization: Bearer sk-mp-other"]),
        (400, ["Content-Type: text/plain"]),
        (400, ["Content-Length: 2", "Content-Length: 2"]),
        (400, ["Content-Length: 2", "Transfer-Encoding: chunked"]),
        (400, ["Content-Length: two"]),
        (413, [f"Content-Length: {LARGEST + 1}"]),
        (400, ["X-Moonpool_Context: e30"]),
    ],
    ids=["giant", "many", "two keys", "two types", "two lengths", "smuggling", "no length", "large", "_"],
)
def test_fields_that_are_refused(
    stage: Siege, asked: Callable[[], int], status: int, fields: list[str]
) -> None:
    answer = stage.raw(stage.head(*fields) + b"{}")

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}
    assert answer.count(b"HTTP/1.1 ") == 1
    assert asked() == 0


def test_a_body_shorter_than_its_length_is_none(stage: Siege, asked: Callable[[], int]) -> None:
    answer = stage.raw(stage.head(f"Content-Length: {len(good()) + 5}") + good(), close=True)

    assert b"200 OK" not in answer
    assert asked() == 0


def test_what_is_longer_than_its_length_is_no_second_request(stage: Siege, asked: Callable[[], int]) -> None:
    smuggled = stage.head(f"Content-Length: {len(good())}") + good()
    answer = stage.raw(stage.head("Content-Length: 2") + b"{}x" + smuggled)

    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"400", b"400"]
    assert asked() == 0


def test_a_body_in_chunks_of_a_byte_is_one_like_any_other(stage: Siege) -> None:
    body = good()[:-1] + b', "user": "' + b"u" * 20_000 + b'"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    began = time.monotonic()
    answer = stage.raw(stage.head("Transfer-Encoding: chunked", "Connection: close") + chunks)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - began < PATIENCE


def test_chunks_without_end_are_too_large(stage: Siege, asked: Callable[[], int]) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = stage.raw(stage.head("Transfer-Encoding: chunked") + chunk * (LARGEST // 65536 + 2))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert asked() == 0


# ── keys of idempotency ────────────────────────────────────────────────────────────────────────────


def once(stage: Siege, key: str, content: str = "Hi", **options: Any) -> Answer:
    body = {"model": "far", "messages": [{"role": "user", "content": content}], **options}
    return stage.platform.request(
        "POST", CHAT, body, key=stage.member, headers={"Idempotency-Key": key, **UNCACHED}
    )


def test_a_key_is_of_one_request(stage: Siege, asked: Callable[[], int]) -> None:
    first, again = once(stage, "one"), once(stage, "one")
    assert first.status == again.status == 200
    assert again.body == first.body
    assert asked() == 1

    told(once(stage, "one", "Something else"), 422)
    told(once(stage, "one", stream=True), 422)
    assert asked() == 1


def test_a_key_in_use(stage: Siege, asked: Callable[[], int]) -> None:
    stage.injector.fault("far", delay=1.0)
    try:
        answers: list[Answer] = []
        crowd = [threading.Thread(target=lambda: answers.append(once(stage, "busy"))) for _ in range(20)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
    finally:
        stage.injector.mend("far")

    assert sorted(answer.status for answer in answers) == [200] + [409] * 19
    assert asked() == 1
    assert once(stage, "busy").status == 200
    assert asked() == 1


# ── dead letters ───────────────────────────────────────────────────────────────────────────────────

LETTERS = (
    "dl_unknown",
    "dl_" + "0" * 32,
    "..%2f..%2fetc",
    "%00",
    "'; DROP TABLE letters; --".replace(" ", "+"),
)


@pytest.mark.parametrize("letter", LETTERS)
def test_an_unknown_letter(stage: Siege, asked: Callable[[], int], letter: str) -> None:
    for method, path in (("GET", ""), ("POST", "/replay"), ("DELETE", "")):
        answer = stage.platform.request(
            method, f"/admin/dlq/{letter}{path}", b"" if method != "GET" else None
        )
        told(answer, 404 if answer.status != 400 else 400)
    told(stage.platform.request("GET", f"/v1/deferred/{letter}", key=stage.member), 404)
    assert asked() == 0


def test_letters_are_replayed_by_administrators(stage: Siege) -> None:
    told(stage.platform.request("POST", "/admin/dlq/dl_unknown/replay", b"", key=stage.member), 403)
    told(stage.platform.request("POST", "/admin/dlq/replay", b"{}", key=stage.member), 403)


@pytest.mark.parametrize("wish", [b"", b"[]", b"{", b'{"state": 7}', b'{"nothing": 1}', b'{"before": "NaN"}'])
def test_a_replay_of_nobody_knows_what(stage: Siege, asked: Callable[[], int], wish: bytes) -> None:
    told(stage.platform.request("POST", "/admin/dlq/replay", wish), 400)
    assert asked() == 0


# ── and afterwards ─────────────────────────────────────────────────────────────────────────────────


def test_clients_that_leave_in_the_middle_of_anything(stage: Siege) -> None:
    """Of their head, of their body, of their answer: a hundred each."""
    whole = stage.head(f"Content-Length: {len(good())}") + good()
    address = urlsplit(stage.platform.url)
    for place in range(300):
        with socket.create_connection((address.hostname or "", address.port or 0), 10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(whole[: len(whole) * place // 299])


def test_nothing_is_held_and_the_next_one_is_served(stage: Siege) -> None:
    async def next_one() -> None:
        async with chatting(stage.platform.url, stage.member) as client:
            for stream in (False, True):
                seen = await ask(client, "far", "after all that", stream=stream)
                assert seen.ending is Ending.ANSWERED, seen

    asyncio.run(next_one())
    wait_until(lambda: not held(stage.platform), f"nothing is held, but {held(stage.platform)}", seconds=10)
    modules = stage.platform.modules()
    assert {name: module["state"] for name, module in modules.items() if module["state"] != "ready"} == {}
    assert {
        name: module.get("restarts", 0) for name, module in modules.items() if module.get("restarts")
    } == {}
