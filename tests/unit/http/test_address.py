"""Addresses: parsed once, equal by where they lead."""

import pytest

from moonpool.http.address import Address


@pytest.mark.parametrize(
    ("url", "host", "port", "base", "field", "tls"),
    [
        ("http://a:9100/v1", "a", 9100, "/v1", b"a:9100", False),
        ("http://a/v1/", "a", 80, "/v1", b"a", False),
        ("https://api.example", "api.example", 443, "", b"api.example", True),
        ("https://a:443/", "a", 443, "", b"a", True),
        ("http://[::1]:80/x", "::1", 80, "/x", b"[::1]", False),
    ],
)
def test_tcp(url: str, host: str, port: int, base: str, field: bytes, tls: bool) -> None:
    address = Address.parse(url)
    assert (address.host, address.port, address.base, address.host_field, address.tls) == (
        host,
        port,
        base,
        field,
        tls,
    )
    assert str(address) == url


def test_unix() -> None:
    address = Address.parse("unix:/run/a.sock")
    assert (address.socket_path, address.host_field, address.base) == ("/run/a.sock", b"localhost", "")
    assert address == Address.parse("unix:///run/a.sock")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "a:1",
            "ftp://a",
            "http://",
            "http:///x",
            "unix:",
            "unix:relative",
            "http://a:x",
            "http://a:99999",
        ),
        *("http://u:p@a", "http://a?q", "http://a#f", "http://a/b c", "http://ä", "http://a/\r\nx: y"),
    ],
)
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Address.parse(url)


def test_equal_addresses_share_a_pool_and_do_not_change() -> None:
    one, two = Address.parse("http://a/"), Address.parse("http://a:80")
    assert one == two
    assert hash(one) == hash(two)
    assert one != Address.parse("https://a:80")
    with pytest.raises(AttributeError):
        one.port = 81
