"""An endpoint that answered, and said no: an error as long as somebody else may do better."""

from moonpool.core.errors import UpstreamError
from moonpool.core.message import Response


class Answered(UpstreamError):
    """`response` is what the client gets when nobody does better. Its body is bytes."""

    code = "upstream_answered"
    release = ""
    """Label of the release whose answer it is: others may have been asked since."""

    def __init__(self, response: Response, *, retry_after: float | None = None) -> None:
        super().__init__(f"the endpoint answered with status {response.status}", retry_after=retry_after)
        self.response = response


def asked_wait(response: Response) -> float | None:
    """Seconds after which the endpoint wants to be asked again; None when it does not say, or says a date.

    `retry-after-ms` is OpenAI's and finer; `retry-after` RFC 9110 section 10.2.3.
    """
    exact, whole = response.header(b"retry-after-ms"), response.header(b"retry-after")
    if exact is not None and exact.isdigit():
        return int(exact) / 1000.0
    return float(whole) if whole is not None and whole.isdigit() else None
