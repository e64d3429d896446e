"""The events of inference's answer, pulled; a refusal raised as the model put it."""

from collections.abc import AsyncGenerator

from moonpool.core.errors import UpstreamMalformed
from moonpool.core.message import Body, Response, ResponseHeaders
from moonpool.http.reading import iterate, read
from moonpool.http.sse import EventScanner, data_of
from moonpool.services.chat.answer import read_error
from moonpool.services.chat.endings import Failure, Refused

ERROR_LIMIT = 256 * 1024
_TOLD = (b"retry-after", b"retry-after-ms", b"x-should-retry", b"ratelimit", b"ratelimit-policy")


async def check_answer(response: Response) -> None:
    """Raises Refused for an error, UpstreamMalformed for what is not a stream of events."""
    if response.status != 200:
        body = await read(response.body, ERROR_LIMIT)
        headers: ResponseHeaders = [(name, value) for name, value in response.headers if name in _TOLD]
        # An answer below 400 that is not 200 is no error of the client's: the model misbehaves.
        status = response.status if response.status >= 400 else 502
        raise Refused(Failure(status, read_error(body, response.status), headers))
    content_type = response.header(b"content-type") or b""
    if not content_type.startswith(b"text/event-stream"):
        if not isinstance(response.body, bytes):
            response.body.cancel()
        raise UpstreamMalformed("The model answered without a stream.")


async def read_events(body: Body) -> AsyncGenerator[bytes, None]:
    """The data of each event. Raises what broke the body."""
    scanner = EventScanner()
    chunks = iterate(body)
    try:
        async for chunk in chunks:
            for event in scanner.feed(chunk):
                data = data_of(event)
                if data is not None:
                    yield data
        last = scanner.finish()
        data = data_of(last) if last is not None else None
        if data is not None:
            yield data
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]
