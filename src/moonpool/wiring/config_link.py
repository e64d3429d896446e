"""How the supervisor reaches the config server, which is its own child: at its socket, by a context that the
supervisor signs itself."""

from collections.abc import AsyncIterator, Callable
from urllib.parse import urlencode

import msgspec

from moonpool.contracts import context
from moonpool.contracts.documents.wire import CONFIG, SILENCE, WATCH
from moonpool.core.clock import Clock
from moonpool.core.errors import Conflict, Unavailable, Unprocessable
from moonpool.core.message import Request, Response
from moonpool.core.principal import Principal
from moonpool.http.address import Address
from moonpool.http.client import Client
from moonpool.http.reading import iterate, read

SECONDS = 10.0
ANSWER_LIMIT = 4 * 1024 * 1024


class _Said(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Said = _Said()


class ConfigLink:
    """`where` tells the endpoint ("": none runs), `key` is that of the server's contexts."""

    def __init__(self, issuer: str, where: Callable[[], str], key: bytes, clock: Clock) -> None:
        self._issuer = issuer
        self._where = where
        self._key = key
        self._clock = clock
        self._client = Client(clock=clock)

    async def close(self) -> None:
        await self._client.aclose()

    async def connect(self, since: str) -> AsyncIterator[bytes]:
        """The watch since EPOCH:SEQUENCE. Raises Unavailable, UpstreamError."""
        query = urlencode({"since": since}) if since else ""
        response = await self._send("GET", WATCH, query, idle=SILENCE)
        if response.status != 200:
            raise Unavailable(f"the config server answered {response.status}")
        chunks = iterate(response.body)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def first(self, name: str, content: object, reason: str) -> None:
        """Write version 1 of a document. Raises Conflict when there is one, Unprocessable when it is refused,
        Unavailable, UpstreamError."""
        body = msgspec.json.encode({"content": content, "version": 0, "reason": reason})
        response = await self._send("PUT", f"/internal/documents/{name}", body=body)
        said = await read(response.body, ANSWER_LIMIT)
        if response.status != 200:
            kind = {409: Conflict, 422: Unprocessable}.get(response.status, Unavailable)
            raise kind(_message(said) or f"the config server answered {response.status}")

    async def _send(
        self, method: str, path: str, query: str = "", body: bytes = b"", idle: float = SECONDS
    ) -> Response:
        endpoint = self._where()
        if not endpoint:
            raise Unavailable("no config server runs")
        principal = Principal(service=self._issuer)
        now = self._clock.time()
        signed = context.sign(self._key, issuer=self._issuer, audience=CONFIG, principal=principal, now=now)
        headers = {context.HEADER: signed, b"content-type": b"application/json"}
        return await self._client.send(
            Address.parse(endpoint),
            Request(method, path, query, headers, body),
            connect_timeout=SECONDS,
            first_byte_timeout=SECONDS,
            idle_timeout=idle,
        )


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error.message
    except msgspec.DecodeError:
        return ""
