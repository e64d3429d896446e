"""Endpoints that were given."""

from moonpool.adapters.discovery.static import StaticDiscovery
from moonpool.ports.discovery import Discovery


async def test_every_endpoint_is_a_ready_instance() -> None:
    discovery: Discovery = StaticDiscovery({"chat": ["unix:/a", "http://h:1"], "user": []}, release="v2")
    await discovery.start()
    discovery.subscribe(lambda _topology: None)
    modules = discovery.current.modules
    assert [(one.name, one.endpoint, one.state, one.release) for one in modules] == [
        ("chat", "unix:/a", "ready", "v2"),
        ("chat", "http://h:1", "ready", "v2"),
    ]
    assert len({one.instance for one in modules}) == 2
    assert discovery.current.version == 1
    await discovery.stop()
