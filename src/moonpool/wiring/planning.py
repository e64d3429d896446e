"""From the configuration document to what the supervisor runs."""

from moonpool.adapters.redis.address import parse_address
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.platform import is_shared
from moonpool.wiring.registry import GATEWAY, REGISTRY
from moonpool.wiring.supervisor import Plan


def make_plan(
    config: PlatformConfig, *, path: str = "", host: str | None = None, port: int | None = None
) -> Plan:
    """`host` and `port` overrule the document's. Raises StartupError for a cache that nothing can open."""
    gateway = config.gateway
    replicas = {name: service.instances for name, service in config.services.items()}
    shared = is_shared(config.infrastructure.cache)
    if shared:
        parse_address(config.infrastructure.cache)  # what is no URL is found before anything runs
    return Plan(
        modules=REGISTRY,
        host=gateway.host if host is None else host,
        port=gateway.port if port is None else port,
        config=path,
        replicas={**replicas, GATEWAY: gateway.workers},
        alone=frozenset(() if shared else {GATEWAY}),
        drain_timeout=gateway.drain_seconds,
        replaced_drain_timeout=max(gateway.replaced_drain_seconds, gateway.drain_seconds),
        log_level=config.telemetry.log_level,
        tls=bool(gateway.tls_certificate),
    )
