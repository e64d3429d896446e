from moonpool.contracts.config import EngineConfig, LimitConfig, ModelConfig, PlatformConfig, TargetConfig
from moonpool.contracts.releases import Overrides
from moonpool.wiring.configuration import overridden

OLD = ModelConfig(targets=(TargetConfig(local="old.gguf"),))
NEW = ModelConfig(targets=(TargetConfig(local="new.gguf"),))


def test_entries_of_the_same_name_are_replaced_and_others_stay():
    config = PlatformConfig(models={"a": OLD, "b": OLD}, limits={"default": LimitConfig(concurrent=1)})
    seen = overridden(
        config, Overrides(models={"b": NEW}, limits={"default": LimitConfig()}, engine=EngineConfig(slots=9))
    )
    assert seen.models == {"a": OLD, "b": NEW}
    assert seen.limits == {"default": LimitConfig()}
    assert seen.engine.slots == 9
    assert overridden(config, Overrides()) == config
