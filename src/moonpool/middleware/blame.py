"""Who raised an error: the innermost filter that it came through, or the route at the end of the chain. Pure.

Read off the error's own traceback, when there is one to explain: naming filters on their way would cost every
request a frame for each of them.
"""

from moonpool.core.context import Context
from moonpool.core.errors import MoonpoolError, RequestError

ROUTES = "moonpool.gateway."
OUTERMOST = "tracing"
TOLD = frozenset({"refuse", "shed", "stop", "unavailable"})
"""Verdicts of filters that have said themselves what they then raise."""


def tell(ctx: Context, error: MoonpoolError) -> None:
    """Record who refused the request, or failed, and why; unless that one has just said so."""
    who = raised_by(error)
    if ctx.decisions:
        name, verdict, _, _ = ctx.decisions[-1]
        if verdict in TOLD and name.replace(" ", "_") == who:
            return
    refused = isinstance(error, RequestError) and who != OUTERMOST
    ctx.decide(who, "refuse" if refused else "error", error.detail)


def raised_by(error: BaseException) -> str:
    """The module of the filter; "gateway" for the gateway's own routes; the outermost filter for all else."""
    who, place = OUTERMOST, error.__traceback__
    while place is not None:
        frame = place.tb_frame
        kind = type(frame.f_locals.get("self"))
        if hasattr(kind, "applies"):  # a method of a RouteFilter
            who = kind.__module__.rpartition(".")[2]
        elif str(frame.f_globals.get("__name__")).startswith(ROUTES):
            who = "gateway"
        place = place.tb_next
    return who
