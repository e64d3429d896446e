"""The tiers of the services: the release that was chosen, then the others that run beside it."""

from collections.abc import Iterable, Sequence

from moonpool.balancing.endpoint import Endpoint
from moonpool.balancing.pools import Pools
from moonpool.balancing.tiers import Candidate, Tier


class Services:
    """Made when the topology changes; a request costs a look-up."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._version = -1
        self._tiers: dict[tuple[str, str], Sequence[Tier]] = {}

    def tiers(self, service: str, release: str = "") -> Sequence[Tier]:
        """`release` "": whichever, all alike. Empty when nothing of the service runs. Not to be changed."""
        if self._version != self._pools.version:
            self._version = self._pools.version
            self._tiers = {}
        tiers = self._tiers.get((service, release))
        if tiers is None:
            # What somebody else runs is no place for a signed context.
            endpoints = [endpoint for endpoint in self._pools.endpoints(service) if endpoint.internal]
            tiers = self._tiers[service, release] = [
                Tier(name, [Candidate(endpoint) for endpoint in group])
                for name, group in by_release(endpoints, service, release)
            ]
        return tiers


def by_release(
    endpoints: Sequence[Endpoint], service: str, release: str
) -> Iterable[tuple[str, Sequence[Endpoint]]]:
    """`endpoints` in the order in which they should be asked: of `release` first, then of each other one
    that has a ready instance."""
    if not release:
        if endpoints:
            yield service, endpoints
        return
    labels = dict.fromkeys(endpoint.release for endpoint in endpoints)
    for label in sorted(labels, key=lambda label: label != release):
        group = [endpoint for endpoint in endpoints if endpoint.release == label]
        if label == release or any(endpoint.ready for endpoint in group):
            yield f"{service}@{label}", group
