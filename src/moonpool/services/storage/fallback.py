"""While storage is down: files and pages from the gateway's memory where they are held. Uploads are refused
with when to try again; storage makes a file visible only when it is whole, so nothing is half-written."""

from moonpool.contracts.fallback import RETRY_AFTER, Fallback, FallbackParts, ReadOnly
from moonpool.core.context import Context
from moonpool.core.errors import PlatformError, Unavailable
from moonpool.core.message import Request, Response


def create(parts: FallbackParts) -> Fallback:
    return _Storage(parts, "files are")


class _Storage(ReadOnly):
    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        if request.method != "POST":
            return await super().answer(ctx, request, cause)
        raise Unavailable(
            "the file could not be stored; nothing of it was kept",
            code="upload_refused",
            hint="Send it again.",
            retry_after=cause.retry_after or RETRY_AFTER,
        )
