"""While the model service is down: the last known catalogue. A single model is found in the list, too."""

import msgspec

from moonpool.contracts.fallback import Fallback, FallbackParts, Known, ReadOnly, respond
from moonpool.core.context import Context
from moonpool.core.errors import PlatformError
from moonpool.core.message import Request, Response

_LIST = "/v1/models"
_JSON = (b"content-type", b"application/json")


class _Named(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[msgspec.Raw]


def create(parts: FallbackParts) -> Fallback:
    return _Model(parts, "models are")


class _Model(ReadOnly):
    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        answer = await super().answer(ctx, request, cause)
        if answer is not None or ctx.route.path != _LIST + "/{model:path}":
            return answer
        known = self.parts.known.latest(ctx, _LIST)
        model = None if known is None else _find(known.body, ctx.parameters["model"])
        if known is None or model is None:
            return None
        return respond(Known(headers=[_JSON], body=model, at=known.at), self.parts.clock)


def _find(body: bytes, id: str) -> bytes | None:
    try:
        models = msgspec.json.decode(body, type=_List).data
        return next((bytes(raw) for raw in models if msgspec.json.decode(raw, type=_Named).id == id), None)
    except msgspec.DecodeError:
        return None
