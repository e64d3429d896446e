"""Where a Redis is, from its URL: `redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DB][?timeout=SECONDS]`."""

import math
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from moonpool.core.errors import StartupError

PORT = 6379
SCHEMES = ("redis", "rediss")
WHERE = "infrastructure.cache"
SHAPE = "Write redis://[:PASSWORD@]HOST[:PORT][/DB], or rediss:// for TLS."


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout` is how long an answer is waited for, in seconds; None: each use knows best."""

    host: str
    port: int = PORT
    database: int = 0
    user: str = ""
    password: str = ""
    tls: bool = False
    timeout: float | None = None

    def __str__(self) -> str:
        """Fit for a log: without the password."""
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"


def parse_address(url: str) -> Address:
    """Raises StartupError for what is no such URL."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise StartupError(f"nothing is known to keep a cache at {parts.scheme!r}", where=WHERE, hint=SHAPE)
    try:
        port, database = parts.port or PORT, int(parts.path.strip("/") or 0)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        timeout = float(options.pop("timeout")) if "timeout" in options else None
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise StartupError("this is no URL of a Redis", where=WHERE, hint=SHAPE) from None
    if not parts.hostname or database < 0:
        raise StartupError("this is no URL of a Redis", where=WHERE, hint=SHAPE)
    if options:
        raise StartupError(f"a Redis has no option {min(options)!r}", where=WHERE, hint="There is timeout.")
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise StartupError(
            "timeout is no time", where=WHERE, hint="Give seconds that are more than none: ?timeout=0.05."
        )
    return Address(
        host=parts.hostname,
        port=port,
        database=database,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
        timeout=timeout,
    )
