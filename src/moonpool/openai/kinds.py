"""What to send in the place of a value of the wrong kind, by msgspec's words for what it expected. Pure."""

import re

_EXPECTED = re.compile(r"^Expected `(?P<kinds>[^`]+)`(?:, got `[^`]+`| (?P<bound>[<>]=?) (?P<value>\S+))$")
_KINDS = {
    "bool": "true or false",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "an object",
}
_BOUNDS = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}


def kind_hint(what: str) -> str | None:
    """`Expected `int | null`, got `str`` → `Use a whole number, or leave it out.`; None for other words."""
    matched = _EXPECTED.match(what)
    if matched is None:
        return None
    kinds = matched["kinds"].split(" | ")
    named = [_KINDS[kind] for kind in kinds if kind in _KINDS]
    if not named:
        return None
    bound = f" {_BOUNDS[matched['bound']]} {matched['value']}" if matched["bound"] else ""
    return f"Use {' or '.join(named)}{bound}{', or leave it out' if 'null' in kinds else ''}."
