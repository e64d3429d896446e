"""What endpoints answer, in the form in which clients may see it."""

import msgspec
import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.errors import ConnectionReset, UpstreamError, UpstreamMalformed
from moonpool.core.message import Request, Response
from moonpool.middleware.answers import READ_LIMIT, SoundAnswers
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest

JSON = (b"content-type", b"application/json; charset=utf-8")
HTML = (b"content-type", b"text/html")
EVENTS = (b"content-type", b"text/event-stream")
GOOD = b' {"id": "1", "choices": []}\n'


@pytest.fixture
def ask(make_ctx):
    async def ask(answer: Response, *, stream: bool = False) -> Response:
        async def upstream(ctx, request) -> Response:
            return answer

        body = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": %s}' % (
            b"true" if stream else b"false"
        )
        ctx = make_ctx(payload=parse(ChatCompletionRequest, body))
        return await SoundAnswers(upstream)(ctx, Request("POST", "/v1/chat/completions", body=body))

    return ask


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
async def test_a_sound_answer_is_not_touched(ask, answer, stream) -> None:
    assert await ask(answer, stream=stream) is answer


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
async def test_what_is_no_answer_of_a_model_is_the_endpoint_s_fault(ask, answer, stream) -> None:
    with pytest.raises(UpstreamMalformed):
        await ask(answer, stream=stream)


async def test_a_refused_stream_is_cancelled(ask) -> None:
    body = Stream()
    with pytest.raises(UpstreamMalformed):
        await ask(Response(200, [HTML], body), stream=True)
    assert body.outcome is Outcome.CANCELLED


@pytest.mark.parametrize("status", [401, 402, 403, 405, 407])
async def test_a_refusal_of_our_key_is_never_told_as_the_client_s(ask, status) -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask(Response(status, [JSON], b'{"error": {"message": "bad key sk-secret"}}'))
    assert caught.value.status == 502
    assert "sk-secret" not in str(caught.value)
    assert caught.value.hint


async def test_a_path_that_is_not_there_is_not_the_client_s_fault(ask) -> None:
    with pytest.raises(UpstreamError, match="path"):
        await ask(Response(404, [HTML], b"<html>"))


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
async def test_other_refusals_keep_status_and_words(ask, status, body, told) -> None:
    response = await ask(Response(status, [JSON], body))
    assert response.status == status
    found = error(response)
    assert (found["message"], found["type"], found["param"], found["code"]) == told


@pytest.mark.parametrize(
    "body", [b"", b"<html>boom</html>", b"[1]", b'{"detail": [1]}', b"\xff" * (READ_LIMIT + 1)]
)
async def test_what_cannot_be_read_still_is_an_error_object(ask, body) -> None:
    response = await ask(Response(503, [HTML, (b"retry-after", b"7"), (b"content-length", b"9")], body))
    assert response.status == 503
    assert "503" in str(error(response)["message"])
    assert response.header(b"retry-after") == b"7"
    assert response.header(b"content-length") is None


async def test_a_refusal_that_breaks_off_is_told_without_its_words(ask) -> None:
    body = Stream()
    body.feed(b'{"error"')
    body.fail(ConnectionReset("gone"))
    assert "500" in str(error(await ask(Response(500, [JSON], body)))["message"])
