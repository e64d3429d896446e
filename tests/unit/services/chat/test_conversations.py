"""Conversations over HTTP: created, listed, renamed, deleted, and nobody else's."""

from typing import Any

import pytest

from moonpool.core.principal import Principal, Role

OTHER_USER = Principal(user="user_other", tenant="org_test", role=Role.MEMBER)
OTHER_TENANT = Principal(user="user_member", tenant="org_other", role=Role.OWNER)


async def test_create_and_read(chat: Any) -> None:
    new = {"title": "Reefs", "model": "m", "system_prompt": "Be brief."}
    created = await chat.call("POST", "/api/conversations", json=new)
    assert created.status_code == 201
    body = created.json()
    assert body["id"].startswith("conv_")
    assert body["object"] == "conversation"
    assert {name: body[name] for name in new} == new
    assert (await chat.call("GET", f"/api/conversations/{body['id']}")).json() == body


async def test_everything_is_optional(chat: Any) -> None:
    created = await chat.call("POST", "/api/conversations", json={})
    assert created.status_code == 201
    assert created.json()["title"] is None


@pytest.mark.parametrize(
    ("body", "param"), [({"title": ""}, "title"), ({"model": 3}, "model"), ({"title": "x" * 201}, "title")]
)
async def test_bad_values_are_refused_by_name(chat: Any, body: dict[str, Any], param: str) -> None:
    refused = await chat.call("POST", "/api/conversations", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


async def test_what_is_not_known_is_refused_and_not_dropped(chat: Any, conversation: str) -> None:
    for method, path in (
        ("POST", "/api/conversations"),
        ("PATCH", conversation),
        ("POST", f"{conversation}/messages"),
    ):
        refused = await chat.call(method, path, json={"title": "t", "content": "c", "sytem_prompt": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_parameter")


async def test_malformed_json_is_refused(chat: Any) -> None:
    refused = await chat.call(
        "POST", "/api/conversations", content=b"{", headers={"content-type": "application/json"}
    )
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"


async def test_list_pages_by_recent_use(chat: Any) -> None:
    ids = []
    for title in "abc":
        created = await chat.call("POST", "/api/conversations", json={"title": title})
        ids.append(created.json()["id"])
        chat.parts.clock.advance(1.0)
    first = (await chat.call("GET", "/api/conversations?limit=2")).json()
    assert [entry["title"] for entry in first["data"]] == ["c", "b"]
    assert first["has_more"] is True
    rest = (await chat.call("GET", f"/api/conversations?limit=2&after={first['data'][-1]['id']}")).json()
    assert [entry["id"] for entry in rest["data"]] == [ids[0]]
    assert rest["has_more"] is False


async def test_rename(chat: Any, conversation: str) -> None:
    renamed = await chat.call("PATCH", conversation, json={"title": "New"})
    assert renamed.json()["title"] == "New"
    assert (await chat.call("GET", conversation)).json()["title"] == "New"
    assert (await chat.call("PATCH", conversation, json={})).status_code == 400


async def test_delete_takes_the_messages_along(chat: Any, model: Any, conversation: str) -> None:
    model.says("Hi")
    await chat.call("POST", f"{conversation}/messages", json={"content": "Hello", "stream": False})
    deleted = await chat.call("DELETE", conversation)
    assert deleted.json()["deleted"] is True
    for path in (conversation, f"{conversation}/messages"):
        gone = await chat.call("GET", path)
        assert gone.status_code == 404
        assert gone.json()["error"]["code"] == "conversation_not_found"


@pytest.mark.parametrize("stranger", [OTHER_USER, OTHER_TENANT])
async def test_nobody_elses(chat: Any, model: Any, conversation: str, stranger: Principal) -> None:
    model.says("secret")
    asked = await chat.call("POST", f"{conversation}/messages", json={"content": "x", "stream": False})
    message = f"{conversation}/messages/{asked.json()['id']}"
    attempts = [
        ("GET", conversation, None),
        ("PATCH", conversation, {"title": "mine"}),
        ("DELETE", conversation, None),
        ("GET", f"{conversation}/messages", None),
        ("POST", f"{conversation}/messages", {"content": "x"}),
        ("GET", message, None),
        ("GET", f"{message}/stream", None),
        ("POST", f"{message}/cancel", None),
    ]
    for method, path, body in attempts:
        refused = await chat.call(method, path, caller=stranger, json=body)
        assert refused.status_code == 404, (method, path)
    assert (await chat.call("GET", "/api/conversations", caller=stranger)).json()["data"] == []
    assert (await chat.call("GET", conversation)).json()["title"] == "x"
