"""Aliases and the queue's length follow the configuration; weights do not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from moonpool.contracts.config import EngineConfig, ModelConfig, PlatformConfig, TargetConfig
from moonpool.core.clock import ManualClock
from moonpool.services.inference.configured import Configured
from moonpool.services.inference.models import LocalModel
from moonpool.services.inference.slots import Slots


class Documents:
    def subscribe(self, kind: Any, callback: Any) -> None:
        self.change = callback


def loaded(name: str) -> LocalModel:
    def slots() -> Slots:
        return Slots(running=1, waiting=4, clock=ManualClock())

    engine: Any = SimpleNamespace(info=None)
    return LocalModel(name=name, engine=engine, slots=slots(), vectors=slots())


def config(queue: int = 4, **files: str) -> PlatformConfig:
    models = {alias: ModelConfig(targets=(TargetConfig(local=file),)) for alias, file in files.items()}
    remote = ModelConfig(targets=(TargetConfig(url="http://127.0.0.1:9/v1"),))
    return PlatformConfig(models={**models, "remote": remote}, engine=EngineConfig(queue=queue))


def started() -> tuple[dict[str, LocalModel], Configured, Documents]:
    models: dict[str, LocalModel] = {}
    configured, documents = Configured(models), Documents()
    configured.follow(documents)
    configured.loaded[Path("a.gguf")] = loaded("a")
    configured.serve("a", Path("a.gguf"))
    return models, configured, documents


def test_weights_in_memory_are_served_under_the_names_that_are_configured() -> None:
    models, configured, documents = started()
    configured.settle()
    documents.change("platform", None, config(b="a.gguf", c="never.gguf"))
    assert {alias: model.name for alias, model in models.items()} == {"b": "b"}
    documents.change("platform", None, config(a="a.gguf", b="a.gguf"))
    assert set(models) == {"a", "b"}
    assert models["a"].engine is models["b"].engine


def test_the_queue_follows() -> None:
    models, configured, documents = started()
    configured.settle()
    documents.change("platform", None, config(queue=9, a="a.gguf"))
    assert models["a"].slots._queue_limit == models["a"].vectors._queue_limit == 9


def test_what_changes_while_weights_are_loaded_is_taken_afterwards() -> None:
    models, configured, documents = started()
    documents.change("platform", None, config(b="a.gguf"))
    assert set(models) == {"a"}
    configured.settle()
    assert set(models) == {"b"}
    configured.close()
    documents.change("platform", None, config(a="a.gguf"))
    assert models == {}
