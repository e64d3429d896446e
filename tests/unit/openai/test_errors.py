"""Errors as the SDKs read them."""

import msgspec
import pytest

from moonpool.core.errors import (
    BadRequest,
    MethodNotAllowed,
    MoonpoolError,
    Overloaded,
    RateLimited,
    StartupError,
    Unauthenticated,
)
from moonpool.core.message import Response
from moonpool.openai.errors import render_error, render_stream_error


def body_of(response: Response) -> dict[str, object]:
    assert isinstance(response.body, bytes)
    error: dict[str, object] = msgspec.json.decode(response.body)["error"]
    return error


def test_the_error_object() -> None:
    response = render_error(BadRequest("It is wrong", param="messages[0].role", hint="Do better."))
    assert response.status == 400
    assert response.header(b"content-type") == b"application/json"
    assert body_of(response) == {
        "message": "It is wrong. Do better.",
        "type": "invalid_request_error",
        "param": "messages[0].role",
        "code": None,
    }


def test_an_ended_sentence_gets_no_second_full_stop() -> None:
    assert body_of(render_error(BadRequest("Wrong!", hint="So.")))["message"] == "Wrong! So."


def test_what_is_not_ours_is_not_told() -> None:
    for error in (ValueError("the password is 1234"), StartupError("no folder /secret")):
        response = render_error(error)
        assert response.status == 500
        assert body_of(response)["code"] == "internal_error"
        assert b"1234" not in bytes(response.body)
        assert b"secret" not in bytes(response.body)


@pytest.mark.parametrize(("seconds", "header"), [(0.2, b"1"), (3.0, b"3"), (0.0, b"0"), (None, None)])
def test_retry_after_is_whole_seconds(seconds: float | None, header: bytes | None) -> None:
    assert render_error(Overloaded("Full.", retry_after=seconds)).header(b"retry-after") == header


@pytest.mark.parametrize(
    ("error", "pointless"),
    [
        (RateLimited("Too fast.", retry_after=1), False),
        (RateLimited("Spent.", code="insufficient_quota"), True),
        (RateLimited("Tomorrow.", retry_after=3600), True),
        (Overloaded("Full.", retry_after=120), False),
    ],
)
def test_a_pointless_retry_is_discouraged(error: MoonpoolError, pointless: bool) -> None:
    assert (render_error(error).header(b"x-should-retry") == b"false") is pointless


def test_headers_that_http_demands() -> None:
    assert render_error(MethodNotAllowed("No.", allow=("GET", "POST"))).header(b"allow") == b"GET, POST"
    assert render_error(Unauthenticated("Who?")).header(b"www-authenticate") == b'Bearer realm="moonpool"'


def test_a_stream_error_is_one_event() -> None:
    event = render_stream_error(Overloaded("Full."))
    assert event.startswith(b'data: {"error":{"message":"Full."')
    assert event.endswith(b"}}\n\n")
    assert event.count(b"\n") == 2
