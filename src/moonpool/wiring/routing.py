"""Keeps a version router in step with the routing documents and with what is ready."""

from moonpool.adapters.config.server import ServerConfig
from moonpool.balancing.pools import Pools
from moonpool.contracts.releases import MODULES
from moonpool.contracts.routing import Routing
from moonpool.upgrade.documents import ROUTING, document_name
from moonpool.upgrade.routing_filter import VersionRouter, count_ready


class RoutingFollower:
    """A component. Until the first document is there, whatever runs answers."""

    def __init__(self, router: VersionRouter, documents: ServerConfig, pools: Pools) -> None:
        self._router = router
        self._documents = documents
        self._pools = pools
        documents.subscribe(ROUTING, self._changed)
        pools.on_update(self._look)

    async def start(self) -> None:
        self._follow()
        self._look()

    async def stop(self) -> None:
        """Documents and topology are followed by others."""

    def _changed(self, _name: str, _old: Routing | None, _new: Routing) -> None:
        self._follow()

    def _follow(self) -> None:
        found = {module: self._documents.find(ROUTING, document_name(module)) for module in MODULES}
        self._router.follow({module: routing for module, routing in found.items() if routing is not None})

    def _look(self) -> None:
        self._router.see({module: count_ready(self._pools.endpoints(module)) for module in MODULES})
