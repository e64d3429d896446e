"""Schemas that would hold the engine are refused; those that people write are not."""

from itertools import pairwise

import pytest

from moonpool.core.errors import BadRequest
from moonpool.services.inference.schema_bounds import SchemaBounds
from moonpool.services.inference.schema_pattern import optional_pieces

PARAM = "response_format.json_schema.schema"
TEXT = {"type": "string"}


def described(count: int, *, required: int = 0) -> dict[str, object]:
    names = [f"p{number}" for number in range(count)]
    return {"type": "object", "properties": dict.fromkeys(names, TEXT), "required": names[:required]}


def holding(value: object, **definitions: object) -> dict[str, object]:
    return {"type": "object", "properties": {"a": value}, "required": ["a"], "$defs": definitions}


def ref(name: str) -> dict[str, object]:
    return {"$ref": f"#/$defs/{name}"}


def either(*choices: object) -> dict[str, object]:
    return {"anyOf": list(choices)}


def operation(name: str) -> dict[str, object]:
    properties = {"op": {"const": name}, "left": ref("node"), "right": ref("node")}
    return {"type": "object", "properties": properties, "required": ["op", "left", "right"]}


def nested(levels: int) -> dict[str, object]:
    schema: dict[str, object] = TEXT
    for _ in range(levels):
        schema = holding(schema)
    return schema


def fan(levels: int) -> dict[str, object]:
    """Twice as many open arrays a level."""
    names = [f"d{level}" for level in range(levels + 1)]
    definitions: dict[str, object] = {
        name: either(*({"type": "array", "items": ref(inner), "maxItems": most} for most in (3, 4)))
        for name, inner in pairwise(names)
    }
    return holding(ref("d0"), **definitions, **{names[-1]: TEXT})


GOOD = {
    "large": described(5000, required=5000),
    "optional": described(300),
    "enum": holding({"enum": [f"v{number}" for number in range(1000)]}),
    "deep": nested(30),
    "tree": holding(ref("node"), node=holding({"type": "array", "items": ref("node")})),
    "root": holding({"type": "array", "items": {"$ref": "#"}}),
    "expressions": holding(
        ref("node"), node=either({"type": "number"}, *map(operation, ("add", "mul", "neg")))
    ),
    "lists": holding(ref("node"), node=either({"type": "array", "items": ref("node")}, TEXT)),
    "optional kinds": holding({"type": ["string", "null"], "enum": ["a", None]}),
    "few levels": fan(5),
    "address": holding({"type": "string", "pattern": r"^[a-zA-Z0-9._%+-]{1,64}@[a-z0-9.-]+\.[a-z]{2,}$"}),
    "integer": holding({"type": "integer", "minimum": -(2**63) + 1, "maximum": 2**63 - 1}),
    "a long text": holding({"type": "string", "maxLength": 1_000_000}),
    "number": holding({"type": "number", "maximum": 1e30}),
    "odd": {"properties": 1, "required": "a", "anyOf": [1, True], "items": [None], "type": 4, "$defs": []},
}
BAD = {
    "too large": (described(5001, required=5001), "5000 properties"),
    "too many optional": (described(301), "optional"),
    "spread optional": (holding(either(described(250), described(250))), "optional"),
    "too many values": (holding({"enum": list(range(1001))}), "1000 enum values"),
    "long values": (holding({"enum": ["x" * 1000] * 121}), "characters"),
    "long names": ({"type": "object", "properties": {"x" * 120_001: TEXT}}, "characters"),
    "many alternatives": (holding(either(*({"const": number} for number in range(1001)))), "alternatives"),
    "lists of lists": (fan(11), "alternatives"),
    "lists in themselves": (
        holding(ref("node"), node=either(*({"type": "array", "items": ref("node")} for _ in range(2)))),
        "back to themselves",
    ),
    "objects that begin alike": (
        holding(ref("node"), node=either(operation("add"), operation("add"), TEXT)),
        "back to themselves",
    ),
    "references in a row": (
        holding(ref("d0"), **{f"d{number}": ref(f"d{number + 1}") for number in range(100)}),
        "levels deep",
    ),
    "pattern": (holding({"type": "string", "pattern": "^" + "[a-z]?" * 25 + "$"}), "25 optional pieces"),
    "lengths": (
        {"type": "object", "properties": {str(n): {"type": "string", "maxLength": 2000} for n in range(101)}},
        "200000 repetitions",
    ),
    "pattern's lengths": (
        holding(either(*({"type": "string", "pattern": "^a{0,2000}b{2}$"} for _ in range(100)))),
        "200000 repetitions",
    ),
    "integer": (holding({"type": "integer", "minimum": -1e30}), "64 bits"),
    "kinds": (holding({"type": ["array", "array"]}), "the same twice"),
}


@pytest.mark.parametrize("schema", GOOD.values(), ids=GOOD)
def test_what_people_write_passes(schema: dict[str, object]) -> None:
    SchemaBounds().check(schema, PARAM)


@pytest.mark.parametrize(("schema", "why"), BAD.values(), ids=BAD)
def test_what_would_hold_the_engine_is_refused(schema: dict[str, object], why: str) -> None:
    with pytest.raises(BadRequest, match=why) as refused:
        SchemaBounds().check(schema, PARAM)
    assert (refused.value.param, refused.value.code) == (PARAM, "unsupported_value")
    assert refused.value.hint


def test_the_schemas_of_one_request_count_together() -> None:
    bounds = SchemaBounds()
    bounds.check(described(2500, required=2500), "tools[0].function.parameters")
    with pytest.raises(BadRequest) as refused:
        bounds.check(described(2501, required=2501), "tools[1].function.parameters")
    assert refused.value.param == "tools[1].function.parameters"


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("^abc$", 0),
        (r"^\d{4}-(0[1-9]|1[0-2])$", 0),
        ("a?b*c+", 3),
        ("[a-z]{0,2000}", 1),
        (r"\?\[[?*+]\(", 0),
        ("(a?){100}", 100),
        ("((a?){40}b?){20}", 820),
        ("([a-z]{0,10} ?){0,50}", 101),
        ("(a?)*", 9),
        ("(a?){3,}", 9),
        ("(?:a?b){2}", 2),
        ("((", 0),
        ("[a?" * 100_000, 0),
        ("a{" + "9" * 5000 + "}?", 1),
        (")*(", 1),
        (r"^((25[0-5]|2[0-4]\d|[01]?\d\d?)\.){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)$", 8),
    ],
)
def test_optional_pieces(pattern: str, pieces: int) -> None:
    assert optional_pieces(pattern) == pieces
