"""One attempt at one endpoint: lease taken, request sent, lease given back when the body is over."""

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.contracts.manifest import Timeouts
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Attempt, Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    ConnectFailed,
    ConnectionReset,
    FirstByteTimeout,
    MoonpoolError,
    StreamStalled,
    StreamTruncated,
    UpstreamError,
)
from moonpool.core.message import Request, Response
from moonpool.http.client import Client

FLAGS: dict[type[MoonpoolError], Flag] = {
    ConnectFailed: Flag.UPSTREAM_CONNECT_FAILED,
    ConnectionReset: Flag.UPSTREAM_RESET,
    FirstByteTimeout: Flag.FIRST_TOKEN_TIMEOUT,
    StreamStalled: Flag.STALL,
    StreamTruncated: Flag.TRUNCATED,
}
PROGRESS = 16
"""Chunks of an answer between two updates of the decode load."""


async def attempt(
    client: Client,
    ctx: Context,
    endpoint: Endpoint,
    request: Request,
    timeouts: Timeouts,
    lease: Lease,
    *,
    whole: bool = False,
) -> Response:
    """`whole`: the head comes with the finished answer only, so its time is the total.

    Raises UpstreamError when there is no head of an answer, or DeadlineExceeded when there is no time
    left for one: in either case with the lease given back.
    """
    record = Attempt(endpoint.instance, endpoint.release, ctx.clock.monotonic())
    ctx.attempts.append(record)
    first_byte = timeouts.total if whole else timeouts.first_byte
    try:
        if ctx.deadline is not None:
            first_byte = ctx.deadline.bound(record.started, first_byte)
        response = await client.send(
            endpoint.address,
            request,
            connect_timeout=timeouts.connect,
            first_byte_timeout=first_byte,
            idle_timeout=timeouts.between_bytes,
        )
    except UpstreamError as error:
        _failed(ctx, record, lease, error)
        raise
    except BaseException as error:  # the client left, or it is too late: says nothing about the endpoint
        record.ended = ctx.clock.monotonic()
        record.error = error.message if isinstance(error, MoonpoolError) else "cancelled"
        lease.release(neutral=True)
        raise
    record.status = response.status
    body = response.body
    if isinstance(body, Stream):
        if response.status == 200 and not whole:  # else its first byte tells nothing of the prefill rate
            body.transform(_LoadFollower(lease))
        _follow(ctx, record, lease, response.status, body)
    else:
        record.ended = ctx.clock.monotonic()
        lease.release(failed=response.status >= 500)
    return response


def _failed(ctx: Context, record: Attempt, lease: Lease, error: MoonpoolError) -> None:
    record.ended = ctx.clock.monotonic()
    record.error = error.message
    flag = FLAGS.get(type(error))
    if flag is not None:
        ctx.flags.append(flag)
    ctx.decide("transport", "failed", error.message)
    lease.release(failed=True)


def _follow(ctx: Context, record: Attempt, lease: Lease, status: int, body: Stream) -> None:
    def settled(outcome: Outcome, error: Exception | None) -> None:
        if isinstance(error, MoonpoolError):
            _failed(ctx, record, lease, error)
            return
        record.ended = ctx.clock.monotonic()
        if outcome is Outcome.CANCELLED:
            record.error = "cancelled"
        lease.release(failed=status >= 500, neutral=outcome is Outcome.CANCELLED)

    body.on_settled(settled)


class _LoadFollower:
    """Tells the lease what has come, so that the balancer knows what is still owed."""

    __slots__ = ("_count", "_lease")

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._count = 0

    def chunk(self, data: bytes) -> bytes:
        if self._count == 0:
            self._lease.answered()
        self._count += 1
        if self._count % PROGRESS == 0:
            self._lease.produced(PROGRESS)
        return data

    def finish(self) -> bytes:
        return b""
