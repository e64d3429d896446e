"""Places in a trace: read, written, and those below them."""

import pytest

from moonpool.core.trace import Place, child_id, parse, render

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_callers_place_is_read() -> None:
    assert parse(f"00-{TRACE}-{SPAN}-01".encode(), b"a=1") == Place(TRACE, SPAN, 1, "a=1")
    assert render(TRACE, SPAN, 1) == f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        f"00-{TRACE}-{SPAN}".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01\n".encode(),
    ],
)
def test_what_is_no_place_is_none(value: bytes | None) -> None:
    assert parse(value) is None


def test_children_differ_from_each_other_and_from_their_parent() -> None:
    for span in (SPAN, "00000000000000ff", "f" * 16):
        ids = {span, *(child_id(span, number) for number in range(255))}
        assert len(ids) == 256
        assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)
    assert child_id(SPAN, 3) == child_id(SPAN, 3)
