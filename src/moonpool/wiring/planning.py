"""From the configuration document to what the supervisor runs."""

from moonpool.contracts.config import PlatformConfig
from moonpool.wiring.registry import GATEWAY, REGISTRY
from moonpool.wiring.supervisor import Plan


def make_plan(
    config: PlatformConfig, *, path: str = "", host: str | None = None, port: int | None = None
) -> Plan:
    """`host` and `port` overrule the document's."""
    gateway = config.gateway
    replicas = {name: service.instances for name, service in config.services.items()}
    in_memory = (config.infrastructure.cache or "memory:").startswith("memory:")
    return Plan(
        modules=REGISTRY,
        host=gateway.host if host is None else host,
        port=gateway.port if port is None else port,
        config=path,
        replicas={**replicas, GATEWAY: gateway.workers},
        alone=frozenset({GATEWAY} if in_memory else ()),
        drain_timeout=gateway.drain_seconds,
        log_level=config.telemetry.log_level,
        tls=bool(gateway.tls_certificate),
    )
