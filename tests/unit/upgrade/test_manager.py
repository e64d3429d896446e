"""Whole upgrades, from start to end, with the manager on a real database and a fleet in memory."""

from typing import Any

import pytest

from moonpool.contracts.documents.validation import DocumentFault
from moonpool.contracts.upgrades import (
    Rehearsal,
    ShadowPlan,
    StartUpgrade,
    StepPlan,
    Strategy,
    UpgradePlan,
    UpgradeView,
)
from moonpool.core.errors import Conflict, MoonpoolError, NotFound
from moonpool.upgrade.state import Command

CANARY = UpgradePlan(steps=(5.0, 50.0), soak_seconds=10, minimum_sample=20, observe_seconds=3)


async def begin(stage: Any, plan: UpgradePlan = CANARY, to: str = "v2") -> UpgradeView:
    view = await stage.manager.start(StartUpgrade(service="chat", to=to, plan=plan, reason="better"), "ada")
    assert isinstance(view, UpgradeView)
    return view


async def test_a_canary_goes_all_the_way(stage) -> None:
    await begin(stage)

    await stage.until("done")

    view = await stage.manager.view("chat")
    assert view.outcome == "promoted"
    assert stage.fleet.wanted == {("chat", "v2"): 2}
    assert [new for _, new in stage.documents.weights] == [0, 500, 5000, 10_000, 10_000, 10_000]
    routing = stage.documents.followed["chat"].routing
    assert (routing.default, routing.upgrade, [share.release for share in routing.shares]) == (
        "v2",
        "",
        ["v2"],
    )
    history, _ = await stage.store.history(service="chat")
    told = [(entry.who, entry.what) for entry in reversed(history)]
    assert told == [
        ("ada", "canary from v1 to v2 started"),
        ("manager", "stage"),
        ("manager", "canary: 5 %"),
        ("manager", "canary: 50 %"),
        ("manager", "promote"),
        ("manager", "drain"),
        ("manager", "observe"),
        ("manager", "done"),
    ]
    assert "0 errors" in history[1].evidence["v2"]


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
async def test_a_switch_needs_no_traffic(stage, strategy) -> None:
    stage.fleet.wanted["chat", "v1"] = 3
    await begin(stage, UpgradePlan(strategy=Strategy(strategy), observe_seconds=2, keep_old_seconds=2))

    await stage.until("done", per_second=0)

    assert stage.fleet.wanted == {("chat", "v2"): 3}


async def test_rolling_never_has_more_than_one_instance_too_many(stage) -> None:
    stage.fleet.wanted["chat", "v1"] = 4
    await begin(stage, UpgradePlan(strategy=Strategy.ROLLING, soak_seconds=2, observe_seconds=1))
    most = 0
    while (await stage.manager.view("chat")).phase != "done":
        await stage.second(rounds=1)
        most = max(most, sum(stage.fleet.wanted.values()))
        assert sum(stage.fleet.wanted.values()) >= 4
    assert most == 5
    assert stage.fleet.asked == ["v2=1", "v2=2", "v1=3", "v2=3", "v1=2", "v2=4", "v1=1", "v1=0"]


async def test_a_worse_release_is_rolled_back_by_itself(stage) -> None:
    await begin(stage)
    await stage.until("canary")

    await stage.until("rolled_back", errors=0.3)

    view = await stage.manager.view("chat")
    assert view.outcome == "rolled_back"
    assert "errors" in view.reason
    assert stage.fleet.wanted == {("chat", "v1"): 2}
    assert stage.documents.followed["chat"].routing.default == "v1"
    assert [one.title for one in view.path] == ["preflight", "stage", "roll back", "rolled back"]


async def test_a_paused_upgrade_still_rolls_back_by_itself(stage) -> None:
    await begin(stage)
    await stage.until("canary")
    await stage.manager.say("chat", Command.PAUSE, "lunch", "ada")
    await stage.second()
    assert (await stage.manager.view("chat")).phase == "paused"

    await stage.until("rolled_back", errors=0.9, per_second=1000)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (("crashed", "the database is newer than this code", 0), "newer than this code"),
        (("crashed", "ended by signal 11", 3), "crash loop"),
        (("starting", "", 0), "not ready in"),
    ],
)
async def test_a_release_that_does_not_start_changes_nothing(stage, bad, reason) -> None:
    stage.fleet.bad["v2"] = bad
    await begin(stage)

    await stage.until("rolled_back")

    assert reason in (await stage.manager.view("chat")).reason
    assert stage.fleet.wanted == {("chat", "v1"): 2}
    assert all(new == 0 for _, new in stage.documents.weights)


async def test_a_release_that_crashes_under_traffic_loses_it_at_once(stage) -> None:
    await begin(stage)
    await stage.until("canary")
    for _ in range(5):
        await stage.second()
    assert stage.documents.weights[-1][1] == 500

    stage.fleet.bad["v2"] = ("crashed", "ended by signal 9", 1)
    await stage.second(rounds=1)

    assert stage.documents.weights[-1][1] == 0
    await stage.until("rolled_back")


async def test_no_data_pauses(stage) -> None:
    await begin(stage, UpgradePlan(steps=(5.0,), soak_seconds=5, patience_seconds=30))

    await stage.until("paused", per_second=0)

    assert "no data" in (await stage.manager.view("chat")).reason


async def test_an_experiment_waits_for_a_person(stage) -> None:
    plan = UpgradePlan(strategy=Strategy.AB, split=50, soak_seconds=5, minimum_sample=20, observe_seconds=1)
    await begin(stage, plan)
    await stage.until("canary")
    for _ in range(60):
        await stage.second()
    view = await stage.manager.view("chat")
    assert (view.phase, view.waiting_for) == ("canary", "the experiment to be concluded")

    await stage.manager.say("chat", Command.PROMOTE, "nice", "ada")

    await stage.until("done")


