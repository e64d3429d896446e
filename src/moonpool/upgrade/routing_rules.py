"""What a routing document may say, and how it may change. Pure; types and bounds were checked when it was
decoded."""

from collections import Counter
from collections.abc import Collection

from moonpool.contracts.releases import MODULES
from moonpool.contracts.routing import FULL, Routing
from moonpool.upgrade.capacity import percent, wanted_weights
from moonpool.upgrade.faults import Fault


def faults_of(routing: Routing) -> tuple[Fault, ...]:
    """What is wrong with the document in itself."""
    found: list[Fault] = []
    if routing.service not in MODULES:
        found.append(
            Fault("service", f"there is no module {routing.service!r}", f"Known are {', '.join(MODULES)}.")
        )
    labels = [share.release for share in routing.shares]
    for label, count in Counter(labels).items():
        if count > 1:
            found.append(Fault(f"shares[{labels.index(label)}].release", f"{label} is there {count} times"))
    total = sum(share.weight for share in routing.shares)
    if total > FULL:
        hint = "What is left over of 10,000 goes to the default: give the others' weights only."
        found.append(Fault("shares", f"the weights add up to {percent(total)}", hint))
    if routing.default not in labels:
        found.append(Fault("default", f"{routing.default} is not among the shares"))
    if all(label in routing.killed for label in labels):
        found.append(Fault("killed", "every release is killed: nobody would answer", "Leave one of them."))
    elif routing.default in routing.killed and not any(
        share.weight for share in routing.shares if share.release not in routing.killed
    ):
        hint = "Make another release the default, or give it weight."
        found.append(Fault("killed", "the only release with weight is killed", hint))
    found += _unlisted(routing, set(labels))
    return tuple(found)


def _unlisted(routing: Routing, labels: set[str]) -> list[Fault]:
    """Rules that name what the shares do not list could never choose it."""
    hint = "List the release with weight 0 to reach it by rules only."
    named = [(f"cohorts[{place}].release", cohort.release) for place, cohort in enumerate(routing.cohorts)]
    if routing.cookie is not None:
        named += [(f"cookie.releases[{place}]", label) for place, label in enumerate(routing.cookie.releases)]
    if routing.pins is not None:
        pinned = routing.pins.conversations
        named += [(f"pins.conversations.{conversation}", label) for conversation, label in pinned.items()]
    found = [
        Fault(place, f"{label} is not among the shares", hint)
        for place, label in named
        if label not in labels
    ]
    found += [
        Fault(f"cohorts[{place}]", f"the cohort {cohort.name} has neither tenants nor users")
        for place, cohort in enumerate(routing.cohorts)
        if not cohort.tenants and not cohort.users
    ]
    return found


def unknown_releases(new: Routing, old: Routing | None, known: Collection[str] | None) -> tuple[Fault, ...]:
    """What the document names that is not among `known`, the labels of the service's releases (None: nobody
    can tell). What it named before may stay: it must not stand in the way of what takes it out.

    The upgrade manager, which begins with another `upgrade`, has asked the supervisor what there is: also
    what has run since before there were documents of releases.
    """
    begins = new.upgrade and (old is None or old.upgrade != new.upgrade)
    if known is None or begins:
        return ()
    fine = {*known, *(label for _, label in _named(old))} if old is not None else set(known)
    hint = f"There are {', '.join(known)}; `moonpool release add {new.service}` makes another one."
    return tuple(
        Fault(place, f"there is no release {new.service}@{label}", hint)
        for place, label in _named(new)
        if label not in fine
    )


def _named(routing: Routing) -> list[tuple[str, str]]:
    """Releases by their places; all other rules name some of these."""
    named = [(f"shares[{place}].release", share.release) for place, share in enumerate(routing.shares)]
    if routing.mirror is not None:
        named.append(("mirror.release", routing.mirror.release))
    return named


def faults_of_change(old: Routing, new: Routing) -> tuple[Fault, ...]:
    """What would move callers that should stay: another salt, unit or default while traffic is shared."""
    found: list[Fault] = []
    if old.service != new.service:
        found.append(Fault("service", f"it is the routing of {old.service}"))
    if _split(old) and _split(new):
        hint = "Let one release have everything first."
        for name in ("salt", "unit", "default"):
            if getattr(old, name) != getattr(new, name):
                found.append(Fault(name, "it cannot change while releases share the traffic", hint))
    return tuple(found)


def _split(routing: Routing) -> bool:
    return sum(weight > 0 for weight in wanted_weights(routing).values()) > 1
