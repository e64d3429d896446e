import pytest

from moonpool.contracts.config import ModelConfig, TargetConfig
from moonpool.core.errors import BadRequest
from moonpool.services.model.resolve import Layer, loaded_aliases, resolve

FILE = Layer(added=False, loaded={"tiny": "1:2"})
API = Layer(added=True, loaded={"tiny": "1:2"})
URL = "http://127.0.0.1:9100/v1"


def config(*targets: TargetConfig, **fields: object) -> ModelConfig:
    return ModelConfig(targets=targets or (TargetConfig(url=URL),), **fields)  # type: ignore[arg-type]


def test_a_remote_target() -> None:
    target = TargetConfig(url=URL + "/", model="there", api_key_env="DEEPSEEK_API_KEY", priority=2, weight=3)
    model = resolve("mine", config(target, context=4096), FILE)
    (resolved,) = model.targets
    assert resolved.url == URL
    assert resolved.model == "there"
    assert (resolved.priority, resolved.weight, resolved.api_key_env) == (2, 3, "DEEPSEEK_API_KEY")
    assert model.context == 4096


def test_without_a_name_the_endpoint_is_asked_for_the_alias() -> None:
    assert resolve("mine", config(), FILE).targets[0].model == "mine"


def test_a_local_target_is_known_by_its_alias() -> None:
    (target,) = resolve("tiny", config(TargetConfig(local="/w/tiny.gguf", model="x")), FILE).targets
    assert (target.url, target.model) == ("", "tiny")


def test_an_added_model_names_loaded_weights() -> None:
    assert resolve("mine", config(TargetConfig(local="tiny")), API).targets[0].model == "tiny"
    with pytest.raises(BadRequest, match="no local model") as refused:
        resolve("mine", config(TargetConfig(local="/etc/passwd")), API)
    assert "tiny" in str(refused.value.hint)


def test_ids_are_stable_and_do_not_hang_on_the_share() -> None:
    light, heavy, other = (
        resolve("mine", config(TargetConfig(url=url, weight=weight)), FILE).targets[0].id
        for url, weight in ((URL, 1), (URL, 9), (URL + "x", 1))
    )
    assert light == heavy != other
    assert light == "tgt_b6343dac4ac764a5"


def test_the_revision_follows_targets_and_weights() -> None:
    local = config(TargetConfig(local="tiny.gguf"))
    before = resolve("tiny", local, FILE).revision
    assert resolve("tiny", local, FILE).revision == before
    assert resolve("tiny", local, Layer(added=False, loaded={"tiny": "1:3"})).revision != before
    assert resolve("tiny", config(), FILE).revision != before


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/v1", "scheme"),
        ("file:///etc/passwd", "host"),
        ("host/v1", "host"),
        ("http://", "host"),
        ("http:///v1", "host"),
        ("http://user:secret@host/v1", "credentials"),
        ("http://user@host/v1", "credentials"),
        ("http://host:99999/v1", "URL"),
        ("http://host:0/v1", "URL"),
        ("http://[::1/v1", "URL"),
        ("http://host/v1?key=1", "query"),
        ("http://host/v1#x", "query"),
        ("http://host/v1\r\nx: y", "spaces"),
        ("http://ho st/v1", "spaces"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        resolve("mine", config(TargetConfig(url=url)), FILE)
    assert refused.value.param == "targets[0].url"


@pytest.mark.parametrize(
    "host", ["localhost", "a.localhost", "127.0.0.1", "10.1.2.3", "[::1]", "169.254.169.254"]
)
def test_private_networks_can_be_forbidden(host: str) -> None:
    target = config(TargetConfig(url=f"http://{host}/v1"))
    resolve("mine", target, FILE)
    with pytest.raises(BadRequest, match="private"):
        resolve("mine", target, Layer(added=True, loaded={}, allow_private=False))
    public = config(TargetConfig(url="https://api.deepseek.com/v1"))
    resolve("mine", public, Layer(added=True, loaded={}, allow_private=False))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"targets": (TargetConfig(),)}, "targets[0]"),
        ({"targets": (TargetConfig(url=URL), TargetConfig(url=URL, local="x"))}, "targets[1]"),
        ({"targets": (TargetConfig(url=URL), TargetConfig(url=URL, priority=1))}, "targets"),
        ({"targets": (TargetConfig(url=URL, weight=0),)}, "targets"),
        ({"targets": (TargetConfig(url=URL, api_key_env="sk-secret"),)}, "targets[0].api_key_env"),
        ({"targets": (TargetConfig(url=URL),), "capabilities": ("chat", "fly")}, "capabilities"),
        ({"targets": (TargetConfig(url=URL),), "capabilities": ()}, "capabilities"),
    ],
)
def test_bad_models(fields: dict, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        resolve("mine", ModelConfig(**fields), FILE)
    assert refused.value.param == param
    assert refused.value.hint


@pytest.mark.parametrize("alias", ["", "-x", "a b", "a" * 129, "../x", "ä"])
def test_bad_names(alias: str) -> None:
    with pytest.raises(BadRequest) as refused:
        resolve(alias, config(), FILE)
    assert refused.value.param == "model"


@pytest.mark.parametrize("alias", ["smollm2", "meta-llama/Llama-3.1:8b", "a" * 128])
def test_good_names(alias: str) -> None:
    assert resolve(alias, config(), FILE).id == alias


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("DEEPSEEK_API_KEY", True),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("MOONPOOL_API_KEY", False),
        ("PATH", False),
    ],
)
def test_by_api_only_api_keys_can_be_sent_to_an_endpoint(name: str, allowed: bool) -> None:
    target = config(TargetConfig(url=URL, api_key_env=name))
    resolve("mine", target, FILE)
    if allowed:
        resolve("mine", target, API)
    else:
        with pytest.raises(BadRequest, match="may not be sent"):
            resolve("mine", target, API)


def test_loaded_aliases() -> None:
    models = {"remote": config(), "tiny": config(TargetConfig(url=URL), TargetConfig(local="t.gguf"))}
    assert loaded_aliases(models) == {"tiny": "t.gguf"}


def test_the_context_of_local_weights_is_that_of_the_engine() -> None:
    file = Layer(added=False, loaded={"tiny": "1:2"}, local_context=4096)
    local = TargetConfig(local="t.gguf")
    assert resolve("tiny", config(local), file).context == 4096
    assert resolve("tiny", config(local, context=512), file).context == 512
    assert resolve("tiny", config(local, TargetConfig(url=URL)), file).context is None
    assert resolve("tiny", config(TargetConfig(url=URL)), file).context is None
