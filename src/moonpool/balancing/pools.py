"""The endpoints of every service, kept in step with the topology.

An instance that stays keeps its Endpoint, and with it what is known of its load and latency.
"""

from collections.abc import Callable, Iterable

from moonpool.balancing.endpoint import Endpoint
from moonpool.contracts.catalogue import Target
from moonpool.contracts.usage import TokenPrice
from moonpool.http.address import Address
from moonpool.ports.discovery import Instance, Topology

SERVING = frozenset({"ready", "degraded"})


class Pools:
    """`[service]` is the list of its endpoints; the list object changes with the topology."""

    def __init__(self) -> None:
        self._pools: dict[str, list[Endpoint]] = {}
        self._targets: dict[str, Target] = {}
        self._prices: dict[str, dict[str, TokenPrice]] = {}
        self.version = 0
        """Grows with every update, for those who keep what they made of the endpoints."""
        self._gone: list[Callable[[Endpoint], None]] = []
        self._updated: list[Callable[[], None]] = []

    def on_gone(self, callback: Callable[[Endpoint], None]) -> None:
        """Called with every endpoint that is no longer part of the topology."""
        self._gone.append(callback)

    def on_update(self, callback: Callable[[], None]) -> None:
        """Called after every change."""
        self._updated.append(callback)

    def services(self) -> Iterable[str]:
        """Those that have endpoints."""
        return self._pools

    def endpoints(self, service: str) -> list[Endpoint]:
        """All of them: those that somebody else runs (`Endpoint.internal` is false) are for models only."""
        return self._pools.get(service, [])

    def target(self, endpoint: Endpoint) -> Target | None:
        """How to speak to an endpoint that somebody else runs; None for our own."""
        return self._targets.get(endpoint.instance)

    def price(self, instance: str, alias: str) -> TokenPrice | None:
        """What the release of an instance says of its tokens; None: nothing."""
        prices = self._prices.get(instance)
        return None if prices is None else prices.get(alias) or prices.get("")

    def update(self, topology: Topology) -> None:
        known = {endpoint.instance: endpoint for pool in self._pools.values() for endpoint in pool}
        pools: dict[str, list[Endpoint]] = {}
        for instance in topology.modules:
            if instance.state == "stopped" or not instance.endpoint:
                continue
            endpoint = known.pop(instance.instance, None)
            if endpoint is None:
                address = Address.parse(instance.endpoint)
                endpoint = Endpoint(
                    address,
                    instance=instance.instance,
                    release=instance.release,
                    internal=not instance.external,
                )
            endpoint.ready = instance.state in SERVING
            pools.setdefault(instance.name, []).append(endpoint)
        self._pools = pools
        self._targets = {one.instance: _target(one) for one in topology.modules if one.external}
        self._prices = {
            one.instance: {alias: TokenPrice(*price) for alias, price in one.prices.items()}
            for one in topology.modules
            if one.prices
        }
        self.version += 1
        for endpoint in known.values():
            for callback in self._gone:
                callback(endpoint)
        for update in self._updated:
            update()


def _target(instance: Instance) -> Target:
    return Target(
        id=instance.instance,
        url=instance.endpoint,
        model=instance.model,
        api_key_env=instance.api_key_env,
    )
