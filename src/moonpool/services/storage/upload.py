"""Reads `multipart/form-data` as it arrives (RFC 7578), holding one chunk in memory.

The parsing is the `multipart` package's; this turns its events into fields and one stream of a file.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeAlias

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from moonpool.core.errors import BadRequest, PayloadTooLarge

FIELD_LIMIT = 4096
"""Bytes of a field that is not the file."""
FIELDS = 16
_Event: TypeAlias = MultipartSegment | bytes | None


class Upload:
    """One upload. First `until_file`, then the bytes by `file`, then `rest`; `fields` fill on the way."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes], *, limit: int) -> None:
        """Raises BadRequest for another type than a form. `limit` is the file's size in bytes."""
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not boundary:
            raise BadRequest(
                "A file is uploaded as multipart/form-data.",
                hint="Send the fields 'file' and 'purpose' as a form; OpenAI's SDKs do.",
            )
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.size = 0
        self._limit = limit
        self._events = _events(boundary, body)

    async def until_file(self) -> None:
        """Raises BadRequest when the form has no file."""
        if not await self._fields_until_file():
            raise BadRequest("The form has no file.", param="file", hint="Send it as the field 'file'.")

    async def file(self) -> AsyncGenerator[bytes, None]:
        """Raises PayloadTooLarge, and BadRequest when the form breaks off."""
        async for event in self._events:
            if event is None:
                return
            assert isinstance(event, bytes)
            self.size += len(event)
            if self.size > self._limit:
                raise PayloadTooLarge(f"A file may have at most {self._limit} bytes.", param="file")
            yield event

    async def rest(self) -> None:
        """To the end of the form: what comes after the file."""
        if await self._fields_until_file():
            raise BadRequest("The form has more than one file.", param="file")

    async def _fields_until_file(self) -> bool:
        async for event in self._events:
            assert isinstance(event, MultipartSegment)
            name = event.name or ""
            if name == "file":
                self.filename = event.filename or ""
                return True
            self.fields[name] = await self._field(name)
        return False

    async def _field(self, name: str) -> str:
        value = b""
        async for event in self._events:
            if event is None:
                break
            assert isinstance(event, bytes)
            value += event
            if len(value) > FIELD_LIMIT:
                raise BadRequest(f"A field may have at most {FIELD_LIMIT} bytes.", param=name[:64])
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BadRequest("A field is not UTF-8.", param=name[:64]) from None


async def _events(boundary: str, body: AsyncIterator[bytes]) -> AsyncGenerator[_Event, None]:
    """A segment's head, its bytes, None at its end; again for the next."""
    try:
        with PushMultipartParser(boundary, max_segment_count=FIELDS, strict=True) as parser:
            async for chunk in body:
                # An empty chunk means the end to the parser; the form says itself where it ends.
                for event in parser.parse(chunk) if chunk else ():
                    yield bytes(event) if isinstance(event, bytearray) else event
    except MultipartError as error:
        raise BadRequest(f"The form is broken: {error}", code="invalid_form") from None
