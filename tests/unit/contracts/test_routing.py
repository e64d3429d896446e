"""The routing document as it is stored."""

import msgspec

from moonpool.contracts.routing import (
    Cohort,
    CookieRule,
    Epoch,
    HeaderUse,
    Mirror,
    Pins,
    Routing,
    Share,
    Unit,
    everything_to,
)

FULL_DOCUMENT = Routing(
    service="chat",
    default="v1",
    shares=(Share(release="v1", instances=3), Share(release="v2", weight=500)),
    salt="upg_1",
    unit=Unit.TENANT,
    killed=("v3",),
    header=HeaderUse.CALLERS,
    cohorts=(Cohort(name="staff", release="v2", tenants=("org",), header=True),),
    cookie=CookieRule(releases=("v2",)),
    pins=Pins(epochs=(Epoch(since=1.0, default="v1", shares=(Share(release="v1"),)),)),
    mirror=Mirror(release="v2", share=100),
    upgrade="upg_1",
)


def test_a_document_is_read_as_it_was_written() -> None:
    for document in (FULL_DOCUMENT, everything_to("chat", "v1")):
        assert msgspec.json.decode(msgspec.json.encode(document), type=Routing) == document


def test_the_least_that_must_be_said() -> None:
    document = msgspec.json.decode(
        b'{"service":"chat","default":"v1","shares":[{"release":"v1"}]}', type=Routing
    )

    assert (document.unit, document.header, document.killed) == (Unit.USER, HeaderUse.ADMINS, ())
