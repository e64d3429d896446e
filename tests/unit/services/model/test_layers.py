import pytest

from moonpool.contracts.catalogue import Model
from moonpool.core.errors import BadRequest
from moonpool.services.model.layers import Entry, check_fallbacks, merge, users_of, without_dangling


def model(alias: str, *fallbacks: str) -> Model:
    return Model(id=alias, targets=(), fallbacks=fallbacks)


def models(**fallbacks: str) -> dict[str, Model]:
    """`a="b c"`: a falls back to b and c."""
    return {alias: model(alias, *names.split()) for alias, names in fallbacks.items()}


def entry(alias: str, source: str) -> Entry:
    return Entry(model=model(alias), source=source, created_at=1.0, updated_at=1.0, updated_by="u")


def test_what_is_added_lies_on_top() -> None:
    merged = merge([entry("b", "config"), entry("a", "config"), entry("b", "api"), entry("c", "api")])
    assert list(merged) == ["a", "b", "c"]
    assert [(each.entry.source, each.overrides) for each in merged.values()] == [
        ("config", False),
        ("api", True),
        ("api", False),
    ]


@pytest.mark.parametrize(
    ("catalogue", "message"),
    [
        (models(a="b", b=""), None),
        (models(a="b c", b="c", c=""), None),
        (models(a="b", b="c", c="b"), None),  # a circle, but none that a is part of
        (models(a="gone", b=""), "no model 'gone'"),
        (models(a="a"), "a → a"),
        (models(a="b", b="a"), "a → b → a"),
        (models(a="b", b="c", c="a"), "a → b → c → a"),
        (models(a="b b", b=""), "twice"),
    ],
)
def test_fallbacks(catalogue: dict[str, Model], message: str | None) -> None:
    if message is None:
        check_fallbacks("a", catalogue)
    else:
        with pytest.raises(BadRequest, match=message):
            check_fallbacks("a", catalogue)


def test_long_chains_are_no_trouble() -> None:
    chain = {f"m{n}": model(f"m{n}", f"m{n + 1}") for n in range(3000)} | {"m3000": model("m3000")}
    check_fallbacks("m0", chain)


def test_dangling_fallbacks_are_left_out() -> None:
    assert without_dangling(models(a="gone b", b=""))["a"].fallbacks == ("b",)


def test_users_of() -> None:
    assert users_of("b", models(a="b", b="", c="b")) == ["a", "c"]
