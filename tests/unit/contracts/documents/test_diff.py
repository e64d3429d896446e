"""Differences, path by path, and changes of single places."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.documents.diff import Change, diff, with_value, without
from moonpool.contracts.documents.place import parse_path
from moonpool.contracts.documents.validation import DocumentFault

KEYS = st.sampled_from(["a", "b", "c.d"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)


def test_each_kind_of_difference() -> None:
    old = {"a": 1, "b": {"x": 1, "y": [1, 2]}, "d": {}}
    new = {"a": 2, "b": {"y": [1, 3, 4]}, "c": {"z": {"w": 1}}, "d": {}}
    assert diff(old, new) == [
        Change(path="a", kind="changed", old=1, new=2),
        Change(path="b.x", kind="removed", old=1),
        Change(path="b.y[1]", kind="changed", old=2, new=3),
        Change(path="b.y[2]", kind="added", new=4),
        Change(path="c.z.w", kind="added", new=1),
    ]


def test_a_truth_is_no_number() -> None:
    assert [change.path for change in diff({"a": 1}, {"a": True})] == ["a"]


@given(DOCUMENTS)
def test_nothing_differs_from_itself(document: dict[str, object]) -> None:
    assert diff(document, copy.deepcopy(document)) == []


@given(DOCUMENTS, DOCUMENTS)
def test_there_is_a_difference_exactly_where_there_is_one(
    old: dict[str, object], new: dict[str, object]
) -> None:
    assert bool(diff(old, new)) == (json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True))


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("a", {"a": 9, "b": [1, {"c": 2}]}),
        ("x.y", {"a": {}, "b": [1, {"c": 2}], "x": {"y": 9}}),
        ("b[0]", {"a": {}, "b": [9, {"c": 2}]}),
        ("b[2]", {"a": {}, "b": [1, {"c": 2}, 9]}),
        ("b[1].c", {"a": {}, "b": [1, {"c": 9}]}),
        ("n[0].u", {"a": {}, "b": [1, {"c": 2}], "n": [{"u": 9}]}),
        ("", 9),
    ],
)
def test_setting(path: str, result: object) -> None:
    data = {"a": {}, "b": [1, {"c": 2}]}
    before = copy.deepcopy(data)
    assert with_value(data, parse_path(path), 9) == result
    assert data == before


@pytest.mark.parametrize("path", ["b[3]", "a[0]", "b.c", "b[0].c"])
def test_setting_where_nothing_can_be(path: str) -> None:
    with pytest.raises(DocumentFault):
        with_value({"a": 1, "b": [1]}, parse_path(path), 9)


def test_taking_away() -> None:
    data = {"a": {"b": 1}, "c": [1, 2]}
    assert without(data, ("a", "b")) == {"a": {}, "c": [1, 2]}
    assert without(data, ("c", 0)) == {"a": {"b": 1}, "c": [2]}
    for path in (("x",), ("c", 2), ("a", "x"), ()):
        with pytest.raises(DocumentFault):
            without(data, path)
