"""Decisions counted by filter and verdict: only those of few fixed words."""

from moonpool.middleware.verdicts import ROWS, Verdicts


def test_counted_by_filter_and_verdict(make_ctx) -> None:
    verdicts = Verdicts()
    for verdict in ("hit", "miss", "hit"):
        ctx = make_ctx()
        ctx.decide("authentication", "allow", "key_1")
        ctx.decide("cache", verdict)
        ctx.decide("balancer", "inference-0-12345")
        verdicts.count(ctx)
    assert verdicts.totals() == {("authentication", "allow"): 3, ("cache", "hit"): 2, ("cache", "miss"): 1}


def test_a_verdict_that_is_no_fixed_word_cannot_flood_the_collector(make_ctx) -> None:
    verdicts = Verdicts()
    for number in range(ROWS * 2):
        ctx = make_ctx()
        ctx.decide("retry", f"try {number}")
        verdicts.count(ctx)
    totals = verdicts.totals()
    assert len(totals) == ROWS + 1
    assert totals["retry", "other"] == ROWS
