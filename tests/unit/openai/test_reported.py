"""The status that an error would have come with."""

import msgspec
import pytest

from moonpool.openai.reported import Reported, check


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "x", "code": 400}, 400),
        ({"message": "x", "code": "429"}, 429),
        ({"message": "x", "code": 503, "type": "invalid_request_error"}, 503),
        ({"message": "x", "code": None, "type": "invalid_request_error"}, 400),
        ({"message": "x", "code": "context_length_exceeded", "type": "server_error"}, 400),
        ({"message": "x", "type": "BadRequestError", "code": 7}, 400),
        ({"message": "x", "type": "overloaded_error"}, 503),
        ({"message": "x", "status": "RESOURCE_EXHAUSTED", "code": 429}, 429),
        ({"message": "x", "code": 200}, 500),
        ({"message": "x", "code": True}, 500),
        ({"message": "x", "code": "9" * 5000}, 500),
        ({"message": "x", "code": "4²9"}, 500),
        ({"message": "x", "type": "something_new"}, 500),
        ("overloaded", 500),
        (["x"], 500),
    ],
)
def test_statuses(error: object, status: int) -> None:
    told = msgspec.json.encode({"error": error})
    with pytest.raises(Reported) as raised:
        check(told)
    assert (raised.value.response.status, raised.value.response.body) == (status, told)


@pytest.mark.parametrize("data", [b'{"choices":[]}', b'{"error":null}', b'{"error":{}}', b'{"error":""}'])
def test_no_error(data: bytes) -> None:
    check(data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff"])
def test_no_object(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        check(data)
