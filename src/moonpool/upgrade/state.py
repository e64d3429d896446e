"""What is kept of where an upgrade is, and the transitions that machine.py and people make. Pure."""

from enum import StrEnum

import msgspec

from moonpool.contracts.upgrades import ENDED, Phase


class Command(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


class Outcome(StrEnum):
    RUNNING = ""
    PROMOTED = "promoted"
    COMPARED = "compared"
    """Of shadow: the new release was never meant to stay."""
    ROLLED_BACK = "rolled_back"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept of where an upgrade is."""

    phase: Phase = Phase.PREFLIGHT
    stop: int = 0
    """Index into the course's stops, in canary."""
    since: float
    """When the phase, or the stop, began."""
    effective_since: float | None = None
    """Since when what the phase wants of the traffic is so; soaking counts from here."""
    unready_since: float | None = None
    paused_from: Phase | None = None
    reason: str = ""
    outcome: Outcome = Outcome.RUNNING
    staged: bool = False
    """Whether the new release was ever asked to run: else there is nothing to undo."""
    restarts: int = 0
    """Of the new release, when it was staged."""
    stratum: int = 0
    """Grows with every phase and stop: evidence is gathered anew in each, since the weights differ."""
    forced: bool = False
    """A person keeps the new release although it was on its way back: evidence does not overrule that."""

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def acting(self) -> Phase:
        """The phase whose wishes hold: a pause keeps those of the phase it interrupts."""
        return self.paused_from if self.phase is Phase.PAUSED and self.paused_from else self.phase


class Refused(Exception):
    """A command that makes no sense now. `hint` is the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def enter(state: State, phase: Phase, why: str, now: float, *, stop: int = 0) -> State:
    """The state at the beginning of `phase`."""
    return msgspec.structs.replace(
        state,
        phase=phase,
        stop=stop,
        since=now,
        effective_since=None,
        paused_from=None,
        reason=why,
        stratum=state.stratum + 1,
    )


def pause(state: State, why: str, now: float) -> State:
    return msgspec.structs.replace(
        state, phase=Phase.PAUSED, paused_from=state.acting, since=now, reason=why, effective_since=None
    )


def back(state: State, why: str, now: float) -> State:
    after = enter(state, Phase.ROLLING_BACK, why, now)
    return msgspec.structs.replace(after, outcome=Outcome.ROLLED_BACK, unready_since=None)


def done(state: State, outcome: Outcome, why: str, now: float) -> State:
    return msgspec.structs.replace(enter(state, Phase.DONE, why, now), outcome=outcome)
