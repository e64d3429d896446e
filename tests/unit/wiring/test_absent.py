import sys

import pytest

from moonpool.wiring.absent import without


def test_it_is_absent_while_this_lasts_and_there_again_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with without(("colorsys",)), pytest.raises(ImportError):
        import colorsys
    import colorsys

    assert colorsys.rgb_to_hls


def test_what_is_loaded_stays() -> None:
    with without(("sys",)):
        import sys as again
    assert again is sys.modules["sys"]


def test_a_fault_inside_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), without(("is.not.loaded",)):
        raise ZeroDivisionError
    assert "is.not.loaded" not in sys.modules
