"""Duplicate keys, depth and encoding, against Python's own parser as the judge."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.core.errors import BadRequest
from moonpool.openai import wellformed
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest, EmbeddingRequest


def code_of(body: bytes) -> str | None:
    try:
        wellformed.check(body)
    except BadRequest as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "a": 1}',
        b'{"x": {"a": [], "b": "", "a": {}}}',
        b'[{"a": "\\"", "a": "\\\\"}]',
        b'{"\\u0061": 1, "a": 2}',
        b'{"a\\\\": 1, "a\\\\": 2}',
        b'{"a\\\\": 1, "a\\u005c": 2}',
        b'{"": 1, "": 2}',
        b'{"\\"": 1, "\\u0022": 2}',
    ],
)
def test_duplicate_keys(body: bytes) -> None:
    assert code_of(body) == "duplicate_key"


@pytest.mark.parametrize(
    "body",
    [
        b'[{"a": 1}, {"a": 2}]',
        b'{"a": "\\"a\\": 1, \\"a\\": 2"}',
        b'{"a": "b\\\\", "b": "a\\u005c", "c": "\\u0022", "d": "\\/"}',
        b'{"content": "{\\"a\\":1,\\"a\\":2}"}',
        b'{"x": 123456789012345678901234567890, "y": "\xc3\xa4\\u00e4\\ud83d\\ude00"}',
    ],
)
def test_what_only_looks_like_it(body: bytes) -> None:
    assert code_of(body) is None


def test_the_key_is_named() -> None:
    with pytest.raises(BadRequest) as caught:
        wellformed.check(b'{"model": 1, "model": 2}')
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": "\xff"}', "invalid_encoding"),
        (b'{"\xed\xa0\x80": 1}', "invalid_encoding"),
        (b'{"a": "\\ud800"}', "invalid_json"),
        (b'{"a": 1e999}', "invalid_json"),
        (b'{"a": Infinity}', "invalid_json"),
        (b"[" * 65 + b"]" * 65, "nesting_too_deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nesting_too_deep"),
        (b"[" * 100_000, "nesting_too_deep"),
        (b"[" * 64 + b"]" * 64, None),
        (b"[" + b"[]," * 500 + b"[]]", None),
        (b'{"a": "' + b"[" * 500 + b'"}', None),
    ],
)
def test_depth_and_encoding(body: bytes, code: str | None) -> None:
    assert code_of(body) == code


class Members(tuple):
    """An object as a list of members, so that keys can repeat."""


KEYS = st.text(alphabet='ab"\\é', max_size=2)
TEXTS = st.text(alphabet='a"\\:,{}é\n', max_size=6)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=3).map(Members),
    max_leaves=10,
)


def spelled(value: object, ascii_only: bool) -> str:
    if isinstance(value, Members):
        members = (f"{spelled(key, ascii_only)}: {spelled(item, ascii_only)}" for key, item in value)
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spelled(item, ascii_only) for item in value) + "]"
    if isinstance(value, str) and ascii_only:
        return '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\é\n' else c for c in value) + '"'
    return json.dumps(value, ensure_ascii=False)


def repeats(value: object) -> bool:
    if isinstance(value, Members):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(repeats(item) for _, item in value)
    return isinstance(value, list) and any(repeats(item) for item in value)


@given(VALUES, st.booleans())
def test_no_document_fools_it(value: object, ascii_only: bool) -> None:
    expected = "duplicate_key" if repeats(value) else None
    assert code_of(spelled(value, ascii_only).encode()) == expected


def _structs(info: msgspec.inspect.Type, *, in_union: bool, seen: dict[type, bool]) -> None:
    """Every struct that `info` can hold, and whether it stands in a union of structs wherever it stands."""
    if isinstance(info, msgspec.inspect.Metadata):
        _structs(info.type, in_union=in_union, seen=seen)
    elif isinstance(info, msgspec.inspect.UnionType):
        several = sum(isinstance(part, msgspec.inspect.StructType) for part in info.types) > 1
        for part in info.types:
            _structs(part, in_union=several, seen=seen)
    elif isinstance(info, msgspec.inspect.ListType):
        _structs(info.item_type, in_union=False, seen=seen)
    elif isinstance(info, msgspec.inspect.DictType):
        _structs(info.value_type, in_union=False, seen=seen)
    elif isinstance(info, msgspec.inspect.StructType):
        known = info.cls in seen
        seen[info.cls] = in_union and seen.get(info.cls, True)
        if not known:
            for field in info.fields:
                _structs(field.type, in_union=False, seen=seen)


@pytest.mark.parametrize("schema", [ChatCompletionRequest, CompletionRequest, EmbeddingRequest])
def test_what_the_quick_look_rests_on(schema: type[msgspec.Struct]) -> None:
    seen: dict[type, bool] = {}
    _structs(msgspec.inspect.type_info(schema), in_union=False, seen=seen)
    assert schema in seen
    for struct, in_union in seen.items():
        config = struct.__struct_config__
        assert config.omit_defaults, f"{struct} would encode defaults that the document does not have"
        assert config.tag is None or in_union, f"{struct}'s tag may be missing from a document"


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (b'{"model":"m","messages":[{"role":"user","content":"hi"}]}', True),
        (
            b'{ "messages" : [ {"content":"h\\"i\\\\", "role":"user"} ], "model":"m", "temperature": 1.0}',
            True,
        ),
        (b'{"model":"m","messages":[{"role":"user","content":"hi"}],"unknown":1}', False),
        (b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stop":null}', False),
        (b'{"model":"x","model":"m","messages":[{"role":"user","content":"hi"}]}', False),
        (b'{"model":"m","messages":[{"role":"user","role":"user","content":"hi"}]}', False),
        (b'{"model":"m","messages":[{"role":"user","content":"hi"}],"n":1,"n":2}', False),
        (b'{"model":"m","messages":[{"role":"user","content":"hi","content":"ho"}]}', False),
    ],
)
def test_the_quick_look_is_sure_or_asks_for_the_other(body: bytes, whole: bool) -> None:
    parsed = msgspec.json.decode(body, type=ChatCompletionRequest)
    assert wellformed.is_all_of(body, parsed) is whole


def _open_ended(info: msgspec.inspect.Type, seen: set[type]) -> bool:
    """Whether `info` can hold JSON of any depth."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _open_ended(info.type, seen)
    if isinstance(info, msgspec.inspect.UnionType):
        return any(_open_ended(part, seen) for part in info.types)
    if isinstance(info, msgspec.inspect.ListType):
        return _open_ended(info.item_type, seen)
    if isinstance(info, msgspec.inspect.DictType):
        return _open_ended(info.value_type, seen)
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls in seen:
            return False
        seen.add(info.cls)
        return any(_open_ended(field.type, seen) for field in info.fields)
    return isinstance(info, msgspec.inspect.AnyType) or getattr(info, "cls", None) is object


def test_only_the_fields_that_say_so_leave_depth_open() -> None:
    fields = {
        field.name
        for field in msgspec.inspect.type_info(ChatCompletionRequest).fields
        if _open_ended(field.type, set())
    }
    assert fields == {
        "tools",
        "tool_choice",
        "response_format",
        "functions",
        "audio",
        "web_search_options",
    }
    for schema in (CompletionRequest, EmbeddingRequest):
        assert not _open_ended(msgspec.inspect.type_info(schema), set())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + b'"x", ' * wellformed.MAX_STRINGS + b"1]}",
        b'{"a": [' + b"[], " * wellformed.MAX_BRACKETS + b"1]}",
    ],
    ids=["strings", "brackets"],
)
def test_what_would_take_too_long_is_refused_unseen(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(data: bytes) -> None:
        raise AssertionError("it was looked at")

    monkeypatch.setattr(wellformed, "_decode", never)
    with pytest.raises(BadRequest) as raised:
        wellformed.check(body)
    assert raised.value.code == "too_many_members"
