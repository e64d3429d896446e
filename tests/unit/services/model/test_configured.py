"""The catalogue follows the configuration, as far as the weights in memory go."""

import asyncio

import structlog

from moonpool.contracts.config import DEFAULT_MODEL, GatewayConfig, ModelConfig, PlatformConfig, TargetConfig
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError, Unavailable
from moonpool.services.model.configured import Configured, loadable

REMOTE = TargetConfig(url="http://127.0.0.1:9/v1")
A, B = TargetConfig(local="a.gguf"), TargetConfig(local="b.gguf")


def model(*targets: TargetConfig, fallbacks: tuple[str, ...] = ()) -> ModelConfig:
    return ModelConfig(targets=targets, fallbacks=fallbacks)


def test_weights_that_are_not_loaded_are_left_out() -> None:
    models = {
        "old": model(A),
        "new": model(B),
        "both": model(B, REMOTE, fallbacks=("new", "old")),
        "remote": model(REMOTE),
    }
    assert loadable(models, frozenset({"a.gguf"})) == {
        "old": model(A),
        "both": model(REMOTE, fallbacks=("old",)),
        "remote": model(REMOTE),
    }


def test_the_packaged_model_is_there_if_it_was_loaded() -> None:
    assert list(loadable({}, frozenset({DEFAULT_MODEL}))) == [DEFAULT_MODEL]
    assert loadable({}, frozenset({"a.gguf"})) == {}


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


def follow(service: Service) -> tuple[Documents, Configured]:
    documents = Documents()
    configured = Configured(PlatformConfig(models={"m": model(REMOTE)}), service, structlog.get_logger())
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
