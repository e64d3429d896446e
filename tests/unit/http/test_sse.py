"""Events: the standard's examples, and that it never matters where the bytes are split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.core.errors import UpstreamMalformed
from moonpool.http.sse import Decoder, Event, EventScanner, comment, data_of, encode, whole_events


def decode(*pieces: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\n", [Event("a")]),
        (b"data:a\r\n\r\n", [Event("a")]),
        (b"data: a\r\r", [Event("a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
        (b"data:  a\n\n", [Event(" a")]),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("YHOO\n+2\n10")]),
        (b": comment\n\ndata: a\n\n", [Event("a")]),
        (b"data\n\ndata\ndata\n\ndata:", [Event(""), Event("\n")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [Event("a", "x"), Event("b")]),
        (b"event: x\n\ndata: b\n\n", [Event("b")]),
        (
            b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
            [Event("a", id="1"), Event("b", id="1"), Event("c")],
        ),
        (b"id: a\0b\ndata: a\n\n", [Event("a")]),
        (b"retry: 10\ndata: a\n\nretry: x\ndata: b\n\n", [Event("a", retry=10), Event("b")]),
        (b"foo: bar\ndata: a\n\n", [Event("a")]),
        (b"\n\n\ndata: a\n\n\n\n", [Event("a")]),
        (b"data: \xff\n\n", [Event("\ufffd")]),
        (b"data: a\n", []),
    ],
)
def test_decode(raw: bytes, events: list[Event]) -> None:
    assert decode(raw) == events
    assert decode(*(bytes([byte]) for byte in raw)) == events


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data",
        b"id: 1",
        b"event: e",
        b": c",
        b"",
        b"",
        b"x",
        b"data: \xc3\xa4",
        b"retry: 5",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda rows: b"".join(a + b for a, b in rows))
CUTS = st.lists(st.integers(0, 80), max_size=8)


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    return [raw[a:b] for a, b in pairwise(places)]


@given(STREAMS, CUTS)
def test_decoding_does_not_depend_on_the_split(raw: bytes, cuts: list[int]) -> None:
    assert decode(*split(raw, cuts)) == decode(raw)


def scan(*pieces: bytes) -> tuple[list[bytes], bytes]:
    scanner = EventScanner()
    events = [event for piece in pieces for event in scanner.feed(piece)]
    return events, scanner.held


@given(STREAMS, CUTS)
def test_scanning_does_not_depend_on_the_split_and_loses_nothing(raw: bytes, cuts: list[int]) -> None:
    events, held = scan(*split(raw, cuts))
    assert (events, held) == scan(raw)
    assert b"".join(events) + held == raw


@given(STREAMS)
def test_scanner_and_decoder_agree(raw: bytes) -> None:
    scanner = EventScanner()
    events = scanner.feed(raw)
    last = scanner.finish()
    found = [data_of(event) for event in [*events, *([last] if last else [])]]
    texts = [data.decode() for data in found if data is not None]
    assert texts == [event.data for event in decode(raw)]


def test_scanner_passes_the_usual_chunk_on_as_it_is() -> None:
    chunk = b"data: {}\n\n"
    assert EventScanner().feed(chunk)[0] is chunk


@pytest.mark.parametrize(
    "pieces",
    [[b"data: " + b"x" * 200], [b"data: ", *[b"x" * 9] * 30], [b"data: x\n" * 40], [b": " + b"x" * 300]],
)
def test_events_are_bounded(pieces: list[bytes]) -> None:
    for reader in (Decoder(limit=100), EventScanner(limit=100)):
        with pytest.raises(UpstreamMalformed):
            all(reader.feed(piece) is not None for piece in pieces)


def test_many_small_events_do_not_count_together() -> None:
    decoder = Decoder(limit=100)
    assert len(decoder.feed(b"data: abcdefg\n\n" * 100)) == 100


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50))
def test_encode_then_decode(text: str) -> None:
    assert decode(encode(text, event="e", id="1")) == [
        Event(text.replace("\r\n", "\n").replace("\r", "\n"), "e", "1")
    ]


def test_encode_refuses_what_would_forge_fields() -> None:
    with pytest.raises(ValueError, match="one line"):
        encode("a", event="b\ndata: forged")
    assert decode(comment()) == []


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_whole_events_are_the_same_however_they_come(size: int) -> None:
    body = b"data: 1\r\n\r\n: hm\n\ndata: 2\r\ndata: 3\r\n\r\ndata: half"
    whole, held = b"", b""
    for at in range(0, len(body), size):
        ended, held = whole_events(held + body[at : at + size])
        assert not ended or ended.endswith(b"\n\n")
        whole += ended
    assert (whole, held) == (b"data: 1\n\n: hm\n\ndata: 2\ndata: 3\n\n", b"data: half")
