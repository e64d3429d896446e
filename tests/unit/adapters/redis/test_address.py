import pytest

from moonpool.adapters.redis.address import Address, parse_address
from moonpool.core.errors import StartupError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address(host="h")),
        ("redis://h:7000/3", Address(host="h", port=7000, database=3)),
        ("redis://:p%40ss@h/", Address(host="h", password="p@ss")),
        (
            "rediss://me:secret@[::1]:7000",
            Address(host="::1", port=7000, user="me", password="secret", tls=True),
        ),
        ("redis://h?timeout=0.2", Address(host="h", timeout=0.2)),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h:port",
        "redis://h/name",
        "redis://h/-1",
        "redis://h?timeout=soon",
        "redis://h?timeout=0",
        "redis://h?timeout=inf",
        "redis://h?retry=1",
        f"redis://{'h' * 64}.example",
        "redis://a..b",
        "memcached://h",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(StartupError) as refused:
        parse_address(url)
    assert refused.value.where == "infrastructure.cache"


def test_a_log_shows_no_password() -> None:
    assert str(parse_address("rediss://me:secret@h/1")) == "rediss://h:6379/1"
