"""Figures of the last minutes. Pure."""

from collections import Counter
from collections.abc import Sequence

from moonpool.services.monitoring.schema import Latency, Summary
from moonpool.services.monitoring.store import Measure


def summarise(measures: Sequence[Measure], *, minutes: float) -> Summary:
    """An error is a status of 500 or more: what the client did wrong is no fault of ours."""
    count = len(measures)
    errors = sum(measure.status >= 500 for measure in measures)
    flags = Counter(flag for measure in measures for flag in measure.flags)
    return Summary(
        minutes=minutes,
        requests=count,
        requests_per_minute=count / minutes,
        errors=errors,
        error_share=errors / count if count else 0.0,
        duration=_latency([measure.duration_ms for measure in measures]),
        first_byte=_latency([m.first_byte_ms for m in measures if m.first_byte_ms is not None]),
        flags=dict(flags.most_common()),
    )


def _latency(values: Sequence[float]) -> Latency:
    ordered = sorted(values)
    return Latency(p50_ms=_quantile(ordered, 0.50), p95_ms=_quantile(ordered, 0.95))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank: a value that occurred."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
