"""Between what the machine wants of the traffic and the routing document that gateways follow. Pure.

What operators have put into the document (cohorts, cookie, header, pins) stays as it is; the manager
writes shares, default, mirror, salt, unit, the new release's kill switch, and whose the document is.
"""

from msgspec.structs import replace

from moonpool.contracts.routing import FULL, CookieRule, Mirror, Pins, Routing, Share
from moonpool.upgrade.strategies import Course
from moonpool.upgrade.wishes import Route


def plain_document(service: str, release: str) -> Routing:
    """What holds where there is no document."""
    return Routing(service=service, default=release, shares=(Share(release=release, weight=FULL),))


def read_route(routing: Routing | None, course: Course) -> Route:
    """The document in the machine's words."""
    if routing is None:
        return Route(0, only=course.old)
    listed = {share.release: share.weight for share in routing.shares}
    left = FULL - sum(listed.values())
    listed[routing.default] = listed.get(routing.default, 0) + left
    alone = next(iter(listed)) if len(listed) == 1 else ""
    mirror = routing.mirror.share if routing.mirror and routing.mirror.release == course.new else 0
    return Route(listed.get(course.new, 0), mirror, alone, killed=course.new in routing.killed)


def write_route(routing: Routing | None, course: Course, route: Route, upgrade: str) -> Routing:
    """The document that says `route`."""
    before = routing or plain_document(course.service, course.old)
    new = Share(release=course.new, weight=route.weight, instances=course.replicas)
    old = Share(release=course.old, weight=FULL - route.weight, instances=course.full)
    killed = tuple(label for label in before.killed if label != course.new)
    shares = {course.new: (new,), course.old: (old,)}.get(route.only, (old, new))
    labels = {share.release for share in shares}
    return replace(
        before,
        default=course.new if route.only == course.new or route.weight == FULL else course.old,
        shares=shares,
        salt=upgrade if before.upgrade != upgrade else before.salt,
        unit=course.unit,
        killed=(*(label for label in killed if label in labels), course.new)
        if route.killed
        else tuple(label for label in killed if label in labels),
        cohorts=tuple(one for one in before.cohorts if one.release in labels),
        cookie=_cookie(before, labels),
        pins=_pins(before, labels, course.pin),
        mirror=Mirror(release=course.new, share=route.mirror) if route.mirror else None,
        upgrade=upgrade,
    )


def _cookie(before: Routing, labels: set[str]) -> CookieRule | None:
    if before.cookie is None:
        return None
    left = tuple(label for label in before.cookie.releases if label in labels)
    return replace(before.cookie, releases=left) if left else None


def _pins(before: Routing, labels: set[str], wanted: bool) -> Pins | None:
    if before.pins is None:
        return Pins() if wanted else None
    pinned = {name: label for name, label in before.pins.conversations.items() if label in labels}
    return replace(before.pins, conversations=pinned)
