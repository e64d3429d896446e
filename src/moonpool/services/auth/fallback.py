"""While auth is down: key management says when to try again. Known keys go on working, which is the
authentication filter's doing (middleware/authentication.py)."""

from moonpool.contracts.fallback import RETRY_AFTER, Fallback, FallbackParts, ReadOnly
from moonpool.core.context import Context
from moonpool.core.errors import PlatformError, Unavailable
from moonpool.core.message import Request, Response


def create(parts: FallbackParts) -> Fallback:
    return _Auth(parts, "keys are")


class _Auth(ReadOnly):
    async def answer(self, ctx: Context, request: Request, cause: PlatformError) -> Response | None:
        if request.method != "DELETE":
            return await super().answer(ctx, request, cause)
        raise Unavailable(
            "the key could not be revoked and still works",
            code="not_revoked",
            hint="Try again: a revocation is never done later by itself.",
            retry_after=cause.retry_after or RETRY_AFTER,
        )
