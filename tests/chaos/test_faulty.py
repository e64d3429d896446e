"""The fault injector does what it claims, as seen from a plain socket or a strict client."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chaos.faulty_answers import text_of
from harness.injector import Injector, injecting
from harness.platform import wait_until

QUIET = 0.3
"""Seconds without a byte that are taken for a stall."""


@pytest.fixture(scope="module")
def started() -> Iterator[Injector]:
    with injecting() as injector:
        yield injector


@pytest.fixture
def injector(started: Injector) -> Injector:
    started.clear()
    return started


@pytest.fixture
def client(injector: Injector) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=injector.url, trust_env=False, timeout=5) as client:
        yield client


def chat(text: str = "Hi", *, stream: bool = False, before: str = "", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    if before:
        messages.append({"role": "assistant", "content": before})
    return {"model": "m", "messages": messages, "stream": stream, **more}


def events(body: bytes) -> list[Any]:
    parts = [part.removeprefix("data: ") for part in body.decode().split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in parts]


def said(chunks: list[Any]) -> str:
    return "".join(c["delta"].get("content", "") for e in chunks if e != "[DONE]" for c in e["choices"])


def raw(injector: Injector, body: dict[str, Any], *, port: int = 0) -> tuple[bytes, str]:
    """What came on the wire, and how it ended: closed, reset or quiet."""
    sent = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(sent)}\r\n\r\n"
    received = b""
    with socket.create_connection(("127.0.0.1", port or injector.port), timeout=QUIET) as connection:
        connection.sendall(head.encode() + sent)
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            return received, "reset"
        except TimeoutError:
            return received, "quiet"
    return received, "closed"


def test_whole_answers_and_streams_say_the_same(client: httpx.Client) -> None:
    whole = client.post("/chat/completions", json=chat()).json()
    asked = chat(stream=True, stream_options={"include_usage": True})
    streamed = events(client.post("/chat/completions", json=asked).content)

    assert whole["choices"][0]["message"]["content"] == said(streamed) == text_of("Hi")
    assert streamed[-1] == "[DONE]"
    assert streamed[-2]["usage"] == whole["usage"]
    assert streamed[-2]["choices"] == []
    assert streamed[-3]["choices"][0]["finish_reason"] == "stop"
    assert streamed[0]["usage"] is None
    plain = events(client.post("/chat/completions", json=chat(stream=True)).content)
    assert all("usage" not in each for each in plain[:-1])


@pytest.mark.parametrize("cut", [0, 1, 9, 20])
def test_a_given_beginning_is_continued_wherever_it_was_cut(client: httpx.Client, cut: int) -> None:
    whole = text_of("Hi")

    asked = chat(stream=True, before=whole[:cut])

    assert whole[:cut] + said(events(client.post("/chat/completions", json=asked).content)) == whole


def test_the_bounds_of_an_answer(client: httpx.Client) -> None:
    long = client.post("/chat/completions", json=chat("say 40 words")).json()
    short = client.post("/chat/completions", json=chat("say 40 words", max_tokens=3)).json()

    assert long["usage"]["completion_tokens"] == 40
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 3


def test_the_other_paths(client: httpx.Client) -> None:
    text = client.post("/completions", json={"model": "m", "prompt": "Hi"}).json()
    vectors = client.post("/embeddings", json={"model": "m", "input": ["a", "b", "a"]}).json()["data"]

    assert text["choices"][0]["text"] == text_of("Hi")
    assert vectors[0]["embedding"] == vectors[2]["embedding"] != vectors[1]["embedding"]
    assert [model["id"] for model in client.get("/models").json()["data"]] == ["m"]
    assert client.post("/nothing", json={}).status_code == 404
    assert client.post("/chat/completions", content=b"[]").status_code == 400


def test_a_port_refuses_while_another_answers_and_comes_back(injector: Injector) -> None:
    port = injector.listen()
    held = socket.create_connection(("127.0.0.1", port), timeout=2)
    wait_until(lambda: injector.stats()["connections"] == 1, "the connection is known")

    injector.refuse(port)

    with pytest.raises(ConnectionResetError), held:
        held.recv(1)
    with pytest.raises(ConnectionRefusedError):
        raw(injector, chat(), port=port)
    assert raw(injector, chat())[1] == "quiet"  # answered, and kept alive
    injector.accept(port)
    assert b"200 OK" in raw(injector, chat(), port=port)[0]


@pytest.mark.parametrize("stream", [True, False])
def test_reset_before_the_head_and_in_the_middle(injector: Injector, stream: bool) -> None:
    injector.fault("m", "reset")
    assert raw(injector, chat(stream=stream)) == (b"", "reset")

    injector.fault("m", "reset", after=3)
    received, end = raw(injector, chat(stream=stream))

    assert end == "reset"
    assert received.count(b"data:") == (3 if stream else 0)
    assert len(received.partition(b"\r\n\r\n")[2]) > 0


@pytest.mark.parametrize("stream", [True, False])
def test_stalls_hold_the_connection(injector: Injector, stream: bool) -> None:
    injector.fault("m", "stall")
    assert raw(injector, chat(stream=stream)) == (b"", "quiet")

    injector.fault("m", "stall", after=0)
    received, end = raw(injector, chat(stream=stream))
    assert end == "quiet"
    assert received.endswith(b"\r\n\r\n")

    injector.fault("m", "stall", after=2)
    received, end = raw(injector, chat(stream=stream))
    assert end == "quiet"
    assert len(received.partition(b"\r\n\r\n")[2]) > 0
    wait_until(lambda: injector.stats()["active"] == 0, "a stall ends when its client has left")


def test_a_stall_may_end_by_itself(injector: Injector, client: httpx.Client) -> None:
    injector.fault("m", "stall", after=2, seconds=0.05)

    assert said(events(client.post("/chat/completions", json=chat(stream=True)).content)) == text_of("Hi")


@pytest.mark.parametrize("end", ["reset", "closed"])
def test_a_stream_may_break_when_its_client_has_seen_its_beginning(injector: Injector, end: str) -> None:
    kind = {"kind": "reset"} if end == "reset" else {"kind": "truncate", "how": "chunk"}
    injector.fault("m", **kind, after=3, when_seen=True)

    received, waited = raw(injector, chat("one", stream=True))
    assert (received.count(b"data:"), waited) == (3, "quiet")
    wait_until(lambda: injector.stats()["active"] == 0, "it waits no longer than its client")

    injector.seen("other")
    assert raw(injector, chat("one", stream=True))[1] == "quiet"
    injector.seen("one")
    received, ended = raw(injector, chat("one", stream=True))
    assert (received.count(b"data:"), ended) == (3, end)


def test_truncations(injector: Injector, client: httpx.Client) -> None:
    for how, stream in (("length", False), ("chunk", False), ("chunk", True)):
        injector.fault("m", "truncate", how=how, after=2)
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/chat/completions", json=chat(stream=stream))

    injector.fault("m", "truncate", how="done", after=3)
    streamed = events(client.post("/chat/completions", json=chat(stream=True)).content)
    assert "[DONE]" not in streamed
    assert text_of("Hi").startswith(said(streamed))


def test_malformed_answers(injector: Injector, client: httpx.Client) -> None:
    injector.fault("m", "malformed", how="chunk", after=2)
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/chat/completions", json=chat(stream=True))
    injector.fault("m", "malformed", how="head")
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/chat/completions", json=chat())

    injector.fault("m", "malformed", how="event", after=2)
    with pytest.raises(json.JSONDecodeError):
        events(client.post("/chat/completions", json=chat(stream=True)).content)
    injector.fault("m", "malformed", how="error", after=0)
    (told,) = events(client.post("/chat/completions", json=chat(stream=True)).content)
    assert told["error"]["code"] == "injected"
    injector.fault("m", "malformed", how="body")
    for stream in (False, True):
        answer = client.post("/chat/completions", json=chat(stream=stream))
        assert answer.status_code == 200
        assert answer.text == "<html>this is no answer</html>"


def test_statuses(injector: Injector, client: httpx.Client) -> None:
    for status in (500, 502, 503):
        injector.fault("m", "status", status=status)
        answer = client.post("/chat/completions", json=chat())
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    injector.fault("m", "status", status=429, retry_after=7)
    answer = client.post("/chat/completions", json=chat(stream=True))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_share_is_drawn_from_its_seed(injector: Injector, client: httpx.Client) -> None:
    def drawn(seed: int) -> list[int]:
        injector.fault("m", "status", status=500, share=0.5, seed=seed)
        return [client.post("/chat/completions", json=chat()).status_code for _ in range(40)]

    first = drawn(1)

    assert first == drawn(1) != drawn(2)
    assert 10 <= first.count(500) <= 30
    assert injector.count("m", "faulted") >= first.count(500) * 2


def test_a_fault_may_happen_a_few_times_only_and_to_one_model_only(
    injector: Injector, client: httpx.Client
) -> None:
    injector.fault("m", "status", status=503, times=2)
    injector.fault("*", "status", status=502)

    statuses = [client.post("/chat/completions", json=chat()).status_code for _ in range(4)]
    other = client.post("/chat/completions", json=chat() | {"model": "other"})

    assert statuses == [503, 503, 200, 200]
    assert other.status_code == 502
    injector.mend("*")
    assert client.post("/chat/completions", json=chat() | {"model": "other"}).status_code == 200


def test_trickle_and_delay(injector: Injector, client: httpx.Client) -> None:
    injector.fault("m", "trickle", gap=0.005, bytes=40, delay=0.1)
    began = time.monotonic()
    with client.stream("POST", "/chat/completions", json=chat()) as answer:
        head = time.monotonic() - began
        body = answer.read()
    assert head >= 0.1
    assert time.monotonic() - began - head >= 0.04
    assert json.loads(body)["choices"][0]["message"]["content"] == text_of("Hi")


@pytest.mark.parametrize("how", ["head", "event", "body"])
def test_huge_answers(injector: Injector, how: str) -> None:
    injector.fault("m", "huge", how=how, bytes=3 << 20)

    received, end = raw(injector, chat(stream=how == "event"))

    assert end == "closed"
    assert len(received) >= 3 << 20
    assert (b"\r\n\r\n" in received) is (how != "head")
    assert b"\n\n" not in received.partition(b"\r\n\r\n")[2]


def test_what_arrived_is_told(injector: Injector, client: httpx.Client) -> None:
    before = time.monotonic()
    client.post("/chat/completions", json=chat(), headers={"authorization": "Bearer k"})

    (seen,) = injector.log("m")

    assert before <= seen["at"] <= time.monotonic()
    assert seen["headers"]["authorization"] == "Bearer k"
    assert seen["body"]["messages"] == chat()["messages"]
    assert (seen["path"], seen["fault"], seen["port"]) == ("/v1/chat/completions", "normal", injector.port)


def test_it_counts_who_is_there_and_forgets_who_left(injector: Injector) -> None:
    injector.fault("m", "stall")
    clients = [threading.Thread(target=raw, args=(injector, chat())) for _ in range(20)]
    for each in clients:
        each.start()
    wait_until(lambda: injector.count("m", "active") == 20, "all are there")
    for each in clients:
        each.join()

    wait_until(lambda: injector.stats()["connections"] == 0, "all have left")
    assert injector.stats()["active"] == 0
    assert injector.count("m", "peak") == 20


def test_idle_connections_can_be_ended(injector: Injector, client: httpx.Client) -> None:
    client.post("/chat/completions", json=chat())
    assert injector.stats()["connections"] == 1

    injector.close_idle()

    wait_until(lambda: injector.stats()["connections"] == 0, "it is closed")


def test_a_wrong_wish_is_refused(injector: Injector) -> None:
    with pytest.raises(AssertionError, match="kind must be one of"):
        injector.fault("m", "explode")
    with pytest.raises(AssertionError, match="unexpected keyword"):
        injector.fault("m", "reset", afterwards=3)
