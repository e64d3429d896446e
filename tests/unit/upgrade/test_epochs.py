"""A routing document tells its own past, as long as there is one to tell."""

from msgspec.structs import replace

from moonpool.contracts.routing import FULL, Pins, Routing, Share, everything_to
from moonpool.upgrade.epochs import MOST, remembering


def step(weight: int, default: str = "v1") -> Routing:
    shares = (Share(release="v1"), Share(release="v2", weight=weight))
    return Routing(service="chat", default=default, shares=shares, pins=Pins())


def test_each_change_of_weights_is_remembered_with_what_was_before() -> None:
    document = everything_to("chat", "v1")
    for now, weight in ((10.0, 100), (20.0, 100), (30.0, 500)):
        document = remembering(document, step(weight), now)

    assert document.pins is not None
    assert [(e.since, e.default, e.shares[-1].weight) for e in document.pins.epochs] == [
        (0.0, "v1", FULL),
        (10.0, "v1", 100),
        (30.0, "v1", 500),
    ]


def test_a_new_default_is_a_change() -> None:
    document = remembering(step(FULL), remembering(everything_to("chat", "v1"), step(FULL), 1.0), 2.0)
    promoted = remembering(document, step(FULL, "v2"), 3.0)

    assert promoted.pins is not None
    assert promoted.pins.epochs[-1].default == "v2"


def test_without_pins_nothing_is_remembered() -> None:
    plain = replace(step(500), pins=None)

    assert remembering(everything_to("chat", "v1"), plain, 1.0) is plain


def test_a_document_at_rest_forgets_but_keeps_what_was_pinned_by_hand() -> None:
    by_hand = Pins(conversations={"conv": "v2"})
    rest = replace(everything_to("chat", "v2"), pins=by_hand)

    assert remembering(remembering(None, step(500), 1.0), rest, 2.0).pins == by_hand


def test_the_past_is_bounded() -> None:
    document = None
    for now in range(200):
        document = remembering(document, step(now), float(now))

    assert document is not None
    assert document.pins is not None
    assert len(document.pins.epochs) == MOST
    assert document.pins.epochs[-1].since == 199.0
