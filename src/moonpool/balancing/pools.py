"""The endpoints of every service, kept in step with the topology.

An instance that stays keeps its Endpoint, and with it what is known of its load and latency.
"""

from collections.abc import Callable

from moonpool.balancing.endpoint import Endpoint
from moonpool.http.address import Address
from moonpool.ports.discovery import Topology

SERVING = frozenset({"ready", "degraded"})


class Pools:
    """`[service]` is the list of its endpoints; the list object changes with the topology."""

    def __init__(self) -> None:
        self._pools: dict[str, list[Endpoint]] = {}
        self.version = 0
        """Grows with every update, for those who keep what they made of the endpoints."""
        self._gone: list[Callable[[Endpoint], None]] = []

    def on_gone(self, callback: Callable[[Endpoint], None]) -> None:
        """Called with every endpoint that is no longer part of the topology."""
        self._gone.append(callback)

    def endpoints(self, service: str) -> list[Endpoint]:
        return self._pools.get(service, [])

    def update(self, topology: Topology) -> None:
        known = {endpoint.instance: endpoint for pool in self._pools.values() for endpoint in pool}
        pools: dict[str, list[Endpoint]] = {}
        for instance in topology.modules:
            if instance.state == "stopped" or not instance.endpoint or instance.external:
                continue  # what somebody else runs is no place for a signed context
            endpoint = known.pop(instance.instance, None)
            if endpoint is None:
                address = Address.parse(instance.endpoint)
                endpoint = Endpoint(address, instance=instance.instance, release=instance.release)
            endpoint.ready = instance.state in SERVING
            pools.setdefault(instance.name, []).append(endpoint)
        self._pools = pools
        self.version += 1
        for endpoint in known.values():
            for callback in self._gone:
                callback(endpoint)
