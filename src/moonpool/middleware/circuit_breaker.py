"""Whether an endpoint is given requests, decided by how its last ones went. Pure: times are passed in.

              5 failures in a row, or ≥ 50 % of ≥ 20 calls in 30 s
    CLOSED ───────────────────────────────────────────────────────► OPEN  5 s, 10 s … 300 s (± 20 %)
      ▲  ▲                                                          │  ▲
      │  └──── a 429's Retry-After is over (held, never tripped) ───┤  │ any failure but 429: twice as long
      │                                                       time  ▼  │
      └──────────── every probe of 1 → 2 → 4 succeeded ──────────── HALF_OPEN

A 429 counts in the ratio only. If it says when to come back, the endpoint is held OPEN until then and goes
back to where it was, CLOSED or HALF_OPEN, with its counts, since being asked for a pause is no fault; a true
trip in the meantime wins. As a probe's answer it proves nothing, and its slot is free again.
The ratio is judged when a call fails, over ten buckets of 3 s: between the last 27 and 30 s.

What is asked for is a Permit, which the caller settles once, when the answer's body is over. Permits given
before the breaker last opened tell nothing about what came after, and are ignored. Half-open permits are
leases: one that is never settled counts as neutral when its time is over, and its slot is free again.
"""

import math
from collections.abc import Callable
from enum import StrEnum

from moonpool.contracts.resilience import BreakerPolicy

BUCKETS = 10
"""Parts of the window; it slides by one of them."""
PROBING_RETRY_AFTER = 1.0
"""Seconds after which to ask again while probes are on their way."""


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(StrEnum):
    """What a call failed of."""

    CONNECT = "connect"
    RESET = "reset"
    FIRST_TOKEN = "first_token"  # noqa: S105 - not a secret
    STALL = "stall"
    TRUNCATION = "truncation"
    STATUS_5XX = "status_5xx"
    RATE_LIMITED = "rate_limited"


_CLOSED = State.CLOSED


def first_token_budget(policy: BreakerPolicy, prompt_tokens: int) -> float:
    """Seconds that the first token may take: reading a long prompt is work, not a failure."""
    return policy.first_token_base + policy.first_token_per_1k * prompt_tokens / 1000.0


class Permit:
    """Leave for one call. The first of `succeeded`, `failed` and `neutral` counts, later ones are ignored.

    Also what is given by `Breaker.forced`: then nothing counts.
    """

    # No __init__: a closed breaker makes one a request, and it would cost more than all the rest.
    __slots__ = ("_window",)
    _window: "_Window | None"

    def answered(self, now: float) -> None:
        """The first content has come. It proves a probe, whose slot is free for the next one from here;
        a failure later on still counts. Optional."""

    def succeeded(self, now: float) -> None:
        window = self._window
        if window is not None:
            self._window = None
            if now >= window.turn:
                window.rotate(now)
            window.calls += 1
            window.consecutive = 0

    def failed(self, now: float, verdict: Verdict, retry_after: float | None = None) -> None:
        """`retry_after` is what the endpoint itself asked for, in seconds."""
        window = self._window
        if window is not None:
            self._window = None
            window.breaker.record_failure(window, now, verdict, retry_after)

    def neutral(self, now: float) -> None:
        """The call says nothing about the endpoint: the client left, or it was the request's own fault."""
        self._window = None


class _Probe(Permit):
    """A permit of half-open, for a limited time."""

    __slots__ = ("_proved", "lease_end")

    def __init__(self, window: "_Window", lease_end: float) -> None:
        self._window = window
        self._proved = False
        self.lease_end = lease_end

    def answered(self, now: float) -> None:
        window = self._window
        if window is None or self._proved:
            return
        if now >= self.lease_end:
            self._window = None
            return
        self._proved = True
        window.breaker.record_probe(self, now)

    def succeeded(self, now: float) -> None:
        self.answered(now)
        super().succeeded(now)

    def failed(self, now: float, verdict: Verdict, retry_after: float | None = None) -> None:
        if not self._proved and now >= self.lease_end:
            self._window = None
        elif self._window is not None:
            self._window.breaker.give_back(self)
        super().failed(now, verdict, retry_after)

    def neutral(self, now: float) -> None:
        if self._window is not None:
            self._window.breaker.give_back(self)
            self._window = None


