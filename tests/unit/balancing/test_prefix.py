from hypothesis import given
from hypothesis import strategies as st

from moonpool.balancing.prefix import BLOCK, MAX_BLOCKS, PrefixIndex, blocks


@given(text=st.binary(max_size=6 * BLOCK), more=st.binary(max_size=2 * BLOCK))
def test_longer_texts_have_longer_names_with_the_same_beginning(text: bytes, more: bytes) -> None:
    names = blocks(text)
    assert len(names) == min(len(text) // BLOCK, MAX_BLOCKS)
    assert blocks(text + more)[: len(names)] == names


def test_names_are_of_all_that_comes_before() -> None:
    one, other = blocks(b"a" * BLOCK + b"same" * BLOCK), blocks(b"b" * BLOCK + b"same" * BLOCK)
    assert set(one).isdisjoint(other)


def test_what_lies_far_behind_is_not_looked_at() -> None:
    assert len(blocks(b"x" * BLOCK * (MAX_BLOCKS + 10))) == MAX_BLOCKS


NAMES = [bytes([n]) for n in range(12)]
PROMPTS = st.lists(st.sampled_from([0, 1, 2, 3]), max_size=6)
"""Paths in a small tree of prompts."""


def path(choices: list[int]) -> list[bytes]:
    names, text = [], b""
    for choice in choices:
        text += bytes([choice])
        names.append(text)
    return names


@given(st.lists(st.tuples(PROMPTS, st.sampled_from("abcdef")), max_size=40), PROMPTS)
def test_a_match_is_a_prefix_that_this_instance_was_sent(
    sent: list[tuple[list[int], str]], asked: list[int]
) -> None:
    index = PrefixIndex(capacity=1000, holders=10)
    for choices, instance in sent:
        index.record(path(choices), instance)
    expected: dict[str, int] = {}
    for choices, instance in sent:
        common = 0
        while common < min(len(choices), len(asked)) and choices[common] == asked[common]:
            common += 1
        if common:
            expected[instance] = max(expected.get(instance, 0), common)
    assert index.matches(path(asked)) == expected


@given(
    st.lists(st.tuples(PROMPTS, st.sampled_from("abcdef")), max_size=60),
    st.integers(1, 10),
    st.integers(1, 3),
)
def test_memory_is_bounded_and_a_match_never_invented(
    sent: list[tuple[list[int], str]], capacity: int, holders: int
) -> None:
    index = PrefixIndex(capacity=capacity, holders=holders)
    for choices, instance in sent:
        index.record(path(choices), instance)
        assert len(index) <= capacity
        matches = index.matches(path(choices))
        assert len(matches) <= holders
        for other, depth in matches.items():
            assert any(c[:depth] == choices[:depth] and i == other for c, i in sent)


def test_the_least_recently_used_go_first() -> None:
    index = PrefixIndex(capacity=2)
    index.record([b"1"], "a")
    index.record([b"2"], "a")
    index.matches([b"1"])
    index.record([b"3"], "a")
    assert index.matches([b"1"]) == {"a": 1}
    assert index.matches([b"2"]) == {}


def test_an_instance_that_is_gone_is_forgotten() -> None:
    index = PrefixIndex()
    index.record([b"1", b"2"], "a")
    index.record([b"1"], "b")
    index.forget("a")
    assert index.matches([b"1", b"2"]) == {"b": 1}
    index.forget("b")
    assert len(index) == 0
