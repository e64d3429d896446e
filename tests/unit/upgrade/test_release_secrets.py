import pytest

from moonpool.contracts.config import ModelConfig, TargetConfig
from moonpool.contracts.releases import CommandSource, EndpointSource, Overrides, Release, Source
from moonpool.upgrade.release_secrets import secrets_in


def places(source: Source | None = None, **overrides: object) -> list[str]:
    given = Overrides(**overrides)  # type: ignore[arg-type]
    release = Release(service="inference", label="v2", overrides=given)
    if source is not None:
        release = Release(service="inference", label="v2", source=source, overrides=given)
    found = list(secrets_in(release))
    assert all("hunter2" not in f"{fault.message} {fault.hint}" for fault in found)
    return [fault.place for fault in found]


@pytest.mark.parametrize("name", ["API_KEY", "token", "DB_PASSWORD", "X_CREDENTIALS", "secret"])
def test_variables_named_like_secrets(name: str) -> None:
    assert places(environment={name: "hunter2"}) == [f"overrides.environment.{name}"]


@pytest.mark.parametrize("name", ["TOKENS_PER_MINUTE", "KEYBOARD", "SECRETARY", "TOKEN_LIMIT"])
def test_variables_that_are_not(name: str) -> None:
    assert places(environment={name: "5", "URL": "redis://cache:6379/0"}) == []


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@cache:6379",
        "https://ann:hunter2@a.example/v1",
        "https://a.example/v1?api_key=hunter2",
        "https://a.example/v1?x=1&access-token=hunter2",
    ],
)
def test_urls_with_secrets(url: str) -> None:
    assert places(environment={"URL": url}) == ["overrides.environment.URL"]
    assert places(CommandSource(argv=("serve", url))) == ["source.argv[1]"]
    if url.startswith("https"):
        assert places(EndpointSource(url=url)) == ["source.url"]
        model = ModelConfig(targets=(TargetConfig(url=url),))
        assert places(models={"a.b": model}) == ['overrides.models."a.b".targets[0].url']


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (("serve", "--api-key=hunter2"), ["source.argv[1]"]),
        (("serve", "--token", "hunter2"), ["source.argv[1]"]),
        (("serve", "-password=hunter2"), ["source.argv[1]"]),
        (("serve", "--tls-key", "/etc/key.pem"), []),
        (("serve", "--tls-key=./key.pem"), []),
        (("serve", "--token", "--quiet"), []),
        (("serve", "--token"), []),
        (("serve", "--tokens=5", "--listen", "{socket}", "http://a.example/v1?model=x"), []),
        (("serve", "key=value"), []),
    ],
)
def test_arguments(argv: tuple[str, ...], found: list[str]) -> None:
    assert places(CommandSource(argv=argv)) == found
