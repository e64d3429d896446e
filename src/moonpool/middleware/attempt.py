"""One attempt at one endpoint: leave of its breaker and a lease of its load are taken, the request is sent,
its answer judged; and all is given back when the answer's body is over.

A streamed answer is there once its first content is (openai/opening.py says what that is): until then an
attempt may fail and another be made, without the client having seen anything.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.lease import Lease
from moonpool.balancing.tiers import Candidate
from moonpool.contracts.manifest import Timeouts
from moonpool.core.body import Outcome, Stream
from moonpool.core.context import Attempt, Context
from moonpool.core.decisions import Flag
from moonpool.core.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionReset,
    FirstByteTimeout,
    MoonpoolError,
    PayloadTooLarge,
    StreamStalled,
    StreamTruncated,
    Throttled,
    UpstreamError,
    UpstreamMalformed,
)
from moonpool.core.message import Request, Response
from moonpool.http.client import Client
from moonpool.http.reading import read
from moonpool.middleware.answered import Answered
from moonpool.middleware.breakers import Breakers
from moonpool.middleware.circuit_breaker import Permit, Verdict
from moonpool.openai.opening import is_content
from moonpool.openai.reported import Reported

FLAGS: dict[type[MoonpoolError], Flag] = {
    ConnectFailed: Flag.UPSTREAM_CONNECT_FAILED,
    ConnectionReset: Flag.UPSTREAM_RESET,
    FirstByteTimeout: Flag.FIRST_TOKEN_TIMEOUT,
    StreamStalled: Flag.STALL,
    StreamTruncated: Flag.TRUNCATED,
    UpstreamMalformed: Flag.MALFORMED,
}
VERDICTS: dict[type[MoonpoolError], Verdict] = {
    ConnectFailed: Verdict.CONNECT,
    ConnectionReset: Verdict.RESET,
    FirstByteTimeout: Verdict.FIRST_TOKEN,
    StreamStalled: Verdict.STALL,
}
"""Whatever else an endpoint fails of is an answer that does not hold what its head promised."""
REFUSAL_LIMIT = 64 * 1024
"""Bytes of a refusal that are read."""
ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes of a model's whole answer."""


class Load(NamedTuple):
    """What a request will cost its endpoint, in tokens."""

    prompt: int = 0
    answer: int = 0


NO_LOAD = Load()
Judge = Callable[[Response], Response]
"""Gives the answer as clients may see it. Raises UpstreamError for one that somebody else should better."""


class Attempts:
    """Makes attempts, of all requests of a process."""

    def __init__(self, client: Client, breakers: Breakers) -> None:
        self._client = client
        self._breakers = breakers

    def open_to(self, ctx: Context) -> Sequence[Candidate]:
        """Who of the request's tier may be asked, those not tried yet before others.

        Raises CircuitOpen when nobody may.
        """
        candidates: Sequence[Candidate] = ctx.tier.candidates
        now = ctx.clock.monotonic()
        admitted = self._breakers.admitted(candidates, now)
        if not admitted:
            ctx.flags.append(Flag.NO_HEALTHY_UPSTREAM)
            wait = self._breakers.retry_after(candidates, now)
            ctx.decide("circuit_breaker", "open", f"{ctx.tier.name}, for {wait:.1f} s")
            causes = {self._breakers.of(candidate).cause for candidate in candidates}
            if causes == {Verdict.RATE_LIMITED}:
                raise Throttled(
                    f"all who answer for {wanted(ctx)} asked for a pause",
                    retry_after=wait,
                    detail=f"every endpoint of {ctx.tier.name} asked for a pause",
                )
            raise CircuitOpen(
                f"all who answer for {wanted(ctx)} have failed just now",
                retry_after=wait,
                detail=f"every instance of {ctx.tier.name} has failed just now",
            )
        if ctx.attempts:
            return [candidate for candidate in fresh(ctx, admitted) if candidate.endpoint.ready] or admitted
        return admitted

    async def make(
        self,
        ctx: Context,
        endpoint: Endpoint,
        request: Request,
        timeouts: Timeouts,
        judge: Judge,
        load: Load = NO_LOAD,
        *,
        streamed: bool = False,
        whole: bool = False,
    ) -> Response:
        """`streamed`: the answer is awaited to its first content. `whole`: its head comes with the finished
        answer only, so its time is the total.

        Raises UpstreamError when there is no answer, or DeadlineExceeded when there is no time left for one:
        in either case with everything given back.
        """
        clock = ctx.clock
        now = clock.monotonic()
        breaker = self._breakers.of(endpoint)
        lease = Lease(endpoint, clock, load.prompt, load.answer)
        held = _Held(ctx, endpoint, lease, breaker.permit(now) or breaker.forced(), now)
        wanted = first_byte = timeouts.first_byte if not whole else timeouts.whole or timeouts.total
        try:
            if ctx.deadline is not None:
                first_byte = ctx.deadline.bound(now, wanted)
                held.hurried = first_byte < wanted
            sending = self._client.send(
                endpoint.address,
                request,
                connect_timeout=timeouts.connect,
                first_byte_timeout=first_byte,
                idle_timeout=timeouts.between_bytes,
            )
            del request  # thousands may wait for their answers: none with a copy of what it has sent
            response = await sending
            held.record.status = response.status
            body = response.body
            if isinstance(body, Stream):
                if response.status >= 400:
                    response.body = await _text(body)
                elif whole:
                    response = await _collected(response, body)
                elif streamed:
                    response = await _opened(
                        response, body, judge, held, now + first_byte - clock.monotonic()
                    )
                    if response.body is body:
                        return response
                    held.record.status = response.status
                if isinstance(response.body, Stream):
                    response = _judged(response, body, judge)
                    body.on_settled(held.settled)
                    return response
            response = judge(response)
        except UpstreamError as error:
            held.failed(error)
            raise
        except BaseException as error:  # the client left, or it is too late: says nothing about the endpoint
            held.given_up(error)
            raise
        held.succeeded(response.status)
        return response


