"""What a process that answers by release tells the upgrade manager, while an upgrade runs."""

from moonpool.contracts.releases import MODULES
from moonpool.middleware.release_stats import ReleaseStats
from moonpool.upgrade.documents import ROUTING, document_name
from moonpool.wiring.infrastructure import Infrastructure
from moonpool.wiring.settings import ModuleSettings

_NAMES = {module: document_name(module) for module in MODULES}


def open_release_stats(settings: ModuleSettings, infrastructure: Infrastructure) -> ReleaseStats:
    """A component; `started` is the version router's, `ended` the tracing filter's to call. Its `capped` is
    to be set to the version router's `take_capped`, which is made with it."""
    source = infrastructure.documents

    def followed() -> dict[str, int]:
        """The versions of all routing documents, as soon as one belongs to an upgrade."""
        there = {module: source.find(ROUTING, name) for module, name in _NAMES.items()}
        if not any(routing is not None and routing.upgrade for routing in there.values()):
            return {}
        stored = {module: source.stored(name) for module, name in _NAMES.items()}
        return {module: one.version for module, one in stored.items() if one is not None}

    return ReleaseStats(
        settings.instance, infrastructure.events, infrastructure.clock, infrastructure.log, followed
    )
