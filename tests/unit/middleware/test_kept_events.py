"""Events come out as they went in, whatever they are, and the usual ones take little room."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.middleware.kept_events import BATCH, LARGE, LOOSE, SEARCHES, KeptEvents


def plain(head: bytes, tail: bytes) -> bool:
    return head.startswith(b"data: {") and tail.endswith(b"}\n\n")


def event(word: str, id: str = "c1") -> bytes:
    return (
        b'data: {"id":"%b","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,'
        b'"delta":{"content":"%b"},"finish_reason":null}],"usage":null}\n\n' % (id.encode(), word.encode())
    )


def kept(events: list[bytes]) -> KeptEvents:
    kept = KeptEvents(plain)
    for one in events:
        kept.add(one)
    return kept


PIECES = st.one_of(
    st.builds(event, st.text("ab", max_size=4)),
    st.builds(event, st.text("ab", max_size=4), st.sampled_from(["c1", "c2"])),
    st.sampled_from([b"data: [DONE]\n\n", b": keep-alive\n\n", event("x") + event("y"), event("z") * 40]),
    st.binary(min_size=1, max_size=60),
)


@given(st.lists(PIECES, max_size=3 * BATCH))
def test_what_is_taken_is_what_was_added(events: list[bytes]) -> None:
    store = KeptEvents(plain)
    for number, one in enumerate(events):
        store.add(one)
        if number % 7 == 0:
            assert store.last == one
    assert store.take() == events
    assert store.take() == []
    assert store.last == b""


def test_the_usual_events_take_a_dozen_bytes_each() -> None:
    events = [event(f"word{number % 50} ") for number in range(BATCH * 20)]
    store = kept(events)
    held = sum(sys.getsizeof(batch) + sys.getsizeof(batch.packed) for batch in store._batches or ())
    assert held + sum(map(sys.getsizeof, store.middles)) < 15 * len(events)
    assert store.take() == events


def test_many_are_compressed() -> None:
    events = [event(f"word{number % 50} ") for number in range(BATCH * 120)]
    store = kept(events)
    assert {batch.compressed for batch in store._batches or ()} == {True, False}
    assert sum(len(batch.packed) for batch in store._batches or ()) < 5 * len(events)
    assert store.last == events[-1]
    assert store.take() == events


def test_what_is_compressed_stays_in_its_place_beside_others() -> None:
    usual = [event(f"word{number} ") for number in range(LOOSE // 8)]
    events = [*usual, b": hello\n\n", *usual, event("x", "c2"), *usual]
    assert kept(events).take() == events


@pytest.mark.parametrize(
    "first", [b"", b": hello\n\n", event("", "c1").replace(b'"content":""', b'"role":"assistant"')]
)
def test_an_opening_of_another_kind_spoils_nothing(first: bytes) -> None:
    events = [*([first] if first else []), *(event(f"w{number}") for number in range(BATCH * 4))]
    store = kept(events)
    assert max(map(len, store.middles)) < 40
    assert store.take() == events


def test_a_stream_without_anything_in_common_is_searched_a_few_times_only() -> None:
    events = [bytes([65 + number % 26]) * 100 + bytes([97 + number % 25]) * 100 for number in range(100)]
    store = kept(events)
    assert store._searches <= SEARCHES
    assert store.take() == events


def test_large_pieces_are_packed_at_once() -> None:
    store = kept([event("x") * (LARGE // 100)] * 4)
    assert len(store.middles) == 1


def test_the_size_is_that_of_the_events_themselves() -> None:
    store = kept([event("w")] * (BATCH * 2 + 1))
    assert store.size >= len(event("w")) * BATCH


def test_what_is_cleared_is_gone() -> None:
    store = kept([event("a"), event("b"), event("c")])
    store.clear()
    store.add(event("d"))
    assert store.take() == [event("d")]
