"""The commands' API facade against a real server."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from moonpool.cli import api
from moonpool.cli.api import Api, CommandFailed, Place


class Handler(BaseHTTPRequestHandler):
    """Echoes; /fail refuses; a POST is answered chunk by chunk, and /endless without an end."""

    protocol_version = "HTTP/1.1"
    gone = Event()

    def do_GET(self) -> None:
        status = 429 if self.path.startswith("/fail") else 200
        told = {"path": self.path, "key": self.headers.get("authorization")}
        body = json.dumps({"error": {"message": "slow down", "code": "rate"}} if status == 429 else told)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self._chunk(body)
            while self.path == "/endless":
                self._chunk(b"x" * 1000)
        except OSError:
            self.gone.set()
            self.close_connection = True
            return
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def place() -> Iterator[Place]:
    Handler.gone.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield Place(f"http://127.0.0.1:{server.server_address[1]}", "sk-mp-k")
    server.shutdown()
    server.server_close()


def test_get_sends_the_key_and_the_query(place: Place) -> None:
    told = Api(place).get("/x", dict[str, str], a="b c", left_out=None)
    assert told == {"path": "/x?a=b+c", "key": "Bearer sk-mp-k"}


def test_an_error_has_its_message_and_request(place: Place) -> None:
    with pytest.raises(CommandFailed) as failed:
        Api(place).get("/fail", dict)
    assert failed.value.message == "slow down (rate, req_1)"
    assert failed.value.exit_code == api.FAILED


def test_post(place: Place) -> None:
    assert Api(place).post("/x", dict[str, int], {"a": 1}) == {"a": 1}


def test_stream(place: Place) -> None:
    assert b"".join(Api(place).stream("/x", {"a": 1})) == b'{"a":1}'


def test_leaving_a_stream_cancels_it(place: Place) -> None:
    stream = Api(place).stream("/endless", {})
    assert next(stream)
    stream.close()
    assert Handler.gone.wait(5)


def test_nobody_there(place: Place) -> None:
    with pytest.raises(CommandFailed) as failed:
        Api(Place("http://127.0.0.1:1", "")).get("/x", dict)
    assert failed.value.exit_code == api.NOT_RUNNING
