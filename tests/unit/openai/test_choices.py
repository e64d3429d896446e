"""Refusals of a word name the words there are."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
import pytest

from moonpool.core.errors import BadRequest
from moonpool.openai.choices import choices
from moonpool.openai.parse import parse


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct):
    kind: Literal["a", "b"] = "a"


class Shape(msgspec.Struct):
    colour: Colour | None = None
    parts: list[Part] | Part | None = None
    named: dict[str, Part] = {}
    several: tuple[Annotated[Colour, msgspec.Meta(title="x")], ...] = ()
    free: str = ""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("colour", ["red", "blue"]),
        ("parts[3].kind", ["a", "b"]),
        ("parts.kind", ["a", "b"]),
        ("named[...].kind", ["a", "b"]),
        ("several[0]", ["red", "blue"]),
        ("free", []),
        ("nowhere.kind", []),
        ("", []),
    ],
)
def test_words_of_a_path(path: str, words: list[str]) -> None:
    assert choices(Shape, path) == words


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b'{"colour": "pink"}', "Use one of red, blue."),
        (b'{"parts": [{}, {"kind": "c"}]}', "Use one of a, b."),
        (b'{"several": ["red", "pink"]}', "Use one of red, blue."),
        (b'{"free": 1}', "Use a text."),
    ],
)
def test_a_refusal_names_them(body: bytes, hint: str | None) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(Shape, body)
    assert refused.value.hint == hint


def test_a_hint_of_its_own_comes_first() -> None:
    with pytest.raises(BadRequest) as refused:
        parse(Shape, b'{"colour": "pink"}', {"colour": "Mind the walls."})
    assert refused.value.hint == "Mind the walls."