async def _opened(response: Response, body: Stream, judge: Judge, held: "_Held", patience: float) -> Response:
    """A stream whose first content is there, and not taken from its beginning yet; or, not judged yet, the
    refusal that it told of instead. `patience` is in seconds: comments are signs of life, but nothing that a
    client could read."""
    response = _judged(response, body, judge)
    try:
        async with asyncio.timeout(patience):
            begun = await body.begun(is_content)
        if not begun:
            raise StreamTruncated("the endpoint's stream ended before its first content")
    except TimeoutError:
        body.cancel()
        raise FirstByteTimeout("the endpoint sent no content in time") from None
    except Reported as error:
        body.cancel()
        return error.response
    except BaseException:
        body.cancel()
        raise
    held.answered()
    body.on_settled(held.settled)
    return response


async def _collected(response: Response, body: Stream) -> Response:
    """The answer in one piece, so that one which breaks off can be asked for again. One that says it is
    longer than the bound passes as it comes: a client sees by its length whether it was all."""
    length = response.header(b"content-length")
    if length is not None and int(length) > ANSWER_LIMIT:
        return response
    try:
        response.body = await read(body, ANSWER_LIMIT)
    except PayloadTooLarge:
        raise UpstreamMalformed(f"the endpoint's answer is longer than {ANSWER_LIMIT} bytes") from None
    return response


def _judged(response: Response, body: Stream, judge: Judge) -> Response:
    try:
        return judge(response)
    except UpstreamError:
        body.cancel()
        raise


async def _text(body: Stream) -> bytes:
    """A refusal's body, or nothing when it breaks off or is too long: some proxy's page."""
    try:
        return await read(body, REFUSAL_LIMIT)
    except MoonpoolError:
        return b""


def wanted(ctx: Context) -> str:
    """What a request was for, in a client's words."""
    return f"`{ctx.model}`" if ctx.model else f"the service {ctx.service}"


def fresh(ctx: Context, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those among `candidates` that this request has not tried."""
    tried = {attempt.endpoint for attempt in ctx.attempts}
    return [candidate for candidate in candidates if candidate.endpoint.instance not in tried]


class _Held:
    """What one attempt holds of its endpoint, and the record of it. Given back once."""

    __slots__ = ("_ctx", "_permit", "hurried", "lease", "record")

    def __init__(self, ctx: Context, endpoint: Endpoint, lease: Lease, permit: Permit, now: float) -> None:
        self._ctx = ctx
        self.lease = lease
        self._permit = permit
        self.hurried = False
        """Whether the request's deadline was nearer than the endpoint's own time."""
        self.record = Attempt(endpoint.instance, endpoint.release, now)
        ctx.attempts.append(self.record)

    def succeeded(self, status: int) -> None:
        now = self.record.ended = self._ctx.clock.monotonic()
        if status >= 500:
            self.lease.release(failed=True)
            self._permit.failed(now, Verdict.STATUS_5XX)
        else:
            self.lease.release()
            self._permit.succeeded(now)

    def failed(self, error: UpstreamError) -> None:
        record, ctx = self.record, self._ctx
        now = record.ended = ctx.clock.monotonic()
        record.error = error.detail
        record.code = error.code or ""
        flag = FLAGS.get(type(error))
        if flag is not None:
            ctx.flags.append(flag)
        ctx.decide("transport", "failed", error.detail)
        self.lease.release(failed=True)
        if isinstance(error, Answered):
            error.release = record.release
            self._refused(error, now)
        elif self.hurried and isinstance(error, FirstByteTimeout):
            self._permit.neutral(now)  # it was our deadline that left it so little time
        else:
            self._permit.failed(now, VERDICTS.get(type(error), Verdict.TRUNCATION))

    def _refused(self, error: Answered, now: float) -> None:
        status = error.response.status
        if self.lease.endpoint.internal and status in (429, 503) and error.retry_after is not None:
            self._permit.neutral(now)  # a full queue: it serves others, and is free again in a moment
        elif status == 429:
            self._permit.failed(now, Verdict.RATE_LIMITED, error.retry_after)
        else:
            self._permit.failed(now, Verdict.STATUS_5XX, error.retry_after)

    def given_up(self, error: BaseException) -> None:
        record = self.record
        now = record.ended = self._ctx.clock.monotonic()
        record.error = "cancelled"
        if isinstance(error, MoonpoolError):
            record.error, record.code = error.detail, error.code or ""
        self.lease.release(neutral=True)
        self._permit.neutral(now)

    def settled(self, outcome: Outcome, error: Exception | None) -> None:
        """The answer's body is over."""
        if isinstance(error, UpstreamError):
            self.failed(error)
        elif outcome is Outcome.COMPLETED:
            self.succeeded(self.record.status or 0)
        else:
            self.given_up(error if error is not None else Cancelled())

    def answered(self) -> None:
        """The first content is here; what comes after it is told to the lease by metering."""
        self._ctx.produced = self.lease.produced
        self.lease.answered()
        self._permit.answered(self._ctx.clock.monotonic())


class Cancelled(Exception):
    """Stands for the consumer's leaving, of which a stream has no error."""
