"""What goes wrong is told as the OpenAI error object, on every path."""

import socket
from urllib.parse import urlsplit

import pytest

from harness.platform import Answer, Platform

pytestmark = pytest.mark.real_model

CHAT = "/v1/chat/completions"
GOOD = b'{"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}'


def error(answer: Answer) -> dict[str, str | None]:
    """The error object, after a check that it is one."""
    assert answer.headers["content-type"].startswith("application/json")
    document = answer.json()
    assert set(document) == {"error"}
    found: dict[str, str | None] = document["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"]
    assert found["type"]
    assert answer.headers["x-request-id"]
    return found


@pytest.mark.parametrize("path", ["/v1/nothing", "/v2/chat/completions", "/api/nothing", "/admin/nothing"])
def test_an_unknown_path_is_not_found(platform: Platform, path: str) -> None:
    answer = platform.request("GET", path)

    assert answer.status == 404
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHAT, "POST"), ("DELETE", "/v1/models", "GET"), ("POST", "/readyz", "GET")],
)
def test_a_wrong_method_names_the_right_ones(
    platform: Platform, method: str, path: str, allowed: str
) -> None:
    answer = platform.request(method, path, GOOD if method == "POST" else None)

    assert answer.status == 405
    assert allowed in answer.headers["allow"]
    assert error(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"model": "smollm2",}',
        b'{"model": "smollm2", "model": "smollm2"}',
        b'{"model": "smollm2", "temperature": NaN}',
        b'{"model": "\xff"}',
        b"[" * 100_000,
        b'{"model": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
    ids=["empty", "cut", "list", "null", "text", "comma", "twice", "NaN", "bytes", "deep", "nested"],
)
def test_malformed_json_is_a_bad_request(platform: Platform, path: str, body: bytes) -> None:
    answer = platform.request("POST", path, body)

    assert answer.status == 400
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": [{"role": "user", "content": "Hi"}]}', "model"),
        (b'{"model": "smollm2"}', "messages"),
        (b'{"model": "smollm2", "messages": []}', "messages"),
        (b'{"model": 7, "messages": [{"role": "user", "content": "Hi"}]}', "model"),
    ],
)
def test_what_is_missing_or_wrong_is_named(platform: Platform, body: bytes, param: str) -> None:
    answer = platform.request("POST", CHAT, body)

    assert answer.status == 400
    assert error(answer)["param"] == param


@pytest.mark.parametrize("path", [CHAT, "/api/auth/keys"])
@pytest.mark.parametrize("key", ["", "sk-wrong", "mp-" + "x" * 40])
def test_without_a_good_key_nothing_is_answered(platform: Platform, path: str, key: str) -> None:
    answer = platform.request("POST", path, GOOD, key=key)

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert error(answer)["type"] == "authentication_error"


@pytest.mark.parametrize("name", ["x-moonpool-context", "X-Moonpool-User", "x-moonpool-anything"])
def test_a_client_cannot_bring_its_own_context(platform: Platform, name: str) -> None:
    forged = {name: "eyJpc3N1ZXIiOiJnYXRld2F5In0=.c2lnbmVk"}

    assert platform.request("GET", "/v1/models", key="", headers=forged).status == 401
    assert platform.request("GET", "/v1/models", headers=forged).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["no host", "two hosts", "smuggled", "space", "nonsense"],
)
def test_what_is_no_http_is_refused_and_closed(platform: Platform, head: bytes) -> None:
    address = urlsplit(platform.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall(head)
        answer = b""
        while data := connection.recv(65536):
            answer += data

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error"' in answer


def test_a_too_large_body_is_refused(platform: Platform) -> None:
    address = urlsplit(platform.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {platform.key}\r\n"
        connection.sendall(head.encode() + b"Content-Length: 99999999\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
