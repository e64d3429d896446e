"""The words that a field takes, for refusals: msgspec tells which one it does not take, not the others."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec
from msgspec import inspect

_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


def choices(schema: type[msgspec.Struct], path: str) -> list[str]:
    """Of the field at `path`, written as in `tools[0].type`; none where it takes no fixed words."""
    kinds: Iterable[inspect.Type] = [_described(schema)]
    for step in _STEP.findall(path):
        kinds = [inner for kind in _flat(kinds) for inner in _inside(kind, step)]
    return list(dict.fromkeys(word for kind in _flat(kinds) for word in _words(kind)))


@lru_cache(maxsize=64)
def _described(schema: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(schema)


def _flat(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            yield from _flat(kind.types)
        elif isinstance(kind, inspect.Metadata):
            yield from _flat([kind.type])
        else:
            yield kind


def _inside(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        yield from (field.type for field in kind.fields if field.encode_name == step)
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        yield kind.item_type


def _words(kind: inspect.Type) -> Iterator[str]:
    if isinstance(kind, inspect.EnumType):
        yield from (str(member.value) for member in kind.cls)
    elif isinstance(kind, inspect.LiteralType):
        yield from map(str, kind.values)
