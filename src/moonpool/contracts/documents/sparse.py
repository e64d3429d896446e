"""A struct as the plain content of a document: what was said, and not what is so anyway. Pure.

Decoded again it is the same; a diff of two versions tells what a person did, not every default.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import FieldInfo


def sparse(value: object) -> object:
    """`value` as JSON types, without fields that have their default."""
    if isinstance(value, msgspec.Struct):
        return _struct(value)
    if isinstance(value, Mapping):
        return {str(key): sparse(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [sparse(part) for part in value]
    return msgspec.to_builtins(value)


def _struct(value: msgspec.Struct) -> dict[str, object]:
    settings = type(value).__struct_config__
    found: dict[str, object] = {}
    if settings.tag is not None:
        found[str(settings.tag_field)] = settings.tag
    for field in msgspec.structs.fields(type(value)):
        part = getattr(value, field.name)
        if field.required or part != _default(field):
            found[field.encode_name] = sparse(part)
    return found


def _default(field: FieldInfo) -> object:
    factory = field.default_factory
    return field.default if factory is msgspec.NODEFAULT else factory()
