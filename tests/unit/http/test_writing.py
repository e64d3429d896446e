"""Answers and requests as bytes: framing that cannot be forged, ends that are never false."""

import pytest

from moonpool.core.body import Outcome, Stream
from moonpool.core.clock import ManualClock
from moonpool.core.errors import InternalError, StreamTruncated
from moonpool.core.message import Request, Response
from moonpool.http.address import Address
from moonpool.http.sending import render_request
from moonpool.http.writing import DateField, Relay, field_lines, render_whole

ADDRESS = Address.parse("http://a/v1")


def test_the_date_is_made_once_a_second() -> None:
    clock = ManualClock(wall=784111777.0)
    date = DateField(clock)
    first = date.line()
    assert first == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    clock.advance(0.9)
    assert date.line() is first
    clock.advance(0.2)
    assert date.line() == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"


@pytest.mark.parametrize("field", [(b"a", b"b\r\nc: d"), (b"a", b"b\nc"), (b"a\r", b"b"), (b"a\r\nb", b"c")])
def test_fields_cannot_split_an_answer_or_a_request(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(InternalError):
        field_lines([field])
    with pytest.raises(InternalError):
        render_request(ADDRESS, Request("GET", "/", headers=dict([field])))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/a b"), ("GET", "/a\r\nb"), ("GE T", "/"), ("GET", "/ä")]
)
def test_targets_cannot_split_a_request(method: str, path: str) -> None:
    with pytest.raises(InternalError):
        render_request(ADDRESS, Request(method, path))


def test_requests() -> None:
    assert render_request(ADDRESS, Request("GET", "/x", "q")) == b"GET /v1/x?q HTTP/1.1\r\nhost: a\r\n\r\n"
    assert render_request(ADDRESS, Request("POST", "/x")).endswith(b"\r\ncontent-length: 0\r\n\r\n")
    assert render_request(ADDRESS, Request("PUT", "/x", body=Stream())).endswith(
        b"\r\ntransfer-encoding: chunked\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "head_only", "end"),
    [
        (200, False, b"D\r\ncontent-length: 3\r\n\r\nabc"),
        (200, True, b"D\r\ncontent-length: 3\r\n\r\n"),
        (204, False, b"D\r\n\r\n"),
        (304, False, b"D\r\n\r\n"),
    ],
)
def test_whole_answers(status: int, head_only: bool, end: bytes) -> None:
    response = Response(status, [(b"server", b"x"), (b"content-length", b"99"), (b"a", b"b")])
    data = render_whole(response, b"abc", b"D\r\n", head_only=head_only, close=False)
    assert data.endswith(b"\r\na: b\r\n" + end)
    assert b"server" not in data


class Output:
    """A connection and its transport in one."""

    def __init__(self) -> None:
        self.data = b""
        self.end = ""
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.data += data

    def finished(self) -> None:
        self.end = "finished"

    def cut(self) -> None:
        self.end = "cut"


def relay(
    *, length: int | None = None, delimited: bool = True, events: bool = False
) -> tuple[Stream, Output]:
    stream, output = Stream(), Output()
    stream.connect(
        Relay(
            stream,
            output,
            output,
            length,
            delimited=delimited,
            render=(lambda _: b"E\n\n") if events else None,
        )
    )
    return stream, output


def test_chunks_and_their_end() -> None:
    stream, output = relay()
    stream.feed(b"abc")
    stream.feed(b"")
    stream.finish()
    assert (output.data, output.end) == (b"3\r\nabc\r\n0\r\n\r\n", "finished")


@pytest.mark.parametrize(("length", "delimited"), [(None, True), (None, False), (3, True)])
def test_nothing_is_written_to_what_is_closing(length: int | None, delimited: bool) -> None:
    stream, output = relay(length=length, delimited=delimited)
    output.closing = True
    stream.feed(b"abc")
    stream.finish()
    assert (output.data, output.end) == (b"", "finished")


@pytest.mark.parametrize(
    ("given", "data", "end"), [(b"abc", b"abc", "finished"), (b"ab", b"ab", "cut"), (b"abcd", b"", "cut")]
)
def test_a_declared_length_is_kept_or_cut(given: bytes, data: bytes, end: str) -> None:
    stream, output = relay(length=3)
    stream.feed(given)
    stream.finish()
    assert (output.data, output.end) == (data, end)
    assert stream.outcome is (Outcome.CANCELLED if len(given) > 3 else Outcome.COMPLETED)


@pytest.mark.parametrize(
    ("events", "given", "data", "end"),
    [
        (False, b"x", b"1\r\nx\r\n", "cut"),
        (True, b"x\n\n", b"3\r\nx\n\n\r\n3\r\nE\n\n\r\n0\r\n\r\n", "finished"),
        (True, b"x", b"1\r\nx\r\n2\r\n\n\n\r\n3\r\nE\n\n\r\n0\r\n\r\n", "finished"),
        (True, b"", b"3\r\nE\n\n\r\n0\r\n\r\n", "finished"),
    ],
)
def test_broken_streams(events: bool, given: bytes, data: bytes, end: str) -> None:
    stream, output = relay(events=events)
    stream.feed(given)
    stream.fail(StreamTruncated("x"))
    assert (output.data, output.end) == (data, end)
