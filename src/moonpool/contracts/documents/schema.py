"""What the schema says about a place in the document: for hints that tell what is allowed there."""

from difflib import get_close_matches

import msgspec
from msgspec import inspect

from moonpool.ports.config import Path


def type_at(shape: type, path: Path) -> inspect.Type | None:
    """The type that belongs at `path` of a document of that shape; None when nothing does."""
    found: inspect.Type | None = inspect.type_info(shape)
    for part in path:
        found = _step(_without_none(found), part)
    return _without_none(found)


def allowed_keys(shape: type, path: Path) -> list[str]:
    """The keys that the section at `path` can have; empty when any will do."""
    found = type_at(shape, path)
    return [field.encode_name for field in found.fields] if isinstance(found, inspect.StructType) else []


def known(data: object, shape: type) -> object:
    """`data` without the settings that the shape has no place for: what a document of a newer package says
    to one that is older."""
    return _known(data, inspect.type_info(shape))


def _known(data: object, found: inspect.Type | None) -> object:
    if isinstance(found, inspect.UnionType) and sum(map(_is_something, found.types)) > 1:
        return data  # which of them it is depends on what is in it
    found = _without_none(found)
    if isinstance(found, inspect.StructType) and isinstance(data, dict):
        types = {field.encode_name: field.type for field in found.fields}
        return {key: _known(part, types[key]) for key, part in data.items() if key in types}
    if isinstance(found, inspect.DictType) and isinstance(data, dict):
        return {key: _known(part, found.value_type) for key, part in data.items()}
    if isinstance(found, inspect.VarTupleType) and isinstance(data, list):
        return [_known(part, found.item_type) for part in data]
    return data


def _is_something(found: inspect.Type) -> bool:
    return not isinstance(found, inspect.NoneType)


def suggest(name: str, known: list[str]) -> str:
    """`Did you mean …?` when one is near, and all of them."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    start = f"Did you mean {near[0]}? " if near else ""
    return f"{start}Allowed: {', '.join(known)}."


def describe(found: inspect.Type | None) -> str | None:
    """What may stand there, in words."""
    if isinstance(found, inspect.IntType | inspect.FloatType):
        kind = "a whole number" if isinstance(found, inspect.IntType) else "a number"
        low = "" if found.ge is None else f" of at least {found.ge:g}"
        high = "" if found.le is None else f" and at most {found.le:g}"
        return f"{kind}{low}{high}"
    if isinstance(found, inspect.StrType):
        return "text (in quotes where YAML would take it for something else)"
    if isinstance(found, inspect.BoolType):
        return "true or false"
    if isinstance(found, inspect.EnumType):
        return ", ".join(str(each.value) for each in found.cls)
    if isinstance(found, inspect.LiteralType):
        return ", ".join(str(each) for each in found.values)
    if isinstance(found, inspect.VarTupleType):
        return f"a list, each {describe(_without_none(found.item_type))}"
    if isinstance(found, inspect.DictType):
        return "names, each with its own settings"
    if isinstance(found, inspect.StructType):
        return "settings: " + ", ".join(field.encode_name for field in found.fields)
    return None


def convert(data: str, *, shape: type, path: Path) -> object:
    """Text of a variable or a command as what belongs at `path`: "9090" a number, "[…]" and "{…}" JSON.

    Raises ValueError when it cannot be that.
    """
    found = type_at(shape, path)
    try:
        if isinstance(found, inspect.IntType):
            return int(data)
        if isinstance(found, inspect.FloatType):
            return float(data)
        if isinstance(found, inspect.BoolType):
            return msgspec.convert(data, bool, strict=False)
        if isinstance(found, inspect.StrType):
            return data
        return msgspec.json.decode(data)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(describe(found) or "JSON") from error


def _step(found: inspect.Type | None, part: str | int) -> inspect.Type | None:
    if isinstance(found, inspect.StructType):
        return next((field.type for field in found.fields if field.encode_name == part), None)
    if isinstance(found, inspect.DictType):
        return found.value_type
    if isinstance(found, inspect.VarTupleType):
        return found.item_type
    return None


def _without_none(found: inspect.Type | None) -> inspect.Type | None:
    if isinstance(found, inspect.UnionType):
        return next(filter(_is_something, found.types), None)
    return found
