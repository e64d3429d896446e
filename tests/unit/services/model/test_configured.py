"""The catalogue follows the configuration, as far as the weights in memory go."""

import asyncio

import structlog

from moonpool.contracts.config import GatewayConfig, ModelConfig, PlatformConfig, TargetConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError, Unavailable
from moonpool.services.model.configured import Configured

REMOTE = TargetConfig(url="http://127.0.0.1:9/v1")


def model(*targets: TargetConfig) -> ModelConfig:
    return ModelConfig(targets=targets)


class Documents:
    def subscribe(self, kind, callback) -> None:
        assert kind is PLATFORM
        self.change = callback


class Service:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken: asyncio.Queue[dict[str, ModelConfig]] = asyncio.Queue()
        self.private = True

    def allow_private(self, allowed: bool) -> None:
        self.private = allowed

    async def import_configured(self, models: dict[str, ModelConfig]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.put_nowait(models)


def follow(service: Service, started: PlatformConfig | None = None) -> tuple[Documents, Configured]:
    documents = Documents()
    started = started or PlatformConfig(models={"m": model(REMOTE)})
    configured = Configured(started, service, structlog.get_logger())
    configured.follow(documents)
    return documents, configured


async def test_changes_are_taken() -> None:
    service = Service(StartupError("an added model is in the way"))
    documents, configured = follow(service)
    running = asyncio.create_task(configured.run())
    for alias in ("refused", "n"):
        private = GatewayConfig(allow_private_targets=False)
        documents.change("platform", None, PlatformConfig(models={alias: model(REMOTE)}, gateway=private))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert list(await service.taken.get()) == ["n"]
    assert service.private is False
    running.cancel()


async def test_what_failed_is_tried_again() -> None:
    service = Service(Unavailable("the disk is full"))
    documents, configured = follow(service)
    documents.change("platform", None, PlatformConfig(models={"n": model(REMOTE)}))
    running = asyncio.create_task(configured.run())
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], Unavailable)
    again = asyncio.create_task(configured.run())
    async with asyncio.timeout(5):
        assert list(await service.taken.get()) == ["n"]
    again.cancel()


async def test_writing_down_what_a_default_platform_serves_loses_nothing() -> None:
    service = Service()
    documents, configured = follow(service, PlatformConfig())
    packaged = model(TargetConfig(local="packaged"))
    documents.change("platform", None, PlatformConfig(models={"smollm2": packaged, "alone": model(REMOTE)}))
    running = asyncio.create_task(configured.run())
    async with asyncio.timeout(5):
        assert await service.taken.get() == {"smollm2": packaged, "alone": model(REMOTE)}
    running.cancel()
