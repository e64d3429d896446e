"""The catalogue follows the configuration while the service runs, as far as the weights in memory go (see
contracts/documents/local_models.py)."""

import asyncio

from structlog.typing import FilteringBoundLogger

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.local_models import loadable, local_files
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError
from moonpool.ports.config import ConfigSource
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
            await self._service.import_configured(loadable(config, local_files(self._started)))
        except StartupError as error:  # models that were added by API may stand in the way
            self._log.error("configured models not taken", where=error.where, reason=error.message)
