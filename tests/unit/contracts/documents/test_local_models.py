"""What of the configured models can be served by the weights that are in memory."""

from moonpool.contracts.config import DEFAULT_MODEL, PACKAGED, ModelConfig, PlatformConfig, TargetConfig
from moonpool.contracts.documents.local_models import loadable, local_files, lost_models

REMOTE = TargetConfig(url="http://127.0.0.1:9/v1")
A, B = TargetConfig(local="a.gguf"), TargetConfig(local="b.gguf")
SMALL = TargetConfig(local=PACKAGED)


def model(*targets: TargetConfig, fallbacks: tuple[str, ...] = ()) -> ModelConfig:
    return ModelConfig(targets=targets, fallbacks=fallbacks)


def platform(**models: ModelConfig) -> PlatformConfig:
    return PlatformConfig(models=models)


def test_weights_that_are_not_loaded_are_left_out() -> None:
    wanted = platform(
        old=model(A), new=model(B), both=model(B, REMOTE, fallbacks=("new", "old")), remote=model(REMOTE)
    )
    assert loadable(wanted, frozenset({"a.gguf"})) == {
        "old": model(A),
        "both": model(REMOTE, fallbacks=("old",)),
        "remote": model(REMOTE),
    }


def test_the_packaged_model_is_there_if_it_was_loaded() -> None:
    loaded = local_files(PlatformConfig())
    assert list(loadable(PlatformConfig(), loaded)) == [DEFAULT_MODEL]
    assert loadable(PlatformConfig(), frozenset({"a.gguf"})) == {}


def test_the_packaged_model_is_the_same_written_down_or_not() -> None:
    assert local_files(PlatformConfig()) == local_files(platform(mine=model(SMALL)))
    assert list(loadable(platform(mine=model(SMALL)), local_files(PlatformConfig()))) == ["mine"]


def test_what_clients_lose() -> None:
    default, remote = PlatformConfig(), platform(remote=model(REMOTE))
    assert lost_models(default, default, remote) == [DEFAULT_MODEL]
    assert lost_models(default, default, platform(smollm2=model(SMALL), remote=model(REMOTE))) == []
    assert lost_models(default, remote, platform(remote=model(A))) == ["remote"]
    assert lost_models(default, remote, default) == ["remote"]
