"""The catalogue follows the configuration while the service runs.

Weights are loaded by the inference service when it starts. A target with a file that was not loaded then
waits for the next start: until then the catalogue does without it, and without models that have nothing else.
"""

import asyncio
from collections.abc import Mapping

import msgspec
from structlog.typing import FilteringBoundLogger

from moonpool.contracts.config import ModelConfig, PlatformConfig
from moonpool.contracts.documents.platform import PLATFORM, local_files
from moonpool.core.errors import StartupError
from moonpool.ports.config import ConfigSource
from moonpool.services.model.resolve import PACKAGED
from moonpool.services.model.service import ModelService


class Configured:
    """`started` is the configuration that the platform was started with."""

    def __init__(self, started: PlatformConfig, service: ModelService, log: FilteringBoundLogger) -> None:
        self._service = service
        self._log = log
        self._started = started
        self._wanted = started
        self._news = asyncio.Event()

    def follow(self, documents: ConfigSource[PlatformConfig]) -> None:
        documents.subscribe(PLATFORM, self._changed)

    def _changed(self, _name: str, _old: PlatformConfig | None, new: PlatformConfig) -> None:
        self._wanted = new
        self._news.set()

    async def run(self) -> None:
        """For ever; after an error the newest configuration is tried again."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._take(self._wanted)
            except BaseException:
                self._news.set()
                raise

    async def _take(self, config: PlatformConfig) -> None:
        self._service.allow_private(config.gateway.allow_private_targets)
        try:
            await self._service.import_configured(loadable(config.models, local_files(self._started)))
        except StartupError as error:  # models that were added by API may stand in the way
            self._log.error("configured models not taken", where=error.where, reason=error.message)


def loadable(models: Mapping[str, ModelConfig], loaded: frozenset[str]) -> dict[str, ModelConfig]:
    """The models as they can be served now: `loaded` are the files of weights that are in memory."""
    if not models:
        return dict(PACKAGED) if loaded >= local_files(PlatformConfig()) else {}
    kept: dict[str, ModelConfig] = {}
    for alias, model in models.items():
        targets = tuple(target for target in model.targets if not target.local or target.local in loaded)
        if targets and any(target.weight for target in targets):
            kept[alias] = msgspec.structs.replace(model, targets=targets)
    return {
        alias: msgspec.structs.replace(model, fallbacks=tuple(n for n in model.fallbacks if n in kept))
        for alias, model in kept.items()
    }
