"""What to send instead, by what was expected."""

import pytest

from moonpool.openai.kinds import kind_hint


@pytest.mark.parametrize(
    ("what", "hint"),
    [
        ("Expected `bool | null`, got `str`", "Use true or false, or leave it out."),
        ("Expected `str`, got `int`", "Use a text."),
        ("Expected `str | array | null`, got `int`", "Use a text or a list, or leave it out."),
        ("Expected `int | null` >= 1", "Use a whole number of at least 1, or leave it out."),
        ("Expected `float` < 2.0", "Use a number below 2.0."),
        ("Expected `array` of length <= 16", None),
        ("Expected `uuid`, got `str`", None),
        ("Invalid enum value 'x'", None),
    ],
)
def test_hints(what: str, hint: str | None) -> None:
    assert kind_hint(what) == hint