class _Window:
    """The calls since the breaker last opened, as far as they are recent. Its identity is that of the time
    between two openings: a permit that holds another one comes too late."""

    __slots__ = (
        "_at",
        "_calls",
        "_failures",
        "_old_calls",
        "_old_failures",
        "_width",
        "breaker",
        "calls",
        "consecutive",
        "failures",
        "turn",
    )

    def __init__(self, breaker: "Breaker") -> None:
        self.breaker = breaker
        self._width = breaker.policy.window / BUCKETS
        self.calls = 0
        """In the current bucket, as `failures`."""
        self.failures = 0
        self.consecutive = 0
        self.turn = -math.inf
        """When the current bucket is over."""
        self._at = 0
        self._clear()

    def rotate(self, now: float) -> None:
        """Go to the bucket of `now`. Called when `now >= turn`."""
        if now - self.turn >= self._width * (BUCKETS - 1):
            self.calls = self.failures = 0
            self._clear()
            self.turn = now + self._width
            return
        while now >= self.turn:
            self._calls[self._at] = self.calls
            self._failures[self._at] = self.failures
            self._at = (self._at + 1) % BUCKETS
            self._old_calls += self.calls - self._calls[self._at]
            self._old_failures += self.failures - self._failures[self._at]
            self._calls[self._at] = self._failures[self._at] = 0
            self.calls = self.failures = 0
            self.turn += self._width

    def fail(self, now: float, verdict: Verdict) -> bool:
        """Count a failure; whether it is one too many."""
        if now >= self.turn:
            self.rotate(now)
        self.calls += 1
        self.failures += 1
        if verdict is not Verdict.RATE_LIMITED:
            self.consecutive += 1
        policy = self.breaker.policy
        if self.consecutive >= policy.consecutive_failures:
            return True
        calls = self.calls + self._old_calls
        return calls >= policy.minimum_calls and self.failures + self._old_failures >= policy.ratio * calls

    def resize(self) -> None:
        """The policy has another length for it; what was counted stays, as of the parts it was counted in."""
        self._width = self.breaker.policy.window / BUCKETS

    def _clear(self) -> None:
        self._calls = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self._old_calls = 0
        self._old_failures = 0


