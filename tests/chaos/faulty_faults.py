"""The faults of the injector: what each does to an answer on the wire."""

import asyncio
from dataclasses import dataclass

from faulty_answers import Answer, error
from faulty_wire import ARRIVED, Connection, Gone

KINDS = ("normal", "refuse", "reset", "stall", "truncate", "malformed", "status", "trickle", "huge")
FILLER = b"x" * 65536


@dataclass(frozen=True)
class Fault:
    """`kind`, one of KINDS, with what it needs:

    reset      `after` pieces of the answer; without it, before the head
    stall      `after` pieces; without it, before the head (0: after the head, before the first token)
    truncate   `after` pieces, and `how`: "length" (shorter than declared), "chunk" (no last chunk),
               "done" (well framed, but no `[DONE]`)
    malformed  `after` pieces, and `how`: "chunk" (a bad size), "event" (no JSON in it), "error" (an event
               that tells of one, and no more), "body" (not JSON at all), "head" (not HTTP)
    status     `status`, with `retry_after` if given
    trickle    `gap` seconds before each byte run of `bytes`
    huge       `how`: "head", "event" (one without an end), "body"; of `bytes`

    Pieces are events of a stream (the first has no content) or quarters of a JSON text. `delay` seconds pass
    before anything; `share` of the requests are hit, as drawn from `seed`, and `times` of them at most. A
    stall ends after `seconds`, if the peer has not gone before. With `when_seen`, what comes `after` some
    pieces waits until `POST /_seen` has told that whoever asked for this prompt has the beginning of the
    answer: on a busy machine no pause is so long that a relay surely does not read both at once.
    """

    kind: str = "normal"
    after: int | None = None
    how: str = ""
    status: int = 500
    retry_after: int | None = None
    share: float = 1.0
    times: int | None = None
    seed: int = 0
    delay: float = 0.0
    gap: float = 0.05
    seconds: float = 3600.0
    bytes: int = 16
    when_seen: bool = False


async def perform(connection: Connection, fault: Fault, good: Answer, seen: asyncio.Event) -> None:
    """Answer with `good`, as far as `fault` lets it. Raises Gone when the connection is of no more use."""
    if fault.kind == "status":
        wait = () if fault.retry_after is None else (("retry-after", str(fault.retry_after)),)
        await connection.reply(fault.status, error(fault.status, "injected"), *wait)
        return
    if fault.kind == "huge":
        await _huge(connection, fault)
    if fault.kind == "malformed" and fault.how == "head":
        await connection.write(b"SSH-2.0-not-http\r\n\r\n")
        raise Gone
    if fault.kind == "malformed" and fault.how == "body":
        good = Answer(good.content_type, [b"<html>this is ", b"no answer</html>"])
    if fault.kind in ("reset", "stall") and fault.after is None:
        if fault.kind == "reset":
            await connection.reset()
        await connection.wait(fault.seconds)
    chunked = good.content_type == "text/event-stream" or fault.how == "chunk"
    size = sum(map(len, good.pieces))
    framing = ("transfer-encoding", "chunked") if chunked else ("content-length", str(size))
    await connection.head(200, ("content-type", good.content_type), framing)
    for place, piece in enumerate(good.pieces):
        if place == fault.after and fault.when_seen:
            await connection.until(seen)
        if place == fault.after and await _break(connection, fault, chunked):
            return
        framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
        if fault.kind == "trickle":
            await _trickle(connection, fault, framed)
        else:
            await connection.write(framed)
            await asyncio.sleep(0)  # each piece in a packet of its own, mostly
    if chunked:
        await connection.write(b"0\r\n\r\n")


async def _break(connection: Connection, fault: Fault, chunked: bool) -> bool:
    """The fault between two pieces. True: this was all, but the connection stays; False: go on."""
    match fault.kind, fault.how:
        case "reset", _:
            await connection.reset()
        case "stall", _:
            await connection.wait(fault.seconds)
        case "truncate", "done":
            await connection.write(b"0\r\n\r\n" if chunked else b"")
            return True
        case "truncate", _:
            await asyncio.sleep(ARRIVED)
            raise Gone
        case "malformed", "chunk":
            await connection.write(b"xyz\r\n{}\r\n")
            raise Gone
        case "malformed", "error":
            told = b"data: " + error(500, "injected") + b"\n\n"
            await connection.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(told), told))
            return True
        case "malformed", "event":
            broken = b'data: {"choices": [{"index": 0, "delta": {"cont\n\n'
            await connection.write(b"%x\r\n%b\r\n" % (len(broken), broken))
    return False


async def _trickle(connection: Connection, fault: Fault, data: bytes) -> None:
    for start in range(0, len(data), fault.bytes):
        await connection.wait(fault.gap)
        await connection.write(data[start : start + fault.bytes])


async def _huge(connection: Connection, fault: Fault) -> None:
    """`bytes` of it, then the end of the connection, without the end of what was begun."""
    if fault.how == "head":
        start = b"HTTP/1.1 200 OK\r\nx-filler: "
    else:
        kind = b"text/event-stream" if fault.how == "event" else b"application/json"
        first = b'data: {"choices": "' if fault.how == "event" else b'{"choices": "'
        start = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n\r\n%b" % (kind, first)
    await connection.write(start)
    for _ in range(-(-fault.bytes // len(FILLER))):
        await connection.write(FILLER)
    raise Gone
