"""Which of the configured models can be served, by the weights that are in memory. Pure.

Weights are loaded when the inference service starts. A target with a file that was not loaded then waits for
the next start: until then there is no such target, and no model that has nothing else.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from moonpool.contracts.config import PACKAGED_MODELS, ModelConfig, PlatformConfig


def configured_models(config: PlatformConfig) -> Mapping[str, ModelConfig]:
    """By alias; the packaged small model where none is written."""
    return config.models or PACKAGED_MODELS


def local_files(config: PlatformConfig) -> frozenset[str]:
    """The weights that an inference service started with this configuration has loaded, as targets say it."""
    return frozenset(
        target.local
        for model in configured_models(config).values()
        for target in model.targets
        if target.local
    )


def loadable(config: PlatformConfig, loaded: frozenset[str]) -> dict[str, ModelConfig]:
    """The models as they can be served now; `loaded` are the files of weights that are in memory."""
    kept: dict[str, ModelConfig] = {}
    for alias, model in configured_models(config).items():
        targets = tuple(target for target in model.targets if not target.local or target.local in loaded)
        if any(target.weight for target in targets):
            kept[alias] = replace(model, targets=targets)
    return {
        alias: replace(model, fallbacks=tuple(name for name in model.fallbacks if name in kept))
        for alias, model in kept.items()
    }


def lost_models(started: PlatformConfig, old: PlatformConfig, new: PlatformConfig) -> list[str]:
    """The aliases that clients can use with `old` and no longer with `new`, on a platform that was started
    with `started`."""
    loaded = local_files(started)
    after = loadable(new, loaded)
    return [alias for alias in loadable(old, loaded) if alias not in after]