async def test_a_shadow_leaves_nothing_behind(stage) -> None:
    plan = UpgradePlan(strategy=Strategy.SHADOW, shadow=ShadowPlan(seconds=3, minimum_sample=0))
    await begin(stage, plan)
    await stage.until("shadow")
    await stage.second()
    mirror = stage.documents.followed["chat"].routing.mirror
    assert (mirror.release, mirror.share) == ("v2", 1000)

    await stage.until("done")

    assert (await stage.manager.view("chat")).outcome == "compared"
    assert stage.fleet.wanted == {("chat", "v1"): 2}
    assert stage.documents.followed["chat"].routing.mirror is None


async def test_a_killed_manager_goes_on_with_its_evidence(stage) -> None:
    await begin(stage)
    await stage.until("canary")
    for _ in range(6):
        await stage.second()
    running = next(iter(stage.manager._running.values()))
    seen = (await stage.manager.view("chat")).new.numbers.requests
    await stage.manager._save(running)
    last = stage.report(new=7)
    running.take(last)
    await stage.manager._save(running)

    await stage.kill()

    resumed = next(iter(stage.manager._running.values()))
    assert resumed.take(last) is False, "a report that comes again is counted again"
    assert (await stage.manager.view("chat")).new.numbers.requests == seen + 7
    await stage.until("done")


async def test_nothing_is_done_while_the_fleet_or_the_documents_are_away(stage) -> None:
    await begin(stage)
    await stage.until("canary")
    stage.fleet.away = True
    await stage.second()
    assert (await stage.manager.view("chat")).waiting_for == "the supervisor is away"
    stage.fleet.away = False
    stage.documents.away = True
    await stage.second()
    stage.documents.away = False

    await stage.until("done")


async def test_rollback_undoes_what_is_done(stage) -> None:
    await begin(stage)
    await stage.until("done")
    stage.documents.labels = ["v1", "v2"]

    await stage.manager.rollback("chat", "regret", "ada")

    await stage.until("done", per_second=0)
    assert stage.fleet.wanted == {("chat", "v1"): 2}
    assert stage.documents.followed["chat"].routing.default == "v1"


async def test_rollback_with_the_old_release_gone_is_refused(stage) -> None:
    stage.documents.labels = ["v2", "v3"]
    await begin(stage)
    await stage.until("done")
    await begin(stage, UpgradePlan(strategy=Strategy.ROLLING, observe_seconds=1), to="v3")
    await stage.until("done", per_second=0)
    stage.documents.labels = ["v3"]

    with pytest.raises(Conflict) as refused:
        await stage.manager.rollback("chat", "", "ada")

    assert refused.value.code == "release_gone"
    assert "release add" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"to": "v9"}, "no release chat@v9"),
        ({"to": "v1"}, "what runs already"),
        ({"service": "chatt"}, "no service 'chatt'"),
        ({"service": "gateway", "plan": CANARY}, "cannot be upgraded by canary"),
        ({"plan": UpgradePlan(steps=(50.0, 5.0))}, "not above the step before"),
        ({"plan": UpgradePlan(steps=(StepPlan(weight=80, replicas=1),))}, "80 % is more than 1 of 2"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_way_out(stage, wish, message) -> None:
    stage.fleet.wanted["gateway", "v1"] = 1
    with pytest.raises(MoonpoolError) as refused:
        await stage.manager.start(StartUpgrade(**{"service": "chat", "to": "v2", **wish}), "ada")

    assert message in refused.value.message
    assert refused.value.hint
    assert isinstance(refused.value, Conflict | NotFound | DocumentFault)
    assert await stage.store.active() == []
    assert stage.fleet.asked == []
    assert stage.documents.weights == []


async def test_one_upgrade_a_service_at_a_time(stage) -> None:
    await begin(stage)
    with pytest.raises(Conflict) as refused:
        await begin(stage)
    assert refused.value.code == "upgrade_running"


async def test_a_dry_run_tells_and_changes_nothing(stage) -> None:
    told = await stage.manager.start(StartUpgrade(service="chat", to="v2", dry_run=True), "ada")

    assert isinstance(told, Rehearsal)
    assert any("25 %" in line for line in told.steps)
    assert await stage.store.active() == []
    assert stage.fleet.asked == []


async def test_words_that_make_no_sense_are_refused(stage) -> None:
    with pytest.raises(NotFound):
        await stage.manager.say("chat", Command.PAUSE, "", "ada")
    await begin(stage)
    with pytest.raises(Conflict, match="not paused"):
        await stage.manager.say("chat", Command.RESUME, "", "ada")
    await stage.manager.say("chat", Command.ABORT, "changed my mind", "ada")
    with pytest.raises(Conflict, match="on its way back"):
        await stage.manager.say("chat", Command.PROMOTE, "", "ada")
    await stage.until("rolled_back")
    with pytest.raises(Conflict, match="has ended"):
        await stage.manager.say("chat", Command.PAUSE, "", "ada")


async def test_a_document_is_given_back_whoever_was_away_or_killed_at_the_end(stage) -> None:
    plan = UpgradePlan(strategy=Strategy.BLUE_GREEN, keep_old_seconds=1, observe_seconds=1)
    await begin(stage, plan)
    await stage.until("observe", per_second=0)
    write = stage.documents.write

    async def refuse(*_: object, **__: object) -> None:
        raise Conflict("somebody was quicker")

    stage.documents.write = refuse
    await stage.until("done", per_second=0)
    assert stage.documents.followed["chat"].routing.upgrade
    stage.documents.write = write

    await stage.kill()
    await stage.manager.turn()

    assert stage.documents.followed["chat"].routing.upgrade == ""
