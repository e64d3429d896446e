"""What endpoints answer, in the form in which clients may see it."""

import msgspec
import pytest

from moonpool.core.body import Stream
from moonpool.core.errors import UpstreamError, UpstreamMalformed
from moonpool.core.message import Response
from moonpool.middleware.answered import Answered, asked_wait
from moonpool.middleware.answers import judge
from moonpool.openai.errors import error_object

JSON = (b"content-type", b"application/json; charset=utf-8")
HTML = (b"content-type", b"text/html")
EVENTS = (b"content-type", b"text/event-stream")
GOOD = b' {"id": "1", "choices": []}\n'


TOLD = (
    b'{"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}'
)


def ask(answer: Response, *, stream: bool = False) -> Response:
    """As the client gets it, whether or not somebody else should better it."""
    try:
        return judge(answer, streamed=stream)
    except Answered as error:
        return error.response


def error(response: Response) -> dict[str, object]:
    assert response.header(b"content-type") == b"application/json"
    document = msgspec.json.decode(response.body)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return document["error"]


@pytest.mark.parametrize(
    ("answer", "stream"),
    [
        (Response(200, [JSON], GOOD), False),
        (Response(200, [JSON], b'{"object": "list", "data": []}'), False),
        (Response(200, [JSON], Stream()), False),
        (Response(200, [EVENTS], Stream()), True),
    ],
)
def test_a_sound_answer_is_not_touched(answer, stream) -> None:
    assert ask(answer, stream=stream) is answer


@pytest.mark.parametrize(
    ("answer", "stream"),
    [
        (Response(200, [JSON], b""), False),
        (Response(200, [JSON], b"\x00\xff not json"), False),
        (Response(200, [JSON], b'{"choices": ['), False),
        (Response(200, [JSON], b'{"hello": 1}'), False),
        (Response(200, [HTML], b"<html>"), False),
        (Response(200, [], b""), False),
        (Response(200, [JSON], GOOD), True),
        (Response(204, [], b""), False),
        (Response(302, [(b"location", b"http://inside/")], b""), False),
    ],
)
def test_what_is_no_answer_of_a_model_is_the_endpoint_s_fault(answer, stream) -> None:
    with pytest.raises(UpstreamMalformed):
        ask(answer, stream=stream)


@pytest.mark.parametrize("status", [401, 402, 403, 405, 407])
def test_a_refusal_of_our_key_is_never_told_as_the_client_s(status) -> None:
    with pytest.raises(UpstreamError) as caught:
        ask(Response(status, [JSON], b'{"error": {"message": "bad key sk-secret"}}'))
    assert caught.value.status == 502
    assert "sk-secret" not in str(caught.value)
    told = error_object(caught.value).message
    assert "target" not in told  # what only an operator can mend is told to operators
    assert "the target's" in caught.value.detail or "Pay its bill" in caught.value.detail
    assert caught.value.detail.startswith(told)


def test_a_path_that_is_not_there_is_not_the_client_s_fault() -> None:
    with pytest.raises(UpstreamError, match="path"):
        ask(Response(404, [HTML], b"<html>"))


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (
            400,
            b'{"error": {"message": "too hot", "type": "t", "param": "temperature", "code": "c", "x": 1}}',
            ("too hot", "t", "temperature", "c"),
        ),
        (
            404,
            b'{"error": {"message": "no such model"}}',
            ("no such model", "invalid_request_error", None, None),
        ),
        (
            429,
            b'{"error": {"message": "slow down", "code": 429}}',
            ("slow down", "invalid_request_error", None, "429"),
        ),
        (500, b'{"error": "out of memory"}', ("out of memory", "server_error", None, None)),
        (400, b'{"object": "error", "message": "bad"}', ("bad", "invalid_request_error", None, None)),
        (422, b'{"detail": "bad"}', ("bad", "invalid_request_error", None, None)),
    ],
)
def test_other_refusals_keep_status_and_words(status, body, told) -> None:
    response = ask(Response(status, [JSON], body))
    assert response.status == status
    found = error(response)
    assert (found["message"], found["type"], found["param"], found["code"]) == told


@pytest.mark.parametrize("body", [b"", b"<html>boom</html>", b"[1]", b'{"detail": [1]}'])
def test_what_cannot_be_read_still_is_an_error_object(body) -> None:
    response = ask(Response(503, [HTML, (b"retry-after", b"7"), (b"content-length", b"9")], body))
    assert response.status == 503
    assert "503" in str(error(response)["message"])
    assert response.header(b"retry-after") == b"7"
    assert response.header(b"content-length") is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "bettered"),
    [
        *[(status, False) for status in (400, 404, 409, 422)],
        *[(status, True) for status in (408, 429, 500, 502, 503, 504, 529)],
    ],
)
def test_what_somebody_else_may_better(status, bettered, stream) -> None:
    answer = Response(status, [JSON, (b"retry-after", b"7")], b'{"error": {"message": "no"}}')
    if not bettered:
        assert judge(answer, streamed=stream).status == status
        return
    with pytest.raises(Answered) as raised:
        judge(answer, streamed=stream)
    assert raised.value.response.status == status
    assert error(raised.value.response)["message"] == "no"
    assert raised.value.retry_after == 7.0
    assert str(status) in raised.value.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"0")], 0.0),
        ([(b"retry-after", b"12")], 12.0),
        ([(b"retry-after", b"12"), (b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"Fri, 31 Dec 1999 23:59:59 GMT")], None),
        ([(b"retry-after", b"-1")], None),
        ([(b"retry-after", b"12"), (b"retry-after-ms", b"soon")], 12.0),
    ],
)
def test_the_wait_that_an_endpoint_asks_for(headers, seconds) -> None:
    assert asked_wait(Response(429, headers)) == seconds


def test_our_own_words_to_the_sdks_are_kept() -> None:
    fields = [
        (b"x-should-retry", b"false"),
        (b"retry-after-ms", b"5"),
        (b"server", b"x"),
        (b"set-cookie", b"y"),
    ]
    told = ask(Response(503, [JSON, *fields], b"{}"))
    assert {name for name, _ in told.headers} == {b"content-type", b"x-should-retry", b"retry-after-ms"}


def test_a_refusal_in_an_answer_that_began_well() -> None:
    answer = ask(Response(200, [JSON], TOLD))
    assert answer.status == 400
    assert error(answer)["message"] == "too long"
    with pytest.raises(UpstreamError) as raised:  # our key: nothing that the client could mend
        judge(
            Response(200, [JSON], b'{"error": {"message": "key sk-1 is bad", "code": 401}}'), streamed=False
        )
    assert "sk-1" not in raised.value.message
