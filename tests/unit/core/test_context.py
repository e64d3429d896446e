import pytest

from moonpool.core.clock import ManualClock
from moonpool.core.context import Context
from moonpool.core.decisions import Decision, Flag
from moonpool.core.principal import ANONYMOUS


def test_decisions_have_names_and_times() -> None:
    clock = ManualClock(monotonic=5.0)
    ctx = Context(clock)
    clock.advance(0.5)
    ctx.decide("retry", "again", "reset")
    assert ctx.started == 5.0
    assert ctx.trace() == [Decision("retry", "again", "reset", 5.5)]


def test_contexts_share_nothing() -> None:
    one, other = Context(), Context()
    one.decide("a", "b")
    one.flags.append(Flag.STALE)
    one.service, one.model, one.last_tier = "chat", "m", False
    with pytest.raises(TypeError):
        one.parameters["x"] = "y"  # type: ignore[index] - it is everybody's
    one.attempts.append(None)  # type: ignore[arg-type]
    assert (other.decisions, other.parameters, other.attempts, other.flags) == ([], {}, [], [])
    assert (other.service, other.model, other.last_tier) == ("", "", True)
    assert other.principal is ANONYMOUS
