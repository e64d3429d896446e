"""How many attempts beyond the first a process may make: retries, hedges and failovers share it. Pure.

Of the requests of the last 10 s one in five, and 10 a second more, so that a quiet process may retry at
all (Finagle's RetryBudget). Without it, attempts multiply the load of what is failing under load.

Exactly: whenever a withdrawal is granted at t, then of (t - 10 s, t], that one included,

    withdrawals ≤ 0.2 * deposits + 10 * 10

Time is counted in ten parts of a second each. Where a part is only partly within the 10 s, it is counted as
spent but not as earned, so that the bound holds at any instant and not only at a part's edge.

The continuation of a broken stream takes the place of an attempt that is gone: it is no load beyond what was
offered, as long as it holds. It is made while anything is left (`covers`), and counts as a withdrawal
only if it fails (`charge`), be it into debt. See docs/adr/0014-continuations-are-charged-when-they-fail.md.
"""

import math

from moonpool.contracts.resilience import RetryPolicy

PARTS = 10
_ROUNDING = 1e-9
"""Of sums of floats: a fifth of five requests is one."""


class RetryBudget:
    """Touched in the event loop only; `now` is the monotonic clock, in seconds."""

    __slots__ = (
        "_at",
        "_deposits",
        "_earned",
        "_floor",
        "_now",
        "_share",
        "_spent",
        "_turn",
        "_width",
        "denied",
    )

    def __init__(self, policy: RetryPolicy) -> None:
        self.update(policy)
        self._now = 0
        """Deposits of the part that is going on, which is not yet in `_deposits`."""
        self._turn = -math.inf
        """When that part is over."""
        self._at = 0
        self._earned = [0] * PARTS
        """Deposits by part; the place of the current one holds 0."""
        self._spent = [0] * (PARTS + 1)
        """Withdrawals by part, the current one last; one part more, for what is partly within the time."""
        self._deposits = 0
        self.denied = 0
        """Withdrawals refused so far."""

    def update(self, policy: RetryPolicy) -> None:
        """What was earned and spent stays; with another window, as of the parts it was counted in: the bound
        is the new policy's as soon as that window is over."""
        self._share = policy.budget_share
        self._floor = policy.budget_per_second * policy.budget_window
        self._width = policy.budget_window / PARTS

    def deposit(self, now: float) -> None:
        """A logical request has come, however many attempts it will take."""
        if now >= self._turn:
            self._rotate(now)
        self._now += 1

    def withdraw(self, now: float) -> bool:
        """Whether one more attempt may be made; if so, it is spent."""
        if self.available(now) < 1.0:
            self.denied += 1
            return False
        self._spent[-1] += 1
        return True

    def covers(self, now: float) -> bool:
        """Whether an attempt may be made that is paid for only if it fails."""
        if self.available(now) < 1.0:
            self.denied += 1
            return False
        return True

    def charge(self, now: float) -> None:
        """An attempt that was covered has failed."""
        if now >= self._turn:
            self._rotate(now)
        self._spent[-1] += 1

    def available(self, now: float) -> float:
        """Withdrawals that would be granted now; below 1 it is spent (`x-should-retry: false`)."""
        if now >= self._turn:
            self._rotate(now)
        earned = self._share * (self._deposits + self._now) + self._floor
        return earned - sum(self._spent) + _ROUNDING

    def _rotate(self, now: float) -> None:
        if now - self._turn >= self._width * PARTS:
            self._earned = [0] * PARTS
            self._spent = [0] * (PARTS + 1)
            self._deposits = self._now = 0
            self._turn = now + self._width
            return
        while now >= self._turn:
            self._earned[self._at] = self._now
            self._at = (self._at + 1) % PARTS
            self._deposits += self._now - self._earned[self._at]
            self._earned[self._at] = 0
            self._now = 0
            self._spent = [*self._spent[1:], 0]
            self._turn += self._width
