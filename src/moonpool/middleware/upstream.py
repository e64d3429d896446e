"""The end of a service's chain: pick an instance of the service and send it the request."""

from moonpool.balancing.api import ApiBalancer
from moonpool.balancing.web import WebBalancer
from moonpool.contracts import context as signed
from moonpool.core.context import Context
from moonpool.core.message import Request, Response
from moonpool.core.trace import child_id, render
from moonpool.middleware.answered import Answered, asked_wait
from moonpool.middleware.attempt import Attempts
from moonpool.middleware.restarts import Restarts
from moonpool.middleware.signing import ContextSigner

FORWARDED = frozenset(
    {
        b"accept",
        b"accept-language",
        b"cache-control",
        b"content-type",
        b"idempotency-key",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"last-event-id",
        b"prefer",
        b"range",
        b"user-agent",
    }
)
"""Request fields that services see. Keys and cookies end at the gateway."""

BETTERED = frozenset({500, 502, 503, 504})
"""A service's 429 is its verdict on the caller, not on itself."""


class ServiceUpstream:
    """One service's upstream, for all its routes of one kind of balancer."""

    def __init__(
        self,
        service: str,
        *,
        balancer: ApiBalancer | WebBalancer,
        attempts: Attempts,
        signer: ContextSigner,
        restarts: Restarts | None = None,
    ) -> None:
        """Without `restarts` what is not ready is asked all the same."""
        self._service = service
        self._restarts = restarts
        self._balancer = balancer
        self._attempts = attempts
        self._signer = signer

    async def __call__(self, ctx: Context, request: Request) -> Response:
        candidates = self._attempts.open_to(ctx)
        endpoint = self._balancer.pick([candidate.endpoint for candidate in candidates])
        if endpoint.ready or self._restarts is None:
            ctx.release = endpoint.release
            ctx.decide("balancer", endpoint.instance)
        else:
            endpoint = await self._restarts.instead(ctx, self._service, endpoint)
        upstream = Request(
            request.method,
            request.path,
            request.query,
            self._headers(ctx, request),
            request.body,
        )
        response = await self._attempts.make(ctx, endpoint, upstream, ctx.route.timeouts, judge)
        response.headers.append((b"x-moonpool-release", f"{self._service}@{endpoint.release}".encode()))
        return response

    def _headers(self, ctx: Context, request: Request) -> dict[bytes, bytes]:
        headers = {name: value for name, value in request.headers.items() if name in FORWARDED}
        length = request.headers.get(b"content-length")
        if length is not None and not isinstance(request.body, bytes):
            headers[b"content-length"] = length
        add_internal(headers, ctx, self._signer, self._service)
        return headers


def judge(response: Response) -> Response:
    """Raises Answered for what another instance may do better. The body of a refusal is bytes."""
    if response.status in BETTERED:
        raise Answered(response, retry_after=asked_wait(response))
    return response


def add_internal(headers: dict[bytes, bytes], ctx: Context, signer: ContextSigner, service: str) -> None:
    """What a service of ours gets beside the request: on whose behalf, its id, its place in the trace."""
    headers[signed.HEADER] = signer.sign(ctx.principal, service)
    headers[signed.REQUEST_ID] = ctx.request_id.encode()
    if ctx.trace_id:
        headers[b"traceparent"] = traceparent(ctx)
    if ctx.trace_state:
        headers[b"tracestate"] = ctx.trace_state.encode("latin-1")


def traceparent(ctx: Context) -> bytes:
    """That of the attempt which is about to be made, a child of the request's span."""
    return render(ctx.trace_id, child_id(ctx.span_id, len(ctx.attempts)), ctx.trace_flags)
