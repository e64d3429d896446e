"""A copy is whole or nothing."""

from moonpool.middleware.copying import Copy


def test_a_copy() -> None:
    copy = Copy(5)
    assert copy.chunk(b"ab") + copy.chunk(b"cde") + copy.finish() == b"abcde"
    assert (copy.whole, copy.data) == (True, b"abcde")
    assert copy.chunk(b"f") == b"f"
    assert (copy.whole, copy.data) == (False, b"")
