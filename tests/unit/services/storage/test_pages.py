"""The web pages: served as packaged, safely, and nothing else."""

import re
from typing import Any

import pytest

from moonpool.core.principal import ANONYMOUS
from moonpool.services.storage.pages import load_pages

PAGES = load_pages()


async def test_the_index_is_served_safely(storage: Any) -> None:
    answer = await storage.call("GET", "/", caller=ANONYMOUS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


async def test_the_index_may_be_asked_for_its_head(storage: Any) -> None:
    answer = await storage.call("HEAD", "/", caller=ANONYMOUS)
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(PAGES["index.html"].content))


@pytest.mark.parametrize("path", [path for path in PAGES if path.startswith("assets/")])
async def test_every_asset_has_type_and_etag(storage: Any, path: str) -> None:
    answer = await storage.call("GET", f"/{path}", caller=ANONYMOUS)
    assert answer.status_code == 200
    assert answer.content == PAGES[path].content
    kind = PAGES[path].content_type
    assert answer.headers["content-type"] == kind + ("; charset=utf-8" if kind.startswith("text/") else "")
    known = {"if-none-match": f'"other", W/{answer.headers["etag"]}'}
    again = await storage.call("GET", f"/{path}", caller=ANONYMOUS, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    changed = await storage.call("GET", f"/{path}", headers={"if-none-match": '"other"'})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../index.html",
        "/assets/%2e%2e/pages.py",
        "/assets//etc/passwd",
        "/assets/..%2f..%2fapp.py",
        "/assets/none.js",
        "/assets/",
        "/index.html",
    ],
)
async def test_nothing_else_is_served(storage: Any, path: str) -> None:
    answer = await storage.call("GET", path, caller=ANONYMOUS)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_pages_refer_only_to_what_is_packaged() -> None:
    for path, page in PAGES.items():
        text = page.content.decode()
        assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text), path
        assert not re.search(r"\bon\w+=|<script>|style=", text) or path.endswith((".js", ".css")), path
        for reference in re.findall(r"[\"'](/assets/[^\"']+)[\"']", text):
            assert reference.removeprefix("/") in PAGES, f"{path} refers to {reference}"


def test_every_control_has_a_name() -> None:
    html = PAGES["index.html"].content.decode()
    for control in re.findall(r"<(?:input|select|textarea)[^>]*>", html):
        id = re.search(r'id="([^"]+)"', control)
        assert id is not None, control
        assert f'<label for="{id[1]}"' in html, control
    script = PAGES["assets/app.js"].content.decode()
    for id in re.findall(r'\$\("([^"]+)"\)', script):
        assert f'id="{id}"' in html
