"""What a routing document may say, and how it may change."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from moonpool.contracts.routing import (
    FULL,
    Cohort,
    CookieRule,
    Mirror,
    Pins,
    Routing,
    Share,
    Unit,
    everything_to,
)
from moonpool.core.errors import Unprocessable
from moonpool.upgrade.faults import refuse
from moonpool.upgrade.routing_rules import faults_of, faults_of_change, unknown_releases

GOOD = Routing(service="chat", default="v1", shares=(Share(release="v1"), Share(release="v2", weight=500)))


def test_good_documents() -> None:
    assert faults_of(GOOD) == ()
    assert faults_of(everything_to("gateway", "v1")) == ()
    assert faults_of(replace(GOOD, killed=("v2", "v9"))) == ()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"service": "chatt"}, "service"),
        ({"default": "v3"}, "default"),
        ({"shares": (Share(release="v1", weight=9_000), Share(release="v2", weight=2_000))}, "shares"),
        ({"shares": (Share(release="v1"), Share(release="v1"))}, "shares[0].release"),
        ({"killed": ("v1", "v2")}, "killed"),
        ({"killed": ("v1",), "shares": (Share(release="v1"), Share(release="v2"))}, "killed"),
        ({"cohorts": (Cohort(name="c", release="v3", users=("a",)),)}, "cohorts[0].release"),
        ({"cohorts": (Cohort(name="c", release="v2"),)}, "cohorts[0]"),
        ({"cookie": CookieRule(releases=("v2", "v3"))}, "cookie.releases[1]"),
        ({"pins": Pins(conversations={"conv": "v3"})}, "pins.conversations.conv"),
    ],
)
def test_each_fault_is_told_with_its_place(changes: dict[str, Any], place: str) -> None:
    faults = faults_of(replace(GOOD, **changes))

    assert [fault.place for fault in faults] == [place]
    with pytest.raises(Unprocessable) as caught:
        refuse("the routing", faults)
    assert caught.value.param == place
    assert faults[0].message in caught.value.message


def test_releases_that_nobody_added() -> None:
    mirrored = replace(GOOD, mirror=Mirror(release="v9"))

    faults = unknown_releases(mirrored, None, ("v1", "v3"))
    assert [fault.place for fault in faults] == ["shares[1].release", "mirror.release"]
    assert faults[0].message == "there is no release chat@v2"
    assert faults[0].hint == "There are v1, v3; `moonpool release add chat` makes another one."
    assert unknown_releases(mirrored, None, ("v1", "v2", "v9")) == ()
    assert unknown_releases(mirrored, None, None) == ()


def test_what_the_routing_named_before_does_not_stand_in_the_way() -> None:
    shares = (*GOOD.shares, Share(release="v9"))
    assert unknown_releases(replace(GOOD, killed=("v2",)), GOOD, ("v1",)) == ()
    assert [f.place for f in unknown_releases(replace(GOOD, shares=shares), GOOD, ("v1",))] == [
        "shares[2].release"
    ]


def test_an_upgrade_that_begins_has_asked_the_supervisor() -> None:
    begun = replace(GOOD, upgrade="up_1")
    assert unknown_releases(begun, None, ("v1",)) == ()
    assert unknown_releases(begun, everything_to("chat", "v1"), ("v1",)) == ()
    more = replace(begun, shares=(*GOOD.shares, Share(release="v9")))
    assert [f.place for f in unknown_releases(more, begun, ("v1",))] == ["shares[2].release"]


@pytest.mark.parametrize(
    "document",
    [
        b'{"service":"chat","default":"v1","shares":[{"release":"v1","weight":10001}]}',
        b'{"service":"chat","default":"v1","shares":[]}',
        b'{"service":"chat","default":"V 1","shares":[{"release":"v1"}]}',
        b'{"service":"chat","default":"v1","shares":[{"release":"v1"}],"shades":1}',
        b'{"service":"chat","default":"v1","shares":[{"release":"v1"}],"unit":"moon"}',
    ],
)
def test_bounds_are_those_of_the_types(document: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=Routing)


def test_what_may_not_change_while_traffic_is_shared() -> None:
    plain = replace(GOOD, shares=(Share(release="v1"), Share(release="v2")))
    other = replace(GOOD, salt="other", unit=Unit.TENANT)

    assert [fault.place for fault in faults_of_change(GOOD, other)] == ["salt", "unit"]
    assert faults_of_change(plain, other) == ()
    assert faults_of_change(GOOD, replace(plain, salt="other")) == ()
    raised = replace(GOOD, shares=(Share(release="v1"), Share(release="v2", weight=FULL)))
    assert faults_of_change(GOOD, replace(raised, default="v2")) == ()
    assert [f.place for f in faults_of_change(GOOD, replace(plain, service="user"))] == ["service"]


def test_nothing_is_refused_without_a_fault() -> None:
    refuse("the routing", ())
