"""What a lease of a shared store holds, as its gateway knows it; how the store is asked and told of it."""

import math
from collections.abc import Sequence
from pathlib import Path

from moonpool.adapters.limits.gcra import remaining, wait_for
from moonpool.adapters.limits.memory import SLOT_WAIT
from moonpool.adapters.redis.script import Script
from moonpool.adapters.redis.wire import Reply, Word
from moonpool.ports.limits import Rate, Slot, Verdict

PREFIX = "mp:limits:"
FOLDER = Path(__file__).parent
TAKE, TELL, RENEW, BEAT = (Script(FOLDER / f"{name}.lua") for name in ("take", "tell", "renew", "beat"))
GRANTED, NO_PLACE = 0, 1
"""What take.lua's answer begins with; anything else: a rate refuses."""


class Held(Verdict, gc=False):
    """`told` is what the store was told of `used`; `unsure`: its answer never came, it may know or not.

    `renew_at` is when the store must hear of it again."""

    slots: Sequence[Slot]
    reserves: Sequence[Rate]
    amount: int
    renew_at: float
    used: int = 0
    told: int = 0
    unsure: bool = False
    over: bool = False
    failures: int = 0

    def keys(self) -> list[Word]:
        return _keys(self.slots, self.reserves)

    def told_words(self, now: str, seconds: float) -> tuple[Word, ...]:
        """Tells what was used, and whether it is over."""
        arguments: list[Word] = [self.lease, now, seconds, len(self.slots), self.used, self.told]
        arguments += (int(self.unsure), int(self.over))
        arguments += [repr(rate.interval) for rate in self.reserves]
        return TELL.words(self.keys(), arguments)

    def renewing_words(self, now: str, seconds: float) -> tuple[Word, ...]:
        left = max(self.amount - self.used, 0)
        return RENEW.words(self.keys(), (self.lease, now, seconds, len(self.slots), left, self.used))


def take_words(
    lease: str,
    now: str,
    seconds: float,
    units: Sequence[Rate],
    slots: Sequence[Slot],
    reserves: Sequence[Rate],
    amount: int,
) -> tuple[Word, ...]:
    keys = _keys(slots, reserves)
    keys += [_key(rate) for rate in units]
    arguments: list[Word] = [lease, now, seconds, len(slots), len(reserves), amount]
    arguments += [slot.places for slot in slots]
    for rate in (*reserves, *units):
        arguments += (repr(rate.interval), repr(rate.tolerance))
    return TAKE.words(keys, arguments)


def read_verdict(
    reply: Reply,
    lease: str,
    units: Sequence[Rate],
    slots: Sequence[Slot],
    reserves: Sequence[Rate],
    amount: int,
    renew_at: float,
) -> Verdict:
    """What take.lua's answer says; a `Held` when it was granted."""
    assert isinstance(reply, Sequence)
    said, index = reply[0], reply[1]
    assert isinstance(index, int)
    if said == NO_PLACE:
        return Verdict(lease, slots[index - 1], SLOT_WAIT, None, 0, 0.0)
    ahead = float(reply[2])  # type: ignore[arg-type]  # bytes, as the script says
    rate = None
    if index:
        rate = reserves[index - 1] if index <= len(reserves) else units[index - 1 - len(reserves)]
    if said == GRANTED:
        left = int((rate.tolerance - ahead) / rate.interval) if rate is not None else 0
        return Held(lease, None, 0.0, rate, left, ahead, slots, reserves, amount, renew_at)
    assert rate is not None
    wait = wait_for(ahead, rate, amount if index <= len(reserves) else 1)
    return Verdict(lease, rate, wait, rate, remaining(ahead, rate), ahead if wait == math.inf else wait)


def _keys(slots: Sequence[Slot], reserves: Sequence[Rate]) -> list[Word]:
    keys: list[Word] = [_key(slot) for slot in slots]
    for rate in reserves:
        bucket = _key(rate)
        keys += (bucket, bucket + b"|held")
    return keys


def _key(limit: Rate | Slot) -> bytes:
    """Names may come from a client's JSON, and be no proper Unicode."""
    return (PREFIX + limit.key).encode("utf-8", "surrogatepass")
