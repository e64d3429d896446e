import socket

import pytest

from moonpool.contracts.money import PriceConfig
from moonpool.contracts.releases import CommandSource, EndpointSource, Overrides, Release
from moonpool.wiring.foreign import listens_itself
from moonpool.wiring.layout import Layout
from moonpool.wiring.places import Places
from moonpool.wiring.registry import Module

CHAT = Module(name="chat", entry="x:y")
GATEWAY = Module(name="gateway", entry="x:y", public=True)


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    layout.create()
    return layout


@pytest.fixture
def places(layout):
    with socket.socket() as public:
        public.bind(("127.0.0.1", 0))
        made = Places(
            layout,
            ("chat", "gateway"),
            public=[public],
            url="http://127.0.0.1:1",
            drain_timeout=30.0,
            replaced_drain_timeout=900.0,
        )
        yield made
        made.close()


def release(label="v2", source=None, service="chat", **overrides):
    fields = {} if source is None else {"source": source}
    return Release(service=service, label=label, overrides=Overrides(**overrides), **fields)


def test_numbers_are_the_module_s_over_all_its_releases(places, layout):
    first, second = places.take(CHAT, release("v1")), places.take(CHAT, release("v2", drain_timeout=2.0))
    assert [(slot.number, slot.release, slot.drain_timeout) for slot in (first, second)] == [
        (0, "v1", 30.0),
        (1, "v2", 2.0),
    ]
    assert (first.replaced_drain_timeout, second.replaced_drain_timeout) == (900.0, 2.0)
    assert (first.log, second.log) == (layout.log("chat"), layout.log("chat@v2"))
    assert first.endpoint == first.probe.endpoint == f"unix:{layout.run}/chat-0.sock"


def test_a_place_that_is_given_back_is_closed_and_taken_again(places, layout):
    slot = places.take(CHAT, release())
    places.give_back(slot)
    assert slot.sockets[0].fileno() == -1
    assert not (layout.run / "chat-0.sock").exists()
    assert places.take(CHAT, release("v3")).number == 0


def test_gateways_share_the_public_sockets_and_have_one_of_their_own(places):
    one, two = places.take(GATEWAY, release("v1")), places.take(GATEWAY, release("v2"))
    assert one.endpoint == two.endpoint == "http://127.0.0.1:1"
    assert one.probe.endpoint != two.probe.endpoint
    assert one.sockets[1:] == two.sockets[1:]
    places.give_back(one)
    assert two.sockets[1].fileno() != -1


@pytest.mark.parametrize(
    ("argv", "listening", "scheme"),
    [(("x",), 1, "unix"), (("x", "--on={socket}"), 0, "unix"), (("x", "{port}"), 0, "http")],
)
def test_a_program_is_handed_a_socket_or_told_where(places, argv, listening, scheme):
    source = CommandSource(argv=argv, ready_path="/ok")
    slot = places.take(CHAT, release(source=source))
    assert len(slot.sockets) == listening
    assert listens_itself(source) is (listening == 0)
    assert slot.endpoint.startswith(f"{scheme}:")
    probe = slot.probe
    assert (probe.endpoint, probe.live, probe.ready, probe.ours) == (slot.endpoint, "/ok", "/ok", False)


def test_an_endpoint_takes_a_place_without_a_socket(places):
    slot = places.take(CHAT, release(source=EndpointSource(url="https://far/v1")))
    assert (slot.endpoint, slot.sockets, slot.prices) == ("https://far/v1", (), {})


def test_a_place_knows_what_its_release_says_of_its_price(places):
    source = EndpointSource(url="https://far/v1", price=PriceConfig(prompt=0.5, completion=1.0))
    assert places.take(CHAT, release(source=source)).prices == {"": (500_000, 500_000, 1_000_000)}
