"""Which traces are recorded: those of callers that record theirs, a share of those that begin here, and (told
by the spans' maker, when it is known how it ended) everything that failed or fell back. Pure.

The share goes by the trace's id, as W3C Trace Context level 2 and OpenTelemetry's consistent sampling have
it (the last 56 bits against a threshold), so that replicas and services come to the same verdict. A bound on
traces a second keeps a busy gateway from spending its time on them.
"""

from moonpool.core.trace import SAMPLED

PER_SECOND = 50
"""Traces begun here that are recorded, at most."""
_DIGITS = 14
"""56 bits."""


class Sampler:
    """`share` from 0 (none) to 1 (all, up to the bound)."""

    __slots__ = ("_left", "_per_second", "_second", "_threshold")

    def __init__(self, share: float, *, per_second: int = PER_SECOND) -> None:
        rejected = round((1.0 - share) * 16**_DIGITS)
        # Compared as text: hex digits of one length sort as their numbers; "g" is above all of them.
        self._threshold = f"{rejected:0{_DIGITS}x}" if share > 0.0 else "g"
        self._per_second = per_second
        self._second = -1
        self._left = 0

    def flags(self, trace_id: str, now: float) -> int:
        """The trace flags of a trace that begins here; `now` is monotonic seconds."""
        if trace_id[-_DIGITS:] < self._threshold:
            return 0
        second = int(now)
        if second != self._second:
            self._second = second
            self._left = self._per_second
        if self._left == 0:
            return 0
        self._left -= 1
        return SAMPLED
