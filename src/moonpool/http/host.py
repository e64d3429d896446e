"""What all connections of a server share, as a connection sees it."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from moonpool.core.clock import Clock
from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Request, Response
from moonpool.http.limits import BodyPolicy, Limits
from moonpool.http.writing import DateField

Application = Callable[[Request], Awaitable[Response]]

C_contra = TypeVar("C_contra", contravariant=True)
"""The connection's type, which is defined above this."""


class Host(Protocol[C_contra]):
    """What all connections of a server share."""

    application: Application
    limits: Limits
    clock: Clock
    date: DateField
    draining: bool
    active: int
    render_error: Callable[[MoonpoolError], Response]
    render_stream_error: Callable[[Exception], bytes]
    body_policy: Callable[[Request], BodyPolicy] | None
    accepted_private: frozenset[bytes]

    def opened(self, connection: C_contra) -> None: ...

    def closed(self, connection: C_contra) -> None: ...
