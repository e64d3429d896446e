"""What the edge refuses is found like everything else."""

import structlog

from moonpool.core.clock import ManualClock
from moonpool.core.errors import PayloadTooLarge
from moonpool.middleware.metrics import RequestMetrics
from moonpool.middleware.recorder import Recorder
from moonpool.middleware.refusals import EDGE, EdgeRefusals


class NoEvents:
    async def append(self, topic, events) -> None:
        pass


def test_a_refusal_has_an_id_a_record_and_a_reason() -> None:
    clock, metrics = ManualClock(), RequestMetrics()
    recorder = Recorder(NoEvents(), clock, structlog.get_logger())
    response = EdgeRefusals(recorder, metrics, clock)(PayloadTooLarge("the body may have at most 5 bytes"))
    assert response.status == 413
    request_id = response.header(b"x-request-id").decode()
    record = recorder.find(request_id)
    assert (record.route, record.status) == (EDGE.path, 413)
    assert record.decisions[0].reason == "the body may have at most 5 bytes"


def test_every_refusal_has_an_id_of_its_own() -> None:
    clock = ManualClock()
    refusals = EdgeRefusals(Recorder(NoEvents(), clock, structlog.get_logger()), RequestMetrics(), clock)
    ids = {refusals(PayloadTooLarge("x")).header(b"x-request-id") for _ in range(50)}
    assert len(ids) == 50
