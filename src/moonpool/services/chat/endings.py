"""How an answer's end is told: as an HTTP error before it has begun, as the last event afterwards. Pure."""

from typing import NamedTuple

import msgspec

from moonpool.core.errors import MoonpoolError
from moonpool.core.message import ResponseHeaders
from moonpool.openai.errors import error_object, render_error
from moonpool.services.chat.answer import DONE
from moonpool.services.chat.schema import ErrorDetail, Status


class Failure(NamedTuple):
    """`headers` are those of a refusal that clients act upon (retry-after…)."""

    status: int
    error: ErrorDetail
    headers: ResponseHeaders = []  # noqa: RUF012 - never changed


class Refused(Exception):
    """The model's own error, to be passed on as it is."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


_STOPPED = {
    Status.CANCELLED: ErrorDetail(message="The answer was cancelled.", code="answer_cancelled"),
    Status.INTERRUPTED: ErrorDetail(
        message="The answer was interrupted; what had arrived is stored.", code="answer_interrupted"
    ),
}


def failure_of(error: MoonpoolError) -> Failure:
    told = error_object(error)
    detail = ErrorDetail(message=told.message, type=told.type, param=told.param, code=told.code)
    headers = [field for field in render_error(error).headers if field[0] != b"content-type"]
    return Failure(error.status, detail, headers)


def last_event(status: Status, error: ErrorDetail | None) -> bytes:
    """The data of a stream's last event: [DONE] for a complete answer only."""
    if status is Status.COMPLETED:
        return DONE
    if error is None:
        error = _STOPPED.get(status, ErrorDetail(message="The answer failed.", code="answer_failed"))
    return msgspec.json.encode(ErrorBody(error))