class Breaker:
    """One endpoint's. Touched in the event loop only; `now` is the monotonic clock, in seconds.

    It changes by itself only when it is asked for a permit: `state` says OPEN until then, `admits` does not.
    """

    __slots__ = (
        "_closed_at",
        "_held",
        "_on_change",
        "_passed",
        "_period",
        "_probes",
        "_random",
        "_round",
        "_until",
        "_window",
        "cause",
        "policy",
        "state",
    )

    def __init__(
        self,
        policy: BreakerPolicy,
        random: Callable[[], float],
        on_change: Callable[[State, State], None] | None = None,
    ) -> None:
        self.policy = policy
        self.state = State.CLOSED
        self.cause: Verdict | None = None
        """What it last opened for; RATE_LIMITED when it was asked for a pause."""
        self._random = random
        self._on_change = on_change
        self._window = _Window(self)
        self._held: State | None = None
        """Where it goes back to after a pause that was asked for; None when it has tripped or is not OPEN."""
        self._until = 0.0
        self._period = policy.open_first
        self._closed_at = -math.inf
        self._round = 0
        self._passed = 0
        self._probes: list[_Probe] = []

    def update(self, policy: BreakerPolicy) -> None:
        """What is decided from now on is decided by `policy`. The state and the counts stay; an open period
        lasts as long as it was to last, and a probe has its lease."""
        before, self.policy = self.policy, policy
        self._window.resize()
        if policy.probes != before.probes:
            self._round = min(self._round, len(policy.probes) - 1)
            self._passed = 0  # the round is begun again, or it might never have been passed

    def admits(self, now: float) -> bool:
        """Whether `permit` would give one. Changes nothing."""
        if self.state is _CLOSED:
            return True
        if self.state is State.OPEN and now < self._until:
            return False
        if self._held is _CLOSED:
            return True
        flying = sum(probe.lease_end > now for probe in self._probes)
        return self._passed + flying < self.policy.probes[self._round]

    def permit(self, now: float) -> Permit | None:
        """Leave for one call, or None when the endpoint must be left alone."""
        if self.state is _CLOSED:
            permit = Permit()
            permit._window = self._window
            return permit
        return self._guarded(now)

    def forced(self) -> Permit:
        """Leave for a call that is made although the breaker is open (panic). It counts for nothing: an
        open breaker recovers by its probes only."""
        permit = Permit()
        permit._window = None
        return permit

    def retry_after(self, now: float) -> float:
        """Seconds until a permit may be had; 0: now."""
        if self.admits(now):
            return 0.0
        return self._until - now if self.state_at(now) is State.OPEN else PROBING_RETRY_AFTER

    def state_at(self, now: float) -> State:
        """The state that asking for a permit now would show, for those who only look."""
        if self.state is State.OPEN and now >= self._until:
            return self._held or State.HALF_OPEN
        return self.state

    def probes_in_flight(self, now: float) -> int:
        return sum(probe.lease_end > now for probe in self._probes)

    def detach(self) -> None:
        """Tell nobody of changes any more: the endpoint is gone, though calls to it may still come back."""
        self._on_change = None

    def _guarded(self, now: float) -> Permit | None:
        if self.state is State.OPEN:
            if now < self._until:
                return None
            before, self._held = self._held, None
            self._change(before or State.HALF_OPEN)
            if before is _CLOSED:
                return self.permit(now)
        self._probes = [probe for probe in self._probes if probe.lease_end > now]
        if self._passed + len(self._probes) >= self.policy.probes[self._round]:
            return None
        probe = _Probe(self._window, now + self.policy.probe_lease)
        self._probes.append(probe)
        return probe

    def record_failure(
        self, window: _Window, now: float, verdict: Verdict, retry_after: float | None
    ) -> None:
        """Called by permits only, as the two below."""
        if window is not self._window:
            return
        limited = verdict is Verdict.RATE_LIMITED
        if window.fail(now, verdict) or (self._probing and not limited):
            self._trip(now, verdict, retry_after)
        elif limited and retry_after and self.policy.hold:
            self._hold(now, retry_after)

    def record_probe(self, probe: _Probe, now: float) -> None:
        if probe not in self._probes:
            return
        self._probes.remove(probe)
        self._passed += 1
        if self._passed < self.policy.probes[self._round]:
            return
        self._passed = 0
        self._round += 1
        if self._round == len(self.policy.probes):
            self._probes = []
            self._round = 0
            self._closed_at = now
            if self._held is None:
                self._change(State.CLOSED)
            else:
                self._held = State.CLOSED  # proved, and the pause is kept all the same

    @property
    def _probing(self) -> bool:
        """Whether it has yet to prove that it is back, a pause in between included."""
        return State.HALF_OPEN in (self.state, self._held)

    def give_back(self, probe: _Probe) -> None:
        if probe in self._probes:
            self._probes.remove(probe)

    def _trip(self, now: float, verdict: Verdict, retry_after: float | None) -> None:
        policy = self.policy
        if not self._probing and now - self._closed_at >= policy.healthy_after:
            self._period = min(policy.open_first, policy.open_longest)
        else:
            self._period = min(self._period * 2.0, policy.open_longest)
        period = self._period * (1.0 - policy.jitter + 2.0 * policy.jitter * self._random())
        self._until = now + max(period, min(retry_after or 0.0, policy.open_longest))
        self._held = None
        self._window = _Window(self)
        self._probes = []
        self._round = self._passed = 0
        self.cause = verdict
        self._change(State.OPEN)

    def _hold(self, now: float, retry_after: float) -> None:
        # To the second: who waits in the retry filter waits exactly that long, and a little spread beyond.
        pause = min(retry_after, self.policy.open_longest)
        self._until = max(self._until, now + pause)
        self._held = self._held or self.state
        self.cause = Verdict.RATE_LIMITED
        self._change(State.OPEN)

    def _change(self, new: State) -> None:
        old, self.state = self.state, new
        if old is not new and self._on_change is not None:
            self._on_change(old, new)
