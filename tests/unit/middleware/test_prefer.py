import pytest

from moonpool.middleware.prefer import preferences, without


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, {}),
        (b"", {}),
        (b"respond-async", {"respond-async": ""}),
        (
            b'Respond-Async, wait=10, handling="lenient"; x=1',
            {"respond-async": "", "wait": "10", "handling": "lenient"},
        ),
        (b"handling=strict, handling=lenient", {"handling": "strict"}),
    ],
)
def test_preferences(value: bytes | None, found: dict[str, str]) -> None:
    assert preferences(value) == found


def test_without() -> None:
    assert without(b"respond-async, wait=10", "respond-async") == b"wait=10"
    assert without(b"respond-async", "respond-async") == b""
