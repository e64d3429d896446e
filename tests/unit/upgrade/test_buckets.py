"""Buckets: where a caller is, and whose a bucket is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.routing import FULL
from moonpool.upgrade.buckets import Buckets, bucket_of, network_of, runs, table


def test_a_bucket_is_the_same_everywhere() -> None:
    """Fixed numbers: gateways of two versions must agree while one follows the other."""
    assert [bucket_of(b"salt", unit) for unit in ("ann", "bob", "")] == [8191, 9257, 6859]
    assert Buckets("salt").of("ann") == bucket_of(b"salt", "ann")


def test_buckets_are_even() -> None:
    counts = Counter(bucket_of(b"s", str(n)) // 1_000 for n in range(20_000))
    chi_square = sum((count - 2_000) ** 2 / 2_000 for count in counts.values())

    assert chi_square < 27.9  # 9 degrees of freedom, one in a thousand


def test_what_is_remembered_is_bounded_and_right() -> None:
    buckets = Buckets("s", limit=100)
    for number in range(1_000):
        assert buckets.of(str(number % 130)) == bucket_of(b"s", str(number % 130))
        assert len(buckets) <= 100


def test_networks() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8::1") == network_of("2001:db8:0:0:ffff::2") == "2001:db8::/64"
    assert network_of("not:an:address") == "not:an:address"
    assert Buckets("s").of_address("2001:db8::1") == bucket_of(b"s", "2001:db8::/64")


@given(st.lists(st.integers(0, 2_500), min_size=1, max_size=4), st.integers(0, 4))
def test_every_bucket_is_somebodys(others: list[int], place: int) -> None:
    weights = [(f"r{n}", weight) for n, weight in enumerate(others)]
    weights.insert(min(place, len(weights)), ("d", FULL - sum(others)))
    found = table(runs(dict(weights), "d"), {label: label for label, _ in weights})

    assert len(found) == FULL
    assert Counter(found) == Counter({label: weight for label, weight in weights if weight})
