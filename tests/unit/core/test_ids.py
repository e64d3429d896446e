import pytest

from moonpool.core.clock import ManualClock
from moonpool.core.ids import ALPHABET, encode, new_id


def test_an_id_has_its_prefix_and_26_characters() -> None:
    prefix, _, rest = new_id("key").partition("_")
    assert prefix == "key"
    assert len(rest) == 26
    assert set(rest) <= set(ALPHABET)


def test_ids_sort_by_time() -> None:
    clock = ManualClock()
    ids = []
    for _ in range(50):
        ids.append(new_id("conv", clock))
        clock.advance(0.01)
    assert ids == sorted(ids)


def test_ids_of_one_moment_differ() -> None:
    clock = ManualClock()
    assert len({new_id("msg", clock) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(("number", "text"), [(0, "0000"), (31, "000z"), (32, "0010"), (2**20 - 1, "zzzz")])
def test_encode(number: int, text: str) -> None:
    assert encode(number, 4) == text
