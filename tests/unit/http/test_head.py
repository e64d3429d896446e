"""The rules for heads that are ours: hosts, targets, names, hop-by-hop fields, ignored upgrades."""

import pytest

from moonpool.core.errors import BadRequest
from moonpool.http.head import (
    ACCEPTED_PRIVATE,
    check_host,
    check_names,
    drop_hop_by_hop,
    origin_target,
    without_upgrade,
)


@pytest.mark.parametrize("host", [b"a", b"a.b:1", b"127.0.0.1", b"[::1]", b"[::1]:80", b"a-b", b"%41"])
def test_hosts(host: bytes) -> None:
    check_host(host, required=True)


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a/", b"a@b", b"a:", b"a:123456", b"[::1", b"::1", b"a\xff", b"a:b"]
)
def test_what_is_no_host(host: bytes) -> None:
    with pytest.raises(BadRequest):
        check_host(host, required=False)


def test_only_http10_may_leave_the_host_out() -> None:
    check_host(None, required=False)
    with pytest.raises(BadRequest):
        check_host(None, required=True)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://a/x?y", "/x?y"),
        ("http://a", "/"),
        ("HTTPS://A/x", "/x"),
        ("http://a?y/z", "/?y/z"),
    ],
)
def test_absolute_targets_of_our_own_host(target: str, path: str) -> None:
    assert origin_target(target, b"a", "GET") == path


@pytest.mark.parametrize(
    "target", ["http://b/", "http://a:80/", "http://a@b/", "http://", "ftp://a/", "*", "a:80"]
)
def test_foreign_targets(target: str) -> None:
    with pytest.raises(BadRequest):
        origin_target(target, b"a", "GET")


def test_hop_by_hop_fields_and_those_that_connection_names() -> None:
    headers = {b"connection": b"X-A , Close,host", b"x-a": b"1", b"te": b"x", b"host": b"h", b"upgrade": b"u"}
    assert drop_hop_by_hop(headers) is True
    assert headers == {b"host": b"h"}
    assert drop_hop_by_hop({b"connection": b"keep-alive"}) is False


def test_our_own_names_are_stripped_and_underscores_refused() -> None:
    headers = {b"x-moonpool-user": b"u", b"x-moonpool-explain": b"1", b"x-moon": b"y"}
    check_names(headers, ACCEPTED_PRIVATE)
    assert headers == {b"x-moonpool-explain": b"1", b"x-moon": b"y"}
    with pytest.raises(BadRequest):
        check_names({b"x_a": b""}, ACCEPTED_PRIVATE)


def test_an_upgrade_is_taken_out_of_a_whole_first_head_only() -> None:
    raw = b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nHost: a\r\n\r\nUpgrade: body\r\n"
    assert without_upgrade(raw) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\nUpgrade: body\r\n"
    assert without_upgrade(raw[:20]) is None
    assert without_upgrade(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nupgrade: x\r\n\r\n") is None
