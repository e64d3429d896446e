"""inference's application, from its parts: the models are loaded as it starts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from litestar import Litestar
from litestar.types import ASGIApp

from moonpool.asgi.app import create_app
from moonpool.asgi.parts import Parts
from moonpool.contracts.config import EngineConfig
from moonpool.core.errors import StartupError, Unavailable
from moonpool.services.inference import llama
from moonpool.services.inference.configured import Configured
from moonpool.services.inference.engine import Engine
from moonpool.services.inference.metrics import LoadCollector, TokenCounter
from moonpool.services.inference.models import LocalModel
from moonpool.services.inference.routes import handlers
from moonpool.services.inference.service import Inference
from moonpool.services.inference.slots import Slots
from moonpool.services.inference.weights import INSTALL, local_models


def create(parts: Parts) -> ASGIApp:
    """Raises StartupError when a configured model or the engine is missing.

    A platform whose models are all elsewhere starts no engine, and nothing is wrong with that.
    """
    files = local_models(parts.config.models)
    if files and find_spec("xllamacpp") is None:
        raise StartupError("the engine is not installed", where="xllamacpp", hint=f"{INSTALL}.")
    models: dict[str, LocalModel] = {}
    configured = Configured(models)
    if parts.documents is not None:
        configured.follow(parts.documents)
    inference = Inference(models, parts.clock, TokenCounter(parts.metrics))
    parts.metrics.register(LoadCollector(inference.load))

    @asynccontextmanager
    async def loaded(_: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _load_all(parts, files, configured, stack)
            yield
            configured.close()

    async def all_loaded() -> None:
        if len(configured.loaded) < len(set(files.values())):
            raise Unavailable("the local models are not loaded")

    return create_app(
        parts, handlers(inference, parts.log), lifespan=[loaded], optional={"engine": all_loaded}
    )


async def _load_all(
    parts: Parts, files: Mapping[str, Path], configured: Configured, stack: AsyncExitStack
) -> None:
    """Aliases of the same file share its engine and its slots."""
    settings = parts.config.engine
    loaded = configured.loaded
    for alias, path in files.items():
        if path not in loaded:
            parts.log.info("loading a model", model=alias, file=path.name)
            engine = await _load(path, settings)
            stack.push_async_callback(engine.close)
            loaded[path] = LocalModel(
                name=alias,
                engine=engine,
                slots=Slots(running=settings.slots, waiting=settings.queue, clock=parts.clock),
                vectors=Slots(running=1, waiting=settings.queue, clock=parts.clock),
            )
            seconds = round(engine.info.load_seconds, 2)
            parts.log.info("a model is loaded", model=alias, seconds=seconds, context=engine.info.context)
        configured.serve(alias, path)
    configured.settle()


async def _load(path: Path, settings: EngineConfig) -> Engine:
    return await llama.load(path, slots=settings.slots, context=settings.context, threads=settings.threads)
