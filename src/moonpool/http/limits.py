"""What the edge grants a client it does not know yet: every number in one place, each with its reason."""

from typing import NamedTuple

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and seconds. What exceeds a limit is refused and the connection closed."""

    request_line: int = 8 * 1024
    """Method, target and version with their blanks (RFC 9112 §3 asks for at least 8000). Beyond: 414."""
    header_bytes: int = 32 * 1024
    """All field lines together. Beyond: 431."""
    header_count: int = 100
    """Field lines, repeated ones counted each. Beyond: 431."""
    body: int = 10 * 1024 * 1024
    """Of a buffered body when no policy says otherwise. Beyond: 413."""
    header_timeout: float = 10.0
    """From the first byte of a request (or the accepted connection) to its complete head. Beyond: 408."""
    body_rate: int = 1024
    """Bytes a second that a body must average after `body_grace` (slowloris). Below: 408."""
    body_grace: float = 10.0
    idle_timeout: float = 75.0
    """Of a kept-alive connection between requests. Beyond: closed without a word."""
    write_high_water: int = 64 * 1024
    """Unsent bytes of one connection at which its stream is paused."""
    kernel_unsent: int = 64 * 1024
    """Bytes of one TCP connection that wait in the kernel and are not on their way (TCP_NOTSENT_LOWAT).
    It would take megabytes otherwise, and a stream to a slow reader go on until they are full. What is on its
    way is bounded by the peer's window alone, so that long fat links stay full."""
    slow_reader_timeout: float = 30.0
    """A reader must take `write_high_water` bytes (or empty the buffer) in this time, or is cut off."""
    pipelined: int = 16
    """Requests that wait behind a running one before the connection is read no further. One read
    (256 KiB) may bring more; they are served in order, and nothing is read until they are."""
    linger: float = 2.0
    """After a refusal: how long what the client still sends is read and dropped, so that the reset
    which closing with unread bytes causes does not destroy the answer (RFC 9112 §9.6)."""


class BodyPolicy(NamedTuple):
    """What a route allows: at most `limit` bytes, handed over whole or as they come (`streamed`)."""

    limit: int
    streamed: bool
