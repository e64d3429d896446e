"""The engine's small questions: tokens of a text, what the template can do.

xllamacpp hands out generation and embeddings as calls, all else only through the HTTP server that it
starts anyway; here that listens on a Unix socket in a private folder instead of a port.
"""

import asyncio
import http.client
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from moonpool.core.errors import BadRequest, InternalError, Unavailable

TIMEOUT = 10.0
"""Seconds; a question takes about one millisecond, unless the text is very long."""


class TemplateCapabilities(msgspec.Struct):
    supports_tools: bool = False
    supports_tool_calls: bool = False


class SlotSettings(msgspec.Struct):
    n_ctx: int = 0


class Properties(msgspec.Struct):
    default_generation_settings: SlotSettings
    chat_template_caps: TemplateCapabilities = msgspec.field(default_factory=TemplateCapabilities)


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Prompt(msgspec.Struct):
    prompt: str


class _Content(msgspec.Struct):
    content: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


class SideDoor:
    """`path` is where the engine is to listen; the folder is ours alone (mode 0700)."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="moonpool-engine-"))
        self.path = str(self._folder / "engine.sock")

    async def properties(self) -> Properties:
        return msgspec.json.decode(await self._ask("GET", "/props", None), type=Properties)

    async def tokenize(self, text: str | Sequence[int | str], *, special: bool = False) -> list[int]:
        """`special`: as a prompt is read, where the text of a special token is that token. Tokens in a
        sequence stay as they are."""
        body = {"content": text, "parse_special": special, "add_special": special}
        return msgspec.json.decode(await self._ask("POST", "/tokenize", body), type=_Tokens).tokens

    async def template(self, messages: list[dict[str, object]]) -> str:
        """The prompt that a conversation becomes."""
        answer = await self._ask("POST", "/apply-template", {"messages": messages})
        return msgspec.json.decode(answer, type=_Prompt).prompt

    async def detokenize(self, tokens: list[int]) -> str:
        """Raises BadRequest for tokens that the model does not have."""
        try:
            answer = await self._ask("POST", "/detokenize", {"tokens": tokens})
        except InternalError:
            raise BadRequest("The prompt has tokens that this model does not have.", param="prompt") from None
        return msgspec.json.decode(answer, type=_Content).content

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _ask(self, method: str, path: str, body: object) -> bytes:
        encoded = None if body is None else msgspec.json.encode(body)
        return await asyncio.to_thread(self._ask_now, method, path, encoded)

    def _ask_now(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = _Connection(self.path)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"The engine does not answer: {error}", retry_after=1.0) from None
        finally:
            connection.close()
        if response.status != 200:
            raise InternalError("The engine refused a question of ours.")
        return answer
