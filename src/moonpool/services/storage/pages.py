"""The web client's files, held in memory: what is served is what was packaged, hence no path can escape."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import NamedTuple

INDEX = "index.html"
CONTENT_TYPES = {  # Litestar adds the charset to text
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
HEADERS = {
    # Nothing from elsewhere, no inline script, not to be framed (CSP level 3; OWASP secure headers).
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # May be kept, and is asked about each time: an upgrade shows at the next load (RFC 9111 §5.2.2.4).
    "cache-control": "no-cache",
}


class Page(NamedTuple):
    content: bytes
    content_type: str
    etag: str

    def matches(self, if_none_match: str | None) -> bool:
        """Whether the client has this already; weak comparison (RFC 9110 §13.1.2)."""
        if if_none_match is None:
            return False
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return self.etag in tags or tags == ["*"]


def load_pages() -> dict[str, Page]:
    """By path below the folder `site`, such as `index.html`."""
    pages: dict[str, Page] = {}
    _collect(files("moonpool.services.storage") / "site", "", pages)
    return pages


def _collect(folder: Traversable, prefix: str, pages: dict[str, Page]) -> None:
    for entry in folder.iterdir():
        path = prefix + entry.name
        content_type = CONTENT_TYPES.get(PurePosixPath(entry.name).suffix)
        if entry.is_dir():
            _collect(entry, path + "/", pages)
        elif content_type is not None:
            content = entry.read_bytes()
            pages[path] = Page(content, content_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
