"""Weights that hold: never more for a release than what of it is ready can serve. Pure.

The manager raises a weight only when instances are ready for it; this is what every gateway does about
the instances it sees at the moment: what one release cannot take the others get, the default first. The
default itself is not capped as long as one of its instances is ready: that a proven release is short of an
instance for a moment must not send its users to one that is on trial. For a lasting lack the manager moves
the weights (gates.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from moonpool.contracts.routing import FULL, Routing, Share


@dataclass(frozen=True)
class Effective:
    """`weights` add up to 10,000, in the order of the document. `notes` say, a sentence each, where and
    why they are not those of the document."""

    weights: Mapping[str, int]
    notes: tuple[str, ...] = ()


def capacity_of(share: Share, ready: int) -> int:
    """Basis points of the traffic that so many ready instances can serve."""
    return min(FULL, FULL * ready // share.instances)


def wanted_weights(routing: Routing) -> dict[str, int]:
    """As the document says, the rest given to the default."""
    weights = {share.release: share.weight for share in routing.shares}
    weights[routing.default] = weights.get(routing.default, 0) + FULL - sum(weights.values())
    return weights


def effective_weights(routing: Routing, ready: Mapping[str, int] | None = None) -> Effective:
    """`ready` counts ready instances by label; None when nobody knows: then all are taken to be there.

    A release that is killed has none. When nothing at all is ready the document's weights hold: some
    answer is tried, and the caller's failure says why.
    """
    wanted = wanted_weights(routing)
    killed = frozenset(routing.killed)
    cap: dict[str, int] = {}
    for share in routing.shares:
        count = share.instances if ready is None else ready.get(share.release, 0)
        full = FULL if count and share.release == routing.default else capacity_of(share, count)
        cap[share.release] = 0 if share.release in killed else full
    weights = {label: min(weight, cap[label]) for label, weight in wanted.items()}
    notes = [_note(label, wanted[label], weights[label], label in killed, cap[label]) for label in weights]
    surplus = FULL - sum(weights.values())
    # Whoever was to have no traffic gets none (it may be there to be looked at); but the default takes all.
    heirs = [routing.default, *(label for label in wanted if label != routing.default and wanted[label])]
    for label in heirs:
        taken = min(cap[label] - weights[label], surplus)
        weights[label] += taken
        surplus -= taken
    if surplus:
        notes.append("what is ready is not enough for all of the traffic")
        weights = _overcommitted(wanted, cap, heirs, killed)
    return Effective(weights, tuple(note for note in notes if note))


def _overcommitted(
    wanted: Mapping[str, int], cap: Mapping[str, int], heirs: list[str], killed: frozenset[str]
) -> dict[str, int]:
    """More than is good for those that are ready, each by what it can serve; there is nobody else."""
    basis = {label: cap[label] for label in heirs if cap[label]}
    if not basis:
        basis = {label: wanted[label] for label in heirs if label not in killed and wanted[label]}
    if not basis:
        basis = {heirs[0]: 1}
    total = sum(basis.values())
    weights = {label: FULL * basis.get(label, 0) // total for label in wanted}
    weights[next(iter(basis))] += FULL - sum(weights.values())
    return weights


def _note(label: str, wanted: int, got: int, killed: bool, cap: int) -> str:
    if got == wanted:
        return ""
    if killed:
        return f"{label} is killed: its {percent(wanted)} goes to others"
    if cap == 0:
        return f"{label} has no ready instance: its {percent(wanted)} goes to others"
    return f"{label} can serve {percent(cap)} with what is ready, not {percent(wanted)}"


def percent(weight: int) -> str:
    """Basis points for people: `12.5 %`."""
    return f"{weight / 100:g} %"
