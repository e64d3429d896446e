import asyncio

import pytest

from moonpool.core.principal import Principal, Role

ME = "/api/users/me"


@pytest.fixture
async def service(make_parts, run_service):
    return await run_service(await make_parts("user"))


async def test_a_profile_is_there_at_first_sight(service, member) -> None:
    profile = (await service.call("GET", ME)).json()
    assert profile == {
        "id": member.user,
        "object": "user",
        "organisation": member.tenant,
        "display_name": "",
        "locale": "",
        "theme": "system",
        "created_at": service.parts.clock.time(),
        "updated_at": service.parts.clock.time(),
    }


async def test_many_first_requests_make_one_profile(service, admin) -> None:
    answers = await asyncio.gather(*(service.call("GET", ME) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    listed = (await service.call("GET", "/api/users", caller=admin)).json()
    assert len(listed["data"]) == 1


async def test_a_change_touches_only_what_it_names(service) -> None:
    await service.call("PATCH", ME, json={"display_name": "Ada", "locale": "en-GB"})
    service.parts.clock.advance(10)
    answer = await service.call("PATCH", ME, json={"theme": "dark"})
    assert answer.status_code == 200
    profile = (await service.call("GET", ME)).json()
    assert (profile["display_name"], profile["locale"], profile["theme"]) == ("Ada", "en-GB", "dark")
    assert profile["updated_at"] == profile["created_at"] + 10


async def test_a_name_can_be_taken_back(service) -> None:
    await service.call("PATCH", ME, json={"display_name": "Ada"})
    assert (await service.call("PATCH", ME, json={"display_name": ""})).json()["display_name"] == ""


@pytest.mark.parametrize(
    "body",
    [
        {"theme": "pink"},
        {"locale": "english please"},
        {"display_name": "x" * 101},
        {"display_name": "a\nb"},
        {"display_name": "a\n"},
        {"display_name": "\x9b2J"},
        {"locale": "en\n"},
        {"display_name": None},
        {"role": "owner"},
        [],
    ],
)
async def test_bad_changes(service, body) -> None:
    answer = await service.call("PATCH", ME, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


async def test_only_admins_list_and_only_their_organisation(service, member, admin) -> None:
    await service.call("GET", ME)
    assert (await service.call("GET", "/api/users", caller=member)).status_code == 403
    listed = (await service.call("GET", "/api/users", caller=admin)).json()
    assert [user["id"] for user in listed["data"]] == [member.user]
    elsewhere = Principal(user="user_x", tenant="org_other", role=Role.ADMIN)
    assert (await service.call("GET", "/api/users", caller=elsewhere)).json()["data"] == []
    scoped = Principal(user="user_y", tenant=member.tenant, role=Role.ADMIN, scopes=("chat",))
    assert (await service.call("GET", "/api/users", caller=scoped)).status_code == 403


async def test_pages(service, member, admin) -> None:
    for number in range(3):
        await service.call("GET", ME, caller=Principal(user=f"user_{number}", tenant=member.tenant))
    first = (await service.call("GET", "/api/users", caller=admin, params={"limit": 2})).json()
    assert first["has_more"] is True
    rest = (
        await service.call("GET", "/api/users", caller=admin, params={"after": first["data"][-1]["id"]})
    ).json()
    assert [user["id"] for user in first["data"] + rest["data"]] == ["user_0", "user_1", "user_2"]
    assert rest["has_more"] is False


async def test_a_service_has_no_profile(service) -> None:
    assert (await service.call("GET", ME, caller=Principal(service="chat"))).status_code == 403
