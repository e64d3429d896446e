"""Endpoints that misbehave, clients that leave, and crowds: what an SDK sees, and that nothing is held."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from harness.platform import Platform, packaged_weights, running, wait_until

pytestmark = pytest.mark.real_model

ANSWERS = {
    "page": (500, "text/html", b"<html>boom</html>", {}),
    "failing": (500, "application/json", b'{"error": {"message": "out of memory"}}', {}),
    "busy": (429, "application/json", b'{"error": {"message": "slow down"}}', {"Retry-After": "1"}),
    "away": (503, "text/plain", b"", {"Retry-After": "11"}),
    "locked": (401, "application/json", b'{"error": {"message": "bad key sk-secret"}}', {}),
    "moved": (302, "text/plain", b"", {"Location": "http://127.0.0.1:1/"}),
    "garbage": (200, "application/json", b"\x00\xff nothing", {}),
    "foreign": (200, "application/json", b'{"hello": 1}', {}),
    "empty": (200, "application/json", b"", {}),
}
CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hel"}}],
}
ALIASES = (*ANSWERS, "closing", "cut", "ending")


class Server(ThreadingHTTPServer):
    """`seen`: the client has the first words of a stream. Only then it breaks: what arrives together with its
    end is no beginning, and refused."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.seen = threading.Event()


class Endpoint(BaseHTTPRequestHandler):
    """Misbehaves as the first part of the path says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        kind = self.path.split("/")[1]
        if kind in ANSWERS:
            status, content_type, body, headers = ANSWERS[kind]
            self._head(status, content_type, {"Content-Length": str(len(body)), **headers})
            self.wfile.write(body)
        elif kind != "closing":
            # Without a length: "ending" ends as it may, but without [DONE]; "cut" inside a chunk.
            self._head(200, "text/event-stream", {"Transfer-Encoding": "chunked"})
            event = f"data: {json.dumps(CHUNK)}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.server.seen.wait(30)
            self.wfile.write(b"0\r\n\r\n" if kind == "ending" else b"ff\r\nda")

    def _head(self, status: int, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


@pytest.fixture(scope="module")
def faulty(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose models misbehave, but for `small`, which has one slot and a queue of one."""
    base = f"http://127.0.0.1:{server.server_port}"
    models: dict[str, object] = {
        alias: {"targets": [{"url": f"{base}/{alias}/v1", "model": "m"}]} for alias in ALIASES
    }
    models["refused"] = {"targets": [{"url": "http://127.0.0.1:1/v1"}]}
    models["small"] = {"targets": [{"local": packaged_weights()}]}
    once = {"retry": {"attempts": 1}}  # what is told of a failure is the subject here, not its repetition
    config = {"models": models, "engine": {"slots": 1, "queue": 1}, "resilience": once}
    with running(tmp_path_factory.mktemp("faulty") / "data", config) as platform:
        yield platform


@pytest.fixture
def sdk(faulty: Platform) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{faulty.url}/v1", api_key=faulty.key, max_retries=0, timeout=30) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("alias", "told", "retry_after"),
    [
        ("page", "status 500", "5"),
        ("failing", "out of memory", "5"),
        ("away", "status 503", "11"),
        ("locked", "platform's key", "5"),
        ("moved", "302", "5"),
        ("garbage", "answer is no", "5"),
        ("foreign", "answer is no", "5"),
        ("empty", "answer is no", "5"),
        ("closing", "closed the connection", "5"),
        ("refused", "cannot be reached", "5"),
    ],
)
def test_an_endpoint_that_fails_is_told_as_an_error_object(
    sdk: OpenAI, alias: str, told: str, retry_after: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(model=alias, messages=[{"role": "user", "content": "Hi"}], stream=stream)
    error = caught.value
    assert error.status_code == 503
    assert told in error.message
    assert "sk-secret" not in error.message
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    headers = error.response.headers
    assert headers["retry-after"] == retry_after
    assert headers["x-moonpool-fallback"] == "degraded"
    assert headers["x-moonpool-attempts"] == "1"
    assert headers["x-request-id"]


def test_an_endpoint_that_asks_for_a_pause_is_given_it(sdk: OpenAI) -> None:
    def ask() -> openai.RateLimitError:
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(model="busy", messages=[{"role": "user", "content": "Hi"}])
        return caught.value

    first, second = ask(), ask()

    assert "slow down" in first.message
    assert "asked for a pause" in second.message
    assert [int(each.response.headers["retry-after"]) for each in (first, second)] == [1, 1]
    assert [each.response.headers.get("x-moonpool-attempts") for each in (first, second)] == ["1", None]
    assert "x-moonpool-fallback" not in first.response.headers
    wait_until(lambda: "slow down" in ask().message, "it is asked again when the pause is over", 5)


@pytest.mark.parametrize("alias", ["cut", "ending"])
def test_half_a_stream_is_never_taken_for_a_whole_one(sdk: OpenAI, server: Server, alias: str) -> None:
    server.seen.clear()
    stream = sdk.chat.completions.create(
        model=alias, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    assert next(stream).choices[0].delta.content == "Hel"
    server.seen.set()
    with pytest.raises(openai.APIError, match=r"closed the connection|ended before") as caught:
        next(stream)
    assert caught.value.code == "upstream_truncated"


def leave(platform: Platform) -> str:
    """Ask for a long story and go after its first words; the request's id."""
    address = urlsplit(platform.url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": "Tell me a very long story about the sea."}],
        "stream": True,
        "max_tokens": 2000,
        "temperature": 1,
        "logit_bias": {"2": -100},  # the end of a turn
    }
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {platform.key}"} | JSON
    )
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline()
    response.close()
    connection.close()
    return response.headers["x-request-id"]


JSON = {"Content-Type": "application/json"}


def test_a_client_that_leaves_frees_the_slot_and_pays_for_what_it_got(faulty: Platform) -> None:
    gone = leave(faulty)

    answer = faulty.chat("Hi", model="small", max_tokens=2)  # in the only slot, long before 2000 tokens

    assert answer.status == 200

    def booked() -> dict[str, object] | None:
        recent = faulty.request("GET", "/api/billing/usage").json()["recent"]
        return next((event for event in recent if event["id"] == gone), None)

    recorded = wait_until(booked, "the cancelled request is in the books")
    assert recorded["outcome"] == "cancelled"
    assert recorded["completion_tokens"] in range(1, 1000)


def test_a_crowd_is_answered_or_told_to_come_back(faulty: Platform) -> None:
    with ThreadPoolExecutor(30) as crowd:
        answers = list(crowd.map(lambda _: faulty.chat("Hi", model="small", max_tokens=8), range(30)))

    assert set(Counter(answer.status for answer in answers)) == {200, 503}
    for answer in answers:
        if answer.status == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "server_is_overloaded"
    assert faulty.chat("Hi", model="small", max_tokens=2).status == 200


def test_what_can_never_fit_is_refused_before_it_holds_the_slot(faulty: Platform) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "a"}] * 40_000}

    answer = faulty.request("POST", "/v1/chat/completions", body, timeout=10)

    assert answer.status == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
