"""How services ask a model: the same surface that clients have, in the name of a principal."""

from typing import Protocol

from moonpool.core.message import Response
from moonpool.core.principal import Principal


class InferenceClient(Protocol):
    async def chat(self, principal: Principal, body: bytes, *, request_id: str) -> Response:
        """POST /v1/chat/completions with `body` (an OpenAI chat request). The usage is metered to
        `principal` under `request_id`. Errors come as responses with the OpenAI error object.

        Raises PlatformError (Unavailable, UpstreamError…) when no target could be reached.
        """
