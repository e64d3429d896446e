"""What of the configuration the engine follows while it runs: which aliases its weights are served under, and
how many requests may wait. Weights, slots and context are of the start."""

from dataclasses import replace
from pathlib import Path

from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.local_models import configured_models
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.core.errors import StartupError
from moonpool.ports.config import ConfigSource
from moonpool.services.inference.models import LocalModel
from moonpool.services.inference.weights import file_of


class Configured:
    """`models` by alias is what is served; `loaded` by file what is in memory."""

    def __init__(self, models: dict[str, LocalModel]) -> None:
        self._models = models
        self.loaded: dict[Path, LocalModel] = {}
        self._newest: PlatformConfig | None = None
        self._settled = False

    def follow(self, documents: ConfigSource[PlatformConfig]) -> None:
        documents.subscribe(PLATFORM, self._changed)

    def serve(self, alias: str, file: Path) -> None:
        self._models[alias] = replace(self.loaded[file], name=alias)

    def settle(self) -> None:
        """All that the start wanted is loaded: what has changed meanwhile can be taken."""
        self._settled = True
        if self._newest is not None:
            self._take(self._newest)

    def close(self) -> None:
        """Nothing is served any more; requests under way keep what they have."""
        self._settled = False
        self._models.clear()

    def _changed(self, _name: str, _old: PlatformConfig | None, new: PlatformConfig) -> None:
        self._newest = new
        if self._settled:
            self._take(new)

    def _take(self, config: PlatformConfig) -> None:
        wanted = {alias: file for alias, file in _files(config).items() if file in self.loaded}
        for alias in [alias for alias in self._models if alias not in wanted]:
            del self._models[alias]
        for alias, file in wanted.items():
            if alias not in self._models or self._models[alias].engine is not self.loaded[file].engine:
                self.serve(alias, file)
        for model in self.loaded.values():
            model.slots.allow_waiting(config.engine.queue)
            model.vectors.allow_waiting(config.engine.queue)


def _files(config: PlatformConfig) -> dict[str, Path]:
    """The file of each alias, unseen: one that was never loaded is nothing to be served."""
    files: dict[str, Path] = {}
    for alias, model in configured_models(config).items():
        local = next((target.local for target in model.targets if target.local), "")
        if local:
            try:
                files[alias] = file_of(local)
            except StartupError:
                continue
    return files
