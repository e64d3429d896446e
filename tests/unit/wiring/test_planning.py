import pytest

from moonpool.contracts.config import GatewayConfig, InfrastructureConfig, PlatformConfig, ServiceConfig
from moonpool.core.errors import StartupError
from moonpool.wiring.planning import make_plan
from moonpool.wiring.registry import REGISTRY


def test_the_defaults():
    plan = make_plan(PlatformConfig())
    assert (plan.modules, plan.host, plan.port, plan.config) == (REGISTRY, "127.0.0.1", 8080, "")


def test_the_document_and_what_overrules_it():
    config = PlatformConfig(
        gateway=GatewayConfig(host="0.0.0.0", port=9000, workers=2, drain_seconds=5.0, tls_certificate="c"),
        services={"chat": ServiceConfig(instances=3)},
    )
    plan = make_plan(config, path="/etc/m.yaml")
    assert (plan.host, plan.port, plan.drain_timeout, plan.tls) == ("0.0.0.0", 9000, 5.0, True)
    assert plan.replicas == {"chat": 3, "gateway": 2}
    assert plan.config == "/etc/m.yaml"
    overruled = make_plan(config, host="::1", port=0)
    assert (overruled.host, overruled.port) == ("::1", 0)


@pytest.mark.parametrize(
    ("gateway", "timeouts"),
    [
        (GatewayConfig(), (30.0, 900.0)),
        (GatewayConfig(drain_seconds=1.0, replaced_drain_seconds=60.0), (1.0, 60.0)),
        (GatewayConfig(drain_seconds=1200.0), (1200.0, 1200.0)),
    ],
)
def test_what_is_replaced_never_has_less(gateway: GatewayConfig, timeouts: tuple[float, float]):
    plan = make_plan(PlatformConfig(gateway=gateway))
    assert (plan.drain_timeout, plan.replaced_drain_timeout) == timeouts


@pytest.mark.parametrize(("cache", "alone"), [("", True), ("memory://", True), ("redis://h", False)])
def test_gateways_that_share_nothing_are_alone(cache: str, alone: bool):
    plan = make_plan(PlatformConfig(infrastructure=InfrastructureConfig(cache=cache)))
    assert ("gateway" in plan.alone) is alone


@pytest.mark.parametrize("cache", ["redis://", "redis://h/name", "memcached://h"])
def test_a_cache_that_nothing_can_open_is_found_before_anything_runs(cache: str):
    with pytest.raises(StartupError):
        make_plan(PlatformConfig(infrastructure=InfrastructureConfig(cache=cache)))
