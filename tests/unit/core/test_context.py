import subprocess
import sys

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


def test_contexts_of_usual_requests_stay_small() -> None:
    """In a fresh interpreter, whose first requests set nothing: what they set must not matter."""
    program = """
import tracemalloc
from moonpool.core.context import USUAL, Context

def usual():
    ctx = Context()
    for name in USUAL:
        setattr(ctx, name, None)
    return ctx

few = [Context() for _ in range(100)]
usual()
tracemalloc.start()
kept = [usual() for _ in range(100)]
print(tracemalloc.get_traced_memory()[0] // 100)
"""
    size = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert size < 700, f"{size} bytes a context: its attributes have left the layout that contexts share"
