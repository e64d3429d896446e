"""Stored moments as people read them. Whatever is stored can be shown: a command that lists things must not
break on one of them."""

from datetime import UTC, datetime, tzinfo

TO_THE_MINUTE = "%Y-%m-%d %H:%M"
TO_THE_SECOND = "%Y-%m-%d %H:%M:%S"
NOTHING = "-"


def spell_moment(moment: float | None, form: str = TO_THE_SECOND, *, zone: tzinfo | None = None) -> str:
    """`moment`, Unix seconds, in `zone` (None: the terminal's own); as a number when no calendar has it."""
    if moment is None:
        return NOTHING
    try:
        return datetime.fromtimestamp(moment, UTC).astimezone(zone).strftime(form)
    except (OverflowError, OSError, ValueError):  # of C's time_t, of gmtime, of the year
        return f"{moment:g}"
