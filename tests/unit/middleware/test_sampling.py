"""Which traces that begin here are recorded."""

import random

import pytest

from moonpool.middleware.sampling import Sampler

CHANCE = random.Random(7)
IDS = [f"{CHANCE.getrandbits(128):032x}" for _ in range(4000)]


def test_none_and_all() -> None:
    assert not any(Sampler(0.0).flags(id, 1.0) for id in IDS)
    assert not Sampler(0.0).flags("f" * 32, 1.0)
    assert all(Sampler(1.0, per_second=10_000).flags(id, 1.0) for id in [*IDS, "0" * 32])


@pytest.mark.parametrize("share", [0.01, 0.25, 0.9])
def test_a_share_by_the_id(share: float) -> None:
    taken = [id for id in IDS if Sampler(share).flags(id, 1.0)]
    assert len(taken) / len(IDS) == pytest.approx(share, abs=0.03)
    # W3C level 2: the last 56 bits, as a number, at or above 1 - share
    assert min(int(id[-14:], 16) for id in taken) >= (1 - share) * 2**56
    assert set(taken) == {id for id in IDS if Sampler(share).flags(id, 99.0)}


def test_no_more_than_so_many_a_second() -> None:
    sampler = Sampler(1.0, per_second=3)
    assert [sampler.flags("f" * 32, 5.0 + n / 100) for n in range(5)] == [1, 1, 1, 0, 0]
    assert sampler.flags("f" * 32, 6.0) == 1
