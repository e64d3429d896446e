import pytest

from moonpool.contracts.documents.place import lookup, parse_path, spell


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("models.my-model.targets[0].url", ("models", "my-model", "targets", 0, "url")),
        ('models."gpt-4.1".context', ("models", "gpt-4.1", "context")),
        ('limits."address:192.0.2.7".burst', ("limits", "address:192.0.2.7", "burst")),
        ("limits.route:/v1/models.burst", ("limits", "route:/v1/models", "burst")),
        ("a[1][2]", ("a", 1, 2)),
    ],
)
def test_what_is_spelled_can_be_read(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path
    assert spell(path) == text


@pytest.mark.parametrize("text", [".a", "a.", "a..b", "a[", "a[x]", 'a"b"', "a b", '"a', "a]"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        parse_path(text)


def test_the_whole() -> None:
    assert parse_path("") == ()
    assert spell(()) == "the document"


def test_looking_up() -> None:
    data = {"a": [{"b": None}]}
    assert lookup(data, ("a", 0, "b")) == (True, None)
    for path in (("a", 1), ("a", "b"), ("x",), ("a", 0, "b", "c")):
        assert lookup(data, path) == (False, None)
