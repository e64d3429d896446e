"""The routing document in the machine's words, and back."""

import pytest
from msgspec.structs import replace

from moonpool.contracts.routing import Cohort, CookieRule, Pins, Routing, Share
from moonpool.contracts.upgrades import UpgradePlan
from moonpool.upgrade.routing_rules import faults_of
from moonpool.upgrade.strategies import compile_course
from moonpool.upgrade.traffic import plain_document, read_route, write_route
from moonpool.upgrade.wishes import Route

COURSE = compile_course("chat", "v1", "v2", 4, UpgradePlan())
ROUTES = [
    Route(0),
    Route(500),
    Route(0, 1000),
    Route(0, killed=True),
    Route(10_000),
    Route(10_000, only="v2"),
    Route(0, only="v1"),
]


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_written_is_read(route: Route) -> None:
    document = write_route(None, COURSE, route, "up_1")
    assert read_route(document, COURSE) == route
    assert faults_of(document) == ()


def test_without_a_document_everything_goes_to_the_old() -> None:
    assert read_route(None, COURSE) == Route(0, only="v1")
    assert read_route(plain_document("chat", "v1"), COURSE) == Route(0, only="v1")


def test_what_operators_wrote_stays_as_far_as_it_can_hold() -> None:
    before = Routing(
        service="chat",
        default="v1",
        shares=(Share(release="v1"), Share(release="v2")),
        cohorts=(Cohort(name="testers", release="v2", users=("ada",)),),
        cookie=CookieRule(releases=("v1", "v2")),
        pins=Pins(conversations={"conv_1": "v1"}),
    )
    during = write_route(before, COURSE, Route(500), "up_1")
    assert (during.cohorts, during.cookie, during.pins) == (before.cohorts, before.cookie, before.pins)

    after = write_route(during, COURSE, Route(10_000, only="v2"), "up_1")

    assert after.cohorts == before.cohorts
    assert after.cookie == CookieRule(releases=("v2",))
    assert after.pins == Pins()
    assert faults_of(after) == ()


def test_the_salt_is_the_upgrades_and_stays_while_it_runs() -> None:
    first = write_route(plain_document("chat", "v1"), COURSE, Route(500), "up_1")
    second = write_route(replace(first, salt="up_1"), COURSE, Route(5000), "up_1")
    assert (first.salt, second.salt) == ("up_1", "up_1")
    assert write_route(second, COURSE, Route(0), "up_2").salt == "up_2"


def test_a_kill_switch_of_the_new_release_is_lifted_when_it_is_wanted_again() -> None:
    killed = write_route(None, COURSE, Route(0, killed=True), "up_1")
    assert killed.killed == ("v2",)
    assert write_route(killed, COURSE, Route(500), "up_2").killed == ()
