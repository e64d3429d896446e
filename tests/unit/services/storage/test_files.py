"""Files over HTTP: uploaded whole or not at all, listed, read, deleted, and no other tenant's."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from moonpool.core.errors import Unavailable
from moonpool.core.principal import Principal, Role
from moonpool.services.storage import routes
from moonpool.services.storage.service import ORPHAN_AGE, Files
from moonpool.services.storage.store import Store

OTHER = Principal(user="user_member", tenant="org_other", role=Role.OWNER)
COLLEAGUE = Principal(user="user_2", tenant="org_test", role=Role.MEMBER)


async def upload(storage: Any, content: bytes = b"line\n", name: str = "a.jsonl", **form: str) -> Any:
    form = {"purpose": "fine-tune", **form}
    return await storage.call("POST", "/v1/files", data=form, files={"file": (name, content)})


async def kept(objects: Any) -> list[str]:
    return [info.key async for info in objects.list("")]


async def test_upload_and_read(storage: Any, objects: Any) -> None:
    content = bytes(range(256)) * 1000
    answer = await upload(storage, content)
    assert answer.status_code == 200, answer.text
    file = answer.json()
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(content),
        "created_at": 1_700_000_000,
        "filename": "a.jsonl",
        "purpose": "fine-tune",
        "status": "uploaded",
        "status_details": None,
        "expires_at": None,
    }
    assert (await storage.call("GET", f"/v1/files/{file['id']}")).json() == file
    read = await storage.call("GET", f"/v1/files/{file['id']}/content")
    assert read.content == content
    assert read.headers["content-length"] == str(len(content))
    assert read.headers["content-disposition"] == "attachment; filename*=UTF-8''a.jsonl"
    assert read.headers["content-security-policy"] == "sandbox"
    assert len(await kept(objects)) == 1


async def test_a_colleague_sees_it_and_another_tenant_does_not(storage: Any) -> None:
    id = (await upload(storage)).json()["id"]
    assert (await storage.call("GET", f"/v1/files/{id}", caller=COLLEAGUE)).status_code == 200
    for method, path in (
        ("GET", f"/v1/files/{id}"),
        ("GET", f"/v1/files/{id}/content"),
        ("DELETE", f"/v1/files/{id}"),
    ):
        answer = await storage.call(method, path, caller=OTHER)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "file_not_found"
    assert (await storage.call("GET", "/v1/files", caller=OTHER)).json()["data"] == []


async def test_delete_takes_the_bytes_along(storage: Any, objects: Any) -> None:
    id = (await upload(storage)).json()["id"]
    assert (await storage.call("DELETE", f"/v1/files/{id}")).json() == {
        "id": id,
        "object": "file",
        "deleted": True,
    }
    assert await kept(objects) == []
    assert (await storage.call("DELETE", f"/v1/files/{id}")).status_code == 404


async def test_the_list_pages_and_filters(storage: Any) -> None:
    ids = []
    for number in range(3):
        purpose = "batch" if number == 1 else "fine-tune"
        ids.append((await upload(storage, name=f"{number}.jsonl", purpose=purpose)).json()["id"])
        storage.parts.clock.advance(1.0)
    page = (await storage.call("GET", "/v1/files?limit=2")).json()
    assert [file["id"] for file in page["data"]] == [ids[2], ids[1]]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[2], ids[1], True)
    rest = (await storage.call("GET", f"/v1/files?limit=2&after={ids[1]}")).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    batch = (await storage.call("GET", "/v1/files?purpose=batch&order=asc")).json()
    assert [file["id"] for file in batch["data"]] == [ids[1]]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "world-peace"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"purpose": "x" * 5000}, "purpose"),
    ],
)
async def test_a_bad_purpose_keeps_nothing(
    storage: Any, objects: Any, form: dict[str, str], param: str
) -> None:
    answer = await upload(storage, **form)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert await kept(objects) == []


def form(*parts: str, end: str = "--B--\r\n") -> bytes:
    return "".join(f"--B\r\n{part}\r\n" for part in parts).encode() + end.encode()


FILE = 'Content-Disposition: form-data; name="file"; filename="../x/b.txt"\r\n\r\nbytes'
PURPOSE = 'Content-Disposition: form-data; name="purpose"\r\n\r\nuser_data'
FORM = {"content-type": "multipart/form-data; boundary=B"}


async def test_the_purpose_may_follow_the_file(storage: Any) -> None:
    answer = await storage.call("POST", "/v1/files", content=form(FILE, PURPOSE), headers=FORM)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["filename"], answer.json()["bytes"]) == ("b.txt", 5)


@pytest.mark.parametrize(
    "body",
    [
        form(FILE),
        form(PURPOSE),
        form(FILE, PURPOSE, end=""),
        form(PURPOSE, FILE, end=""),
        form(PURPOSE, FILE, FILE),
        form(PURPOSE, FILE.replace("../x/b.txt", "../")),
        form(PURPOSE, FILE.replace("; filename", ";;; filename=")),
        b"",
        b"rubbish",
        b"--B\r\nno header\r\n",
    ],
)
async def test_a_broken_form_keeps_nothing(storage: Any, objects: Any, body: bytes) -> None:
    answer = await storage.call("POST", "/v1/files", content=body, headers=FORM)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert await kept(objects) == []
    assert (await storage.call("GET", "/v1/files")).json()["data"] == []


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", ""])
async def test_another_type_than_a_form_is_refused(storage: Any, content_type: str) -> None:
    answer = await storage.call("POST", "/v1/files", content=b"{}", headers={"content-type": content_type})
    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["error"]["message"]


async def test_a_file_has_a_longest_size(storage: Any, objects: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FILE_LIMIT", 1000)
    assert (await upload(storage, b"x" * 1000)).status_code == 200
    answer = await upload(storage, b"x" * 1001)
    assert answer.status_code == 413
    assert len(await kept(objects)) == 1


async def test_a_full_database_keeps_nothing(
    storage: Any, objects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(Store, "add", full)
    assert (await upload(storage)).status_code == 503
    assert await kept(objects) == []


async def test_an_upload_is_streamed(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read arrives at the store before the next is asked for."""
    sizes: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        head = FILE.removesuffix("bytes")
        yield f"--B\r\n{PURPOSE}\r\n--B\r\n{head}".encode()
        for _ in range(50):
            yield b"x" * 65_536
        yield b"\r\n--B--\r\n"

    put = storage.parts.objects.put

    async def watch(key: str, data: AsyncIterator[bytes]) -> Any:
        async def seen() -> AsyncIterator[bytes]:
            async for chunk in data:
                sizes.append(len(chunk))
                yield chunk

        return await put(key, seen())

    monkeypatch.setattr(storage.parts.objects, "put", watch)
    answer = await storage.call("POST", "/v1/files", content=chunks(), headers=FORM)
    assert answer.json()["bytes"] == 50 * 65_536
    assert max(sizes) <= 2 * 65_536


async def test_what_unfinished_uploads_left_is_swept(make_parts: Any, objects: Any, storage: Any) -> None:
    id = (await upload(storage)).json()["id"]
    await objects.put("files/zz/file_orphan", b"left over")
    clock = storage.parts.clock
    files = Files(Store(storage.parts.database), objects, clock, structlog.get_logger())
    newest = max([info.modified async for info in objects.list("")])
    clock.advance(newest - clock.time() + ORPHAN_AGE - 1)
    assert await files.sweep() == 0
    clock.advance(2)
    assert await files.sweep() == 1
    assert [key.rpartition("/")[2] for key in await kept(objects)] == [id]
