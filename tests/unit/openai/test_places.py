"""The key that is wrong is named."""

import msgspec
import pytest

from moonpool.openai.places import with_keys


class Entry(msgspec.Struct):
    numbers: dict[str, int] = {}


class Shape(msgspec.Struct):
    texts: dict[str, str] = {}
    entries: list[Entry] = []
    tree: dict[str, dict[str, str]] = {}


def told(data: object) -> str:
    body = msgspec.json.encode(data)
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.json.decode(body, type=Shape)
    return with_keys(Shape, body, str(error.value))


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"texts": {"a": "x", "b": 1, "c": "y"}}, '$.texts["b"]'),
        (
            {"entries": [{"numbers": {"a": 1}}, {"numbers": {"a": 1, "b.[]": "x"}}]},
            '$.entries[1].numbers["b.[]"]',
        ),
        ({"tree": {"a": {"x": "1"}, "b": {"y": "2", "z": 3}}}, '$.tree["b"]["z"]'),
        ({"texts": {"k" * 1000: 1}}, f'$.texts["{"k" * 64}"]'),
        ({"texts": 1}, "$.texts"),
        ({"entries": [1]}, "$.entries[0]"),
    ],
)
def test_places(data: object, place: str) -> None:
    assert told(data).endswith(f" - at `{place}`")


def test_many_keys_take_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    convert = msgspec.convert
    monkeypatch.setattr(msgspec, "convert", lambda *given: looks.append(1) or convert(*given))
    texts: dict[str, object] = {str(number): "x" for number in range(50_000)}
    assert told({"texts": {**texts, "40000": 1}}).endswith(' - at `$.texts["40000"]`')
    assert len(looks) < 20
