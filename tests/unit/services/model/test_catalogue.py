"""model as the gateway and its admins see it."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.catalogue import CHANGES, Catalogue
from moonpool.contracts.config import DEFAULT_MODEL, ModelConfig, PlatformConfig, TargetConfig
from moonpool.core.errors import StartupError
from moonpool.core.principal import Principal, Role

URL = "http://127.0.0.1:9100/v1"
REMOTE = {"targets": [{"url": URL}]}


def platform(**models: ModelConfig) -> PlatformConfig:
    return PlatformConfig(models=models)


def remote(*fallbacks: str, url: str = URL) -> ModelConfig:
    return ModelConfig(targets=(TargetConfig(url=url),), fallbacks=fallbacks)


@pytest.fixture
async def service(make_parts, run_service):
    return await run_service(await make_parts("model", config=platform(fixed=remote())))


async def catalogue(service) -> Catalogue:
    answer = await service.call("GET", "/internal/catalogue", caller=Principal(service="gateway"))
    assert answer.status_code == 200
    return msgspec.json.decode(answer.content, type=Catalogue)


async def put(service, admin, alias: str, body: object = REMOTE):
    return await service.call("PUT", f"/admin/models/{alias}", caller=admin, json=body)


async def ids(service) -> list[str]:
    return [model.id for model in (await catalogue(service)).models]


async def test_without_configuration_there_is_the_packaged_model(make_parts, run_service) -> None:
    service = await run_service(await make_parts("model"))
    (model,) = (await catalogue(service)).models
    assert model.id == DEFAULT_MODEL
    assert [(target.url, target.model) for target in model.targets] == [("", DEFAULT_MODEL)]
    assert model.context == service.parts.config.engine.context


async def test_openai_list_and_model(service) -> None:
    listed = (await service.call("GET", "/v1/models")).json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert model["id"] == "fixed"
    assert model["object"] == "model"
    assert model["created"] == int(service.parts.clock.time())
    assert model["owned_by"] == "moonpool"
    assert "targets" not in model  # where a model runs is no client's business
    assert (await service.call("GET", "/v1/models/fixed")).json() == model


async def test_an_unknown_model(service) -> None:
    answer = await service.call("GET", "/v1/models/none/such")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "none/such" in error["message"]


async def test_names_may_have_slashes(service, admin) -> None:
    assert (await put(service, admin, "meta-llama/Llama-3")).status_code == 201
    for path in ("meta-llama/Llama-3", "meta-llama%2FLlama-3"):
        assert (await service.call("GET", f"/v1/models/{path}")).json()["id"] == "meta-llama/Llama-3"


async def test_the_version_grows_with_each_change_and_is_announced(service, admin) -> None:
    before = (await catalogue(service)).version
    assert (await put(service, admin, "new")).status_code == 201
    assert (await put(service, admin, "new")).status_code == 200
    await service.call("DELETE", "/admin/models/new", caller=admin)
    assert (await catalogue(service)).version == before + 3

    events = service.parts.events
    async with asyncio.timeout(5):
        while len(events.topics.get(CHANGES, [])) < 4:
            events.appended.clear()
            await events.appended.wait()
    assert [int(event.value) for event in events.topics[CHANGES]] == list(range(before, before + 4))


async def test_an_unchanged_catalogue_is_not_sent_again(service, admin) -> None:
    first = await service.call("GET", "/internal/catalogue")
    etag = {"if-none-match": first.headers["etag"]}
    again = await service.call("GET", "/internal/catalogue", headers=etag)
    assert (again.status_code, again.content) == (304, b"")
    await put(service, admin, "new")
    assert (await service.call("GET", "/internal/catalogue", headers=etag)).status_code == 200


async def test_the_catalogue_is_for_modules(service) -> None:
    answer = await service.call("GET", "/internal/catalogue", issuer="stranger")
    assert answer.status_code == 403


async def test_a_restart_with_the_same_configuration_changes_nothing(
    make_parts, run_service, service
) -> None:
    before = await catalogue(service)
    restarted = await run_service(await make_parts("model", config=platform(fixed=remote())))
    assert await catalogue(restarted) == before


async def test_a_restart_brings_the_new_configuration_and_keeps_what_was_added(
    make_parts, run_service, service, admin
) -> None:
    await put(service, admin, "added", {**REMOTE, "fallbacks": ["fixed"]})
    before = (await catalogue(service)).version
    restarted = await run_service(await make_parts("model", config=platform(other=remote())))
    after = await catalogue(restarted)
    assert after.version > before
    assert [(model.id, model.fallbacks) for model in after.models] == [("added", ()), ("other", ())]


async def test_a_configured_model_can_be_covered_but_not_removed(service, admin) -> None:
    answer = await service.call("DELETE", "/admin/models/fixed", caller=admin)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "model_is_configured"

    covered = await put(service, admin, "fixed", {"targets": [{"url": "https://other.example/v1"}]})
    assert (covered.json()["source"], covered.json()["overrides"]) == ("api", True)
    assert (await catalogue(service)).models[0].targets[0].url == "https://other.example/v1"

    assert (await service.call("DELETE", "/admin/models/fixed", caller=admin)).status_code == 200
    shown = (await service.call("GET", "/admin/models/fixed", caller=admin)).json()
    assert (shown["source"], shown["targets"][0]["url"]) == ("config", URL)


async def test_fallbacks_are_kept_whole(service, admin) -> None:
    answer = await put(service, admin, "a", {**REMOTE, "fallbacks": ["none"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "fallbacks[0]"

    await put(service, admin, "a", {**REMOTE, "fallbacks": ["fixed"]})
    circle = await put(service, admin, "fixed", {**REMOTE, "fallbacks": ["a"]})
    assert circle.status_code == 400
    assert "fixed → a → fixed" in circle.json()["error"]["message"]

    await put(service, admin, "b", {**REMOTE, "fallbacks": ["a"]})
    used = await service.call("DELETE", "/admin/models/a", caller=admin)
    assert used.status_code == 409
    assert used.json()["error"]["code"] == "model_in_use"
    assert await ids(service) == ["a", "b", "fixed"]


async def test_a_refused_change_changes_nothing(service, admin) -> None:
    before = await catalogue(service)
    await put(service, admin, "a", {**REMOTE, "fallbacks": ["none"]})
    await service.call("DELETE", "/admin/models/none", caller=admin)
    assert await catalogue(service) == before


async def test_what_comes_to_light_again_must_fit(make_parts, run_service, admin) -> None:
    config = platform(a=remote("b"), b=remote())
    service = await run_service(await make_parts("model", config=config))
    await put(service, admin, "a", REMOTE)
    await put(service, admin, "b", {**REMOTE, "fallbacks": ["a"]})
    answer = await service.call("DELETE", "/admin/models/a", caller=admin)
    assert answer.status_code == 409
    assert "circle" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"targets": []}, None),
        ({"targets": [{"url": "ftp://x/v1"}]}, "targets[0].url"),
        ({"targets": [{"url": "http://u:p@x/v1"}]}, "targets[0].url"),
        ({"targets": [{"local": "/etc/passwd"}]}, "targets[0].local"),
        ({"targets": [{"url": URL, "weight": -1}]}, None),
        ({**REMOTE, "capabilities": ["fly"]}, "capabilities"),
        ({**REMOTE, "surprise": 1}, None),
    ],
)
async def test_bad_models(service, admin, body, param) -> None:
    answer = await put(service, admin, "bad", body)
    assert answer.status_code == 400, answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param


async def test_admins_only(service, member) -> None:
    scoped = Principal(user="u", tenant="t", role=Role.OWNER, scopes=("inference",))
    for caller in (member, scoped):
        for method, path in (
            ("GET", "/admin/models"),
            ("GET", "/admin/models/fixed"),
            ("DELETE", "/admin/models/fixed"),
        ):
            assert (await service.call(method, path, caller=caller)).status_code == 403
        assert (await put(service, caller, "x")).status_code == 403


@pytest.mark.parametrize(
    ("models", "where"),
    [
        ({"a": remote(url="ftp://x")}, "models.a.targets[0].url"),
        ({"a": remote("b")}, "models.a.fallbacks[0]"),
        ({"a": remote("b"), "b": remote("a")}, "models.a.fallbacks[0]"),
        ({"a b": remote()}, "models.a b"),
    ],
)
async def test_a_broken_configuration_stops_the_start(make_parts, run_service, models, where) -> None:
    with pytest.raises(StartupError) as refused:
        await run_service(await make_parts("model", config=platform(**models)))
    assert refused.value.where == where


async def test_a_broken_configuration_keeps_the_old_catalogue(make_parts, run_service, service) -> None:
    before = await catalogue(service)
    with pytest.raises(StartupError):
        await run_service(await make_parts("model", config=platform(a=remote("b"))))
    assert await catalogue(service) == before
