"""A stored moment never breaks the command that shows it."""

from datetime import UTC, timedelta, timezone

import pytest

from moonpool.cli.moments import TO_THE_MINUTE, spell_moment


def test_a_moment_is_shown_in_its_zone() -> None:
    assert spell_moment(1_767_225_600.5, zone=UTC) == "2026-01-01 00:00:00"
    assert spell_moment(1_767_225_600, TO_THE_MINUTE, zone=timezone(timedelta(hours=2))) == "2026-01-01 02:00"
    assert spell_moment(None) == "-"


@pytest.mark.parametrize(
    "moment", [1e300, -1e300, 1e12, float(2**63), 253_402_300_799.0, float("inf"), float("nan")]
)
def test_what_no_calendar_has_is_shown_as_a_number(moment: float) -> None:
    assert spell_moment(moment, zone=timezone(timedelta(hours=14))) == f"{moment:g}"
