"""/livez and /readyz of a service.

Live depends on nothing. Ready is `ready`, or `degraded` while an optional check fails (still 200: it is
of use), or `unready` (503) while a required one fails, or `draining` (503) once told to stop.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from moonpool.asgi.parts import Check
from moonpool.asgi.shutdown import Shutdown
from moonpool.core.errors import MoonpoolError

CHECK_TIMEOUT = 2.0
"""Seconds one check may take before it counts as failed."""


class Readiness(msgspec.Struct, frozen=True):
    """`checks` is "ok" or the reason, by dependency."""

    status: str
    checks: dict[str, str] = {}


class Health:
    """Runs the checks at the same time, when asked."""

    def __init__(
        self, required: Mapping[str, Check], optional: Mapping[str, Check], shutdown: Shutdown
    ) -> None:
        self._required = dict(required)
        self._optional = dict(optional)
        self._shutdown = shutdown

    async def readiness(self) -> Readiness:
        names = [*self._required, *self._optional]
        checks = [*self._required.values(), *self._optional.values()]
        results = dict(zip(names, await asyncio.gather(*map(_run, checks)), strict=True))
        if self._shutdown.begun:
            status = "draining"
        elif any(results[name] != "ok" for name in self._required):
            status = "unready"
        elif any(results[name] != "ok" for name in self._optional):
            status = "degraded"
        else:
            status = "ready"
        return Readiness(status, results)


async def _run(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT:g} s"
    except MoonpoolError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - a broken check is a failed check, never a failed probe
        return f"{type(error).__name__}: {error}"
    return "ok"
