"""JSON schemas that the local engine can follow in bounded time. Pure.

The engine makes a grammar of a schema and follows, for every token, all the ways that the grammar leaves
open. It cannot be interrupted while it does, nor can its other requests go on: a schema of 200 bytes may hold
it for minutes. So what it would take is bounded before. The limits are those of OpenAI's structured outputs,
where the engine bears as much; other endpoints than the local engine have their own.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from moonpool.core.errors import BadRequest
from moonpool.services.inference.schema_pattern import optional_pieces, repetitions

Schema = Mapping[str, object]

MOST_PROPERTIES = 5000
MOST_VALUES = 1000
MOST_CHARACTERS = 120_000
"""Of names and values together. These three are OpenAI's ("Structured outputs", supported schemas)."""
MOST_OPTIONAL = 300
"""Optional properties of one object: each is followed by any of those after it, which takes the square."""
MOST_WAYS = 1000
"""Alternatives that may be open at one place."""
MOST_PIECES = 24
"""Of a pattern, see schema_pattern.py."""
MOST_DEPTH = 64
"""Schemas within each other, those that are referred to included."""
MOST_SCHEMAS = 20_000
MOST_REPETITIONS = 200_000
"""By `maxLength`, `maxItems` and patterns: each is written out in the grammar, in 300 bytes of memory."""
WRITTEN_OUT = 2000
"""llama.cpp's MAX_REPETITION_THRESHOLD: more than these are not written out, but for ever."""
LARGEST = 2**63 - 1
"""What the bounds of a whole number are read as."""


class _Open(NamedTuple):
    """What a schema leaves open: the most ways at one place of it, and whether it leads back to itself."""

    ways: int
    recursive: bool = False


class SchemaBounds:
    """Of one request, whose schemas count together."""

    def __init__(self) -> None:
        self._properties = self._values = self._characters = self._squares = self._schemas = 0
        self._repetitions = 0

    def check(self, schema: Schema, param: str) -> None:
        """Raises BadRequest that names `param`."""
        _Walk(self, schema, param).check()

    def add(
        self, param: str, *, properties: int = 0, optional: int = 0, values: Sequence[object] = ()
    ) -> None:
        self._schemas += 1
        self._properties += properties
        self._squares += optional**2
        self._values += len(values)
        self._characters += sum(len(value) for value in values if isinstance(value, str))
        _at_most(self._schemas, MOST_SCHEMAS, "parts", param)
        _at_most(self._properties, MOST_PROPERTIES, "properties", param)
        _at_most(self._values, MOST_VALUES, "enum values", param)
        if self._squares > MOST_OPTIONAL**2:
            raise _refused(
                f"it leaves too many properties optional (in one object at most {MOST_OPTIONAL} may be)",
                param,
                "List them in `required`, or spread them over smaller schemas.",
            )

    def add_repetitions(self, count: int, param: str) -> None:
        self._repetitions += count
        _at_most(self._repetitions, MOST_REPETITIONS, "repetitions (by maxLength, maxItems, patterns)", param)

    def add_names(self, names: Sequence[str], param: str) -> None:
        self._characters += sum(map(len, names))
        _at_most(self._characters, MOST_CHARACTERS, "characters in names and values", param)


