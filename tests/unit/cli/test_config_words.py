import pytest
import typer

from moonpool.cli.config_words import read_version, read_versions


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ("platform", (None, None))),
        ("3", ("platform", (3, None))),
        ("0 5", ("platform", (0, 5))),
        ("releases/chat", ("releases/chat", (None, None))),
        ("routing/chat 1 2", ("routing/chat", (1, 2))),
    ],
)
def test_versions(words: str, found: tuple[str, tuple[int | None, int | None]]) -> None:
    assert read_versions(words.split(), "platform") == found


@pytest.mark.parametrize("words", ["1 2 3", "a b", "1 a", "a 1 b"])
def test_no_versions(words: str) -> None:
    with pytest.raises(typer.BadParameter):
        read_versions(words.split(), "platform")


def test_one_version() -> None:
    assert read_version(["7"], "platform") == ("platform", 7)
    assert read_version(["releases/chat", "7"], "platform") == ("releases/chat", 7)
    for words in ([], ["0"], ["a"], ["1", "2"], ["a", "1", "2"]):
        with pytest.raises(typer.BadParameter):
            read_version(words, "platform")
