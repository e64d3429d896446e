"""Duplicate keys, depth and encoding, against Python's own parser as the judge."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.core.errors import BadRequest
from moonpool.openai import wellformed


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
