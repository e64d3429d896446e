from moonpool.core.body import Outcome, Stream
from moonpool.core.message import Request, Response


def test_a_request_s_field_as_text() -> None:
    request = Request("GET", "/", headers={b"x": b"caf\xe9"})
    assert request.header(b"x") == "café"
    assert request.header(b"y") is None


def test_a_response_s_first_field() -> None:
    response = Response(200, [(b"set-cookie", b"a"), (b"set-cookie", b"b")])
    assert response.header(b"set-cookie") == b"a"
    assert response.header(b"x") is None


def test_messages_share_no_defaults() -> None:
    Response(200).headers.append((b"a", b"b"))
    Request("GET", "/").headers[b"a"] = b"b"
    assert Response(200).headers == []
    assert Request("GET", "/").headers == {}


def test_bytes_are_settled_at_once_and_streams_at_their_end() -> None:
    seen: list[Outcome] = []
    Response(200, body=b"x").when_settled(lambda outcome, error: seen.append(outcome))
    stream = Stream()
    Response(200, body=stream).when_settled(lambda outcome, error: seen.append(outcome))
    assert seen == [Outcome.COMPLETED]
    stream.cancel()
    assert seen == [Outcome.COMPLETED, Outcome.CANCELLED]
