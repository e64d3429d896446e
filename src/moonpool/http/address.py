"""Where an endpoint is: parsed once, compared and hashed on every request."""

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Address:
    """`unix:/path`, `http://host:port/base` or `https://host/base`. Immutable by convention of `parse`.

    `base` is put before every request's path ("" or "/v1"); `host_field` is the Host header's value;
    `socket_path` is "" for TCP.
    """

    __slots__ = ("_hash", "base", "host", "host_field", "port", "socket_path", "tls", "url")

    url: str
    host: str
    port: int
    socket_path: str
    tls: bool
    base: str
    host_field: bytes

    def __init__(
        self, url: str, *, host: str, port: int, socket_path: str, tls: bool, base: str, host_field: bytes
    ) -> None:
        values = {
            "url": url,
            "host": host,
            "port": port,
            "socket_path": socket_path,
            "tls": tls,
            "base": base,
            "host_field": host_field,
            "_hash": hash((host, port, socket_path, tls, base)),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an address does not change: {name}")

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises ValueError, with what is wrong, for anything that is no endpoint."""
        if url.startswith("unix:"):
            path = url.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("///") else path
            if not path.startswith("/") or "\0" in path:
                raise ValueError(f"{url!r}: unix: needs an absolute path")
            return cls(url, host="", port=0, socket_path=path, tls=False, base="", host_field=b"localhost")
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"{url!r}: an endpoint is unix:/path, http://host[:port] or https://host[:port]")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(f"{url!r}: an endpoint has no user, query or fragment")
        default = _DEFAULT_PORTS[parts.scheme]
        port = default if parts.port is None else parts.port
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        field = name if port == default else f"{name}:{port}"
        base = parts.path.rstrip("/")
        if not (base + field).isascii() or any(c <= " " for c in base + field):
            raise ValueError(f"{url!r}: an endpoint is written in ASCII without blanks")
        return cls(
            url,
            host=parts.hostname,
            port=port,
            socket_path="",
            tls=parts.scheme == "https",
            base=base,
            host_field=field.encode(),
        )

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Address):
            return NotImplemented
        return (
            self.host == other.host
            and self.port == other.port
            and self.socket_path == other.socket_path
            and self.tls == other.tls
            and self.base == other.base
        )

    def __repr__(self) -> str:
        return f"Address({self.url!r})"

    def __str__(self) -> str:
        return self.url
