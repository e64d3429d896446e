"""What the manager makes of a release's instances."""

from moonpool.ports.spawner import Deployment, Instance
from moonpool.upgrade.gates import ReleaseSeen
from moonpool.upgrade.looking import release_seen

NOW = 1000.0


def instance(state: str, *, since: float = 0.0, restarts: int = 0, reason: str = "") -> Instance:
    return Instance(
        name="chat",
        release="v2",
        instance="chat-1-x",
        pid=1,
        state=state,
        endpoint="unix:x",
        since=since,
        restarts=restarts,
        reason=reason,
    )


def seen(*instances: Instance, replicas: int = 1) -> ReleaseSeen:
    return release_seen(Deployment(service="chat", release="v2", replicas=replicas, instances=instances), NOW)


def test_nothing_of_it() -> None:
    assert release_seen(None, NOW) == ReleaseSeen()
    assert seen(instance("stopped"), replicas=0).gone


def test_what_drains_is_left() -> None:
    found = seen(instance("draining"), replicas=0)
    assert (found.left, found.ready, found.gone) == (1, 0, False)


def test_one_that_cannot_start_is_told_when_it_has_been_tried() -> None:
    refused = instance("crashed", reason="no database")
    assert seen(refused).failure == "no database"
    assert seen(instance("crashed", since=NOW, reason="no database")).failure == ""
    assert seen(instance("crashed", restarts=1, reason="no database")).failure == ""
    assert seen(refused, instance("ready")).failure == ""


def test_what_drains_from_an_earlier_time_is_no_witness() -> None:
    assert seen(instance("draining"), instance("crashed", reason="no database")).failure == "no database"
    assert seen(instance("draining")).failure == ""
