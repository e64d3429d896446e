"""The generic cell rate algorithm, as arithmetic (ITU-T I.371, annex A; the virtual scheduling form).

A bucket is one number, the theoretical arrival time (TAT): when it will be full again. A unit moves it on by
the rate's interval; it may run ahead of the clock by no more than the tolerance. A bucket whose TAT has
passed is full, and needs not be remembered. So at most burst + w / interval units pass in any w seconds.

Seconds of one clock throughout; `ahead` is how far a TAT is ahead of it, reservations counted as taken.
"""

import math

from moonpool.ports.limits import Rate


def ahead_of(tat: float, now: float, rate: Rate, reserved: float = 0.0) -> float:
    return max(tat - now, 0.0) + reserved * rate.interval


def wait_for(ahead: float, rate: Rate, units: int) -> float:
    """Seconds until `units` can be had; infinite for never.

    How soon reservations come back is unknown: they are waited for as if they were used. Who waits so long
    is let through even if sums of floats are a little off.
    """
    if units > rate.burst:
        return math.inf
    if ahead + units * rate.interval <= rate.tolerance:
        return 0.0
    return ahead + (units - rate.burst) * rate.interval


def remaining(ahead: float, rate: Rate) -> int:
    """Whole units that could be had now."""
    return max(int((rate.tolerance - ahead) / rate.interval), 0)
