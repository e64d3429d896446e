"""Discovery without anything to discover: endpoints that were given."""

from collections.abc import Callable, Mapping, Sequence

from moonpool.ports.discovery import Instance, Topology

RELEASE = "external"


class StaticDiscovery:
    """Implements ports.discovery.Discovery from {service: [endpoint, …]}; all count as ready."""

    def __init__(self, endpoints: Mapping[str, Sequence[str]], *, release: str = RELEASE) -> None:
        self._current = Topology(
            version=1,
            modules=tuple(
                Instance(
                    name=name,
                    release=release,
                    instance=f"{name}-{number}",
                    pid=0,
                    state="ready",
                    endpoint=endpoint,
                )
                for name, given in endpoints.items()
                for number, endpoint in enumerate(given)
            ),
        )

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    @property
    def current(self) -> Topology:
        return self._current

    def subscribe(self, callback: Callable[[Topology], None]) -> None:
        """There will be no other topology than `current`."""