class _Walk:
    """Through one schema, and what it refers to."""

    def __init__(self, bounds: SchemaBounds, root: Schema, param: str) -> None:
        self._bounds = bounds
        self._root = root
        self._param = param
        self._known: dict[str, _Open] = {}
        self._within = {"#"}

    def check(self) -> None:
        self._schema(self._root, 0)

    def _schema(self, schema: object, depth: int) -> _Open:
        if not isinstance(schema, Mapping):  # true, false, or what the engine refuses
            return _Open(1)
        if depth > MOST_DEPTH:
            raise self._refused(f"it is nested more than {MOST_DEPTH} levels deep", "Make it flatter.")
        self._look(schema)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referred(reference, depth)
        opened = [self._alternatives(each, depth) for each in _choices(schema)]
        opened += [self._schema(each, depth + 1) for each in _inside(schema)]
        ways = max([one.ways for one in opened], default=1)
        ways = max(ways, len(_listed(schema, "enum")), 1 + len(_optional(schema)), self._pattern(schema))
        if ways > MOST_WAYS:
            raise self._refused(
                f"more than {MOST_WAYS} alternatives may be open at one place of it",
                "Use fewer of them, or let them begin differently.",
            )
        return _Open(ways, any(one.recursive for one in opened))

    def _look(self, schema: Schema) -> None:
        properties = _named(schema, "properties")
        values = _listed(schema, "enum")
        self._bounds.add(
            self._param, properties=len(properties), optional=len(_optional(schema)), values=values
        )
        self._bounds.add_names(list(properties), self._param)
        self._bounds.add_repetitions(_repetitions(schema), self._param)
        kinds = _listed(schema, "type") or [schema.get("type")]
        if any(kind in kinds[:place] for place, kind in enumerate(kinds)):
            raise self._refused("a 'type' of it lists the same twice", "Leave one of them out.")
        if "integer" in kinds:
            self._check_integer(schema)

    def _check_integer(self, schema: Schema) -> None:
        for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            value = schema.get(name)
            if isinstance(value, int | float) and abs(value) > LARGEST:
                raise self._refused(
                    f"a '{name}' of {value:g} is beyond 64 bits", "Leave out a bound that bounds nothing."
                )

    def _referred(self, reference: str, depth: int) -> _Open:
        if reference in self._within:
            return _Open(1, recursive=True)
        known = self._known.get(reference)
        if known is None:
            self._within.add(reference)
            known = self._known[reference] = self._schema(_at(self._root, reference), depth + 1)
            self._within.discard(reference)
        return known

    def _alternatives(self, choices: Sequence[object], depth: int) -> _Open:
        """Those that begin alike stay open together, with all that is open in each of them."""
        alike: dict[Hashable, list[_Open]] = {}
        for choice in choices:
            alike.setdefault(self._beginning(choice), []).append(self._schema(choice, depth + 1))
        for opened in alike.values():
            if sum(one.recursive for one in opened) > 1:
                raise self._refused(
                    "alternatives that begin alike lead back to themselves",
                    "Let each of them begin with a required property of another name or constant value.",
                )
        ways = max([sum(one.ways for one in opened) for opened in alike.values()], default=1)
        return _Open(max(ways, len(choices)), any(one.recursive for each in alike.values() for one in each))

    def _beginning(self, schema: object) -> Hashable:
        """What tells a value of this schema from others before anything in it is open."""
        for _ in range(MOST_DEPTH):
            if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
                break
            schema = _at(self._root, str(schema["$ref"]))
        if not isinstance(schema, Mapping):
            return None
        properties, required = _named(schema, "properties"), _listed(schema, "required")
        first = next((name for name in properties if name in required), None)
        if first is None:
            return "array" if "items" in schema or "prefixItems" in schema else None
        inside = properties[first]
        return first, _constant(inside) if isinstance(inside, Mapping) else None

    def _pattern(self, schema: Schema) -> int:
        pattern = schema.get("pattern")
        pieces = optional_pieces(pattern) if isinstance(pattern, str) else 0
        if pieces > MOST_PIECES:
            raise self._refused(
                f"a pattern of it has {pieces} optional pieces, repetitions included (at most {MOST_PIECES})",
                "Use a simpler pattern.",
            )
        return pieces**2

    def _refused(self, why: str, hint: str) -> BadRequest:
        return _refused(why, self._param, hint)


def _choices(schema: Schema) -> Iterator[Sequence[object]]:
    for name in ("anyOf", "oneOf"):
        if _listed(schema, name):
            yield _listed(schema, name)


def _constant(schema: Schema) -> str | float | None:
    """The only value of this schema, if it has but one."""
    values = _listed(schema, "enum")
    value = values[0] if len(values) == 1 else schema.get("const")
    return value if isinstance(value, str | int | float) else None


def _inside(schema: Schema) -> Iterator[object]:
    """The schemas that stand in it, one after the other or all together."""
    yield from _named(schema, "properties").values()
    yield from _listed(schema, "allOf")
    for name in ("items", "prefixItems"):
        found = schema.get(name)
        yield from found if isinstance(found, list) else [found]
    yield schema.get("additionalProperties")


def _repetitions(schema: Schema) -> int:
    named = [schema.get(name) for name in ("minLength", "maxLength", "minItems", "maxItems")]
    pattern = schema.get("pattern")
    counts = [count for count in named if isinstance(count, int)]
    counts += repetitions(pattern) if isinstance(pattern, str) else []
    return sum(count for count in counts if count <= WRITTEN_OUT)


def _named(schema: Schema, name: str) -> Mapping[str, object]:
    found = schema.get(name)
    return found if isinstance(found, Mapping) else {}


def _listed(schema: Schema, name: str) -> Sequence[object]:
    found = schema.get(name)
    return found if isinstance(found, list | tuple) else ()


def _optional(schema: Schema) -> list[str]:
    required = {name for name in _listed(schema, "required") if isinstance(name, str)}
    return [name for name in _named(schema, "properties") if name not in required]


def _at(root: Schema, reference: str) -> object:
    """What `#/$defs/name` refers to; None for what is not there, which the engine refuses."""
    found: object = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _at_most(count: int, most: int, what: str, param: str) -> None:
    if count > most:
        raise _refused(f"it has more than {most} {what}", param, "Use a smaller schema.")


def _refused(why: str, param: str, hint: str) -> BadRequest:
    return BadRequest(
        f"This model cannot follow the JSON schema: {why}.",
        code="unsupported_value",
        param=param,
        hint=hint,
    )
