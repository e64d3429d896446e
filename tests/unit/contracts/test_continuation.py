import pytest

from moonpool.contracts.continuation import traced

EVENT = b'data: {"a":1}\n\n'


@pytest.mark.parametrize(
    ("tokens", "count", "line"),
    [
        ((7,), 1, b":k=7\n"),
        ((7, 8), 2, b":k=7.8\n"),
        ((), 3, b":k=~3\n"),
        ((7,), 2, b":k=~2\n"),
        ((), 0, b""),
    ],
)
def test_an_event_ends_with_its_tokens(tokens, count, line) -> None:
    assert traced(EVENT, tokens, count) == b'data: {"a":1}\n' + line + b"\n"
