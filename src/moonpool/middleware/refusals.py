"""Refusals of the edge itself: what never became a request still has an id, a record and a reason.

The edge refuses malformed or oversized HTTP before there is anything the filters could see. Its answers
come from here, so that `explain` finds them as it finds every other.
"""

from moonpool.contracts.manifest import Access, BodyKind, Route
from moonpool.core.body import Outcome
from moonpool.core.clock import Clock
from moonpool.core.context import Context
from moonpool.core.errors import MoonpoolError
from moonpool.core.message import Response
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.recorder import Finished, Recorder
from moonpool.middleware.tracing import RequestIds
from moonpool.openai.errors import render_error

EDGE = Route(method="*", path="(refused at the edge)", access=Access.PUBLIC, body=BodyKind.NONE)


class EdgeRefusals:
    """The edge's `render_error`."""

    def __init__(self, recorder: Recorder, metrics: RequestMetrics, clock: Clock) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._ids = RequestIds()

    def __call__(self, error: MoonpoolError) -> Response:
        response = render_error(error)
        ctx = Context(self._clock)
        ctx.request_id = self._ids.new()
        ctx.route = EDGE
        ctx.decide("edge", "refuse", error.message)
        size = len(response.body) if isinstance(response.body, bytes) else 0
        self._metrics.finished(EDGE.path, "", response.status, 0.0)
        ended = self._clock.monotonic()
        self._recorder.add(Finished(ctx, "-", "", response.status, size, None, ended, Outcome.COMPLETED))
        response.headers.append((b"x-request-id", ctx.request_id.encode()))
        return response
