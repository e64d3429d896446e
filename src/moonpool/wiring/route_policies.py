"""The manifests as they hold in a gateway: what services declare, what the configuration wants otherwise.

manifest ──► `resilience.timeouts` (of routes to models) ──► `routes` (of single routes)
"""

from collections.abc import Callable, Mapping, Sequence

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.manifest import Manifest
from moonpool.contracts.route_policy import with_policies
from moonpool.wiring.inference import patient
from moonpool.wiring.release_manifests import Key


def in_force(manifest: Manifest, config: PlatformConfig) -> Manifest:
    return with_policies(patient(manifest, config.resilience.timeouts), config.routes)


class RoutePolicies:
    """`changed` is called when what is to be done with requests is another than before, so that their chains
    have to be built anew; requests under way end in the chain that they began in."""

    def __init__(
        self, declared: Sequence[Manifest], config: PlatformConfig, changed: Callable[[], None]
    ) -> None:
        self._declared = declared
        self._config = config
        self._changed = changed
        self._releases: Mapping[Key, Manifest] = {}

    @property
    def manifests(self) -> list[Manifest]:
        """Those that this package declares."""
        return [in_force(manifest, self._config) for manifest in self._declared]

    @property
    def releases(self) -> dict[Key, Manifest]:
        """Those of releases that declare something else."""
        return {key: in_force(manifest, self._config) for key, manifest in self._releases.items()}

    def take_releases(self, found: Mapping[Key, Manifest]) -> None:
        self._releases = dict(found)

    def follow(self, new: PlatformConfig) -> None:
        old, self._config = self._config, new
        if _of_routes(old) != _of_routes(new):
            self._changed()


def _of_routes(config: PlatformConfig) -> tuple[object, ...]:
    """What chains are made by."""
    return config.routes, config.resilience.timeouts, config.resilience.hedge.enabled
