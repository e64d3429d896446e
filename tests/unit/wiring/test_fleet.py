"""The fleet with places and keepers that start nothing."""

import asyncio

import msgspec
import pytest

from moonpool.contracts.releases import CommandSource, EndpointSource, EnvironmentSource, ImageSource, Release
from moonpool.core.errors import BadRequest, Conflict, NotFound
from moonpool.ports.discovery import Instance
from moonpool.wiring.fleet import LocalFleet
from moonpool.wiring.keeper import Probe, Slot
from moonpool.wiring.layout import Layout
from moonpool.wiring.registry import Module
from moonpool.wiring.shelf import Shelf

MODULES = (
    Module(name="gateway", entry="x:y", public=True),
    Module(name="chat", entry="x:y"),
    Module(name="inference", entry="x:y"),
)


class Kept:
    """Ready at once; drains until it is let."""

    def __init__(self, slot, release):
        self.slot = slot
        self.failure = ""
        self.was_ready = False
        self.stopping = False
        self.hurried = False
        self.settled = 0.0
        self.drained = asyncio.Event()
        self.instance = Instance(
            name=slot.name,
            release=slot.release,
            instance=f"{slot.name}-{slot.number}-x",
            pid=1,
            state="starting",
            endpoint=slot.endpoint,
        )

    def tell(self, state):
        self.instance = msgspec.structs.replace(self.instance, state=state)

    def start(self):
        self.tell("ready")

    async def stop(self):
        self.hurry()
        await self.retire(settle=0.0)

    def hurry(self):
        self.hurried = True

    async def retire(self, *, settle):
        self.stopping = True
        self.settled = settle
        self.tell("draining")
        await self.drained.wait()
        self.tell("stopped")

    def kill(self):
        self.drained.set()


class Places:
    def __init__(self, log):
        self.taken = []
        self._log = log

    def take(self, module, release):
        number = next(n for n in range(99) if (module.name, n) not in self.taken)
        self.taken.append((module.name, number))
        return Slot(
            name=module.name,
            release=release.label,
            number=number,
            endpoint="unix:/x",
            probe=Probe(endpoint="unix:/x"),
            sockets=(),
            log=self._log,
            drain_timeout=1.0,
        )

    def give_back(self, slot):
        self.taken.remove((slot.name, slot.number))


@pytest.fixture
def shelf(tmp_path):
    layout = Layout(tmp_path)
    layout.create()
    shelf = Shelf(layout)
    shelf.follow("chat", [Release(service="chat", label="v2")], 0.0)
    return shelf


@pytest.fixture
def make(shelf, tmp_path):
    """A fleet that runs; its `places` and `changes` are attributes."""

    def start(**replicas):
        places, changes = Places(tmp_path / "x.log"), []
        fleet = LocalFleet(
            modules=MODULES,
            replicas=replicas,
            alone=frozenset({"gateway"}),
            shelf=shelf,
            places=places,
            make=Kept,
            settle=0.5,
            changed=lambda: changes.append(1),
        )
        fleet.prepare()
        fleet.start()
        fleet.places, fleet.changes = places, changes
        return fleet

    return start


def there(fleet, service="chat"):
    return [(one.slot.release, one.slot.number) for one in fleet.kept if one.slot.name == service]


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_a_word_the_first_releases_run(make):
    fleet = make(chat=2)
    assert there(fleet) == [("v1", 0), ("v1", 1)]
    assert [(d.service, d.release, d.replicas, d.ready) for d in await fleet.deployments("chat")] == [
        ("chat", "v1", 2, 2)
    ]


async def test_a_second_release_beside_the_first_is_kept_and_asking_again_changes_nothing(make, shelf):
    fleet = make()
    for _ in range(2):
        await fleet.ensure("chat", "v2", 2)
        assert there(fleet) == [("v1", 0), ("v2", 1), ("v2", 2)]
    assert shelf.desired().modules == {"chat": {"v1": 1, "v2": 2}}
    assert there(make()) == [("v1", 0), ("v2", 1), ("v2", 2)]  # whoever comes after a kill -9


async def test_what_is_removed_drains_and_its_place_is_free_only_then(make, shelf):
    fleet = make()
    await fleet.ensure("chat", "v2", 1)
    old = fleet.kept[-2]
    await fleet.remove("chat", "v1")
    await fleet.remove("chat", "v1")
    await turn()
    assert (old.instance.state, old.settled) == ("draining", 0.5)
    assert [(d.release, d.replicas, d.gone) for d in await fleet.deployments("chat")] == [
        ("v2", 1, False),
        ("v1", 0, False),
    ]
    await fleet.ensure("chat", "v1", 1)  # called back: another place, the old one is not free yet
    assert ("v1", 2) in there(fleet)
    old.drained.set()
    await turn()
    assert old not in fleet.kept
    assert ("chat", 0) not in fleet.places.taken


async def test_the_only_release_and_the_last_instance_stay(make):
    fleet = make()
    with pytest.raises(Conflict, match="only release"):
        await fleet.remove("chat", "v1")
    with pytest.raises(Conflict, match="all that chat should have"):
        await fleet.drain("chat-0-x")
    assert there(fleet) == [("v1", 0)]


async def test_draining_one_instance_lowers_what_should_run(make, shelf):
    fleet = make(chat=2)
    await fleet.drain("chat-1-x")
    await turn()
    assert [one.instance.state for one in fleet.kept if one.slot.name == "chat"] == ["ready", "draining"]
    assert shelf.desired().modules == {"chat": {"v1": 1}}
    await fleet.drain("chat-1-x")
    await fleet.drain("nobody")
    assert shelf.desired().modules == {"chat": {"v1": 1}}


async def test_of_a_surplus_those_of_no_use_go_first(make):
    fleet = make(chat=3)
    first, second, third = (one for one in fleet.kept if one.slot.name == "chat")
    second.tell("crashed")
    await fleet.ensure("chat", "v1", 1)
    await turn()
    assert [one.stopping for one in (first, second, third)] == [False, True, True]


async def test_back_to_what_the_configuration_says_nothing_is_kept(make, shelf):
    fleet = make()
    await fleet.ensure("chat", "v2", 1)
    await fleet.remove("chat", "v2")
    assert shelf.desired().modules == {}


@pytest.mark.parametrize(
    ("source", "error", "why"),
    [
        (ImageSource(image="x"), BadRequest, "image"),
        (EnvironmentSource(path="/nowhere"), BadRequest, "is gone"),
    ],
)
async def test_what_this_machine_cannot_run_is_refused(make, shelf, source, error, why):
    shelf.follow("chat", [Release(service="chat", label="odd", source=source)], 0.0)
    fleet = make()
    with pytest.raises(error, match=why):
        await fleet.ensure("chat", "odd", 1)
    assert shelf.desired().modules == {}


async def test_refusals(make, shelf):
    fleet = make()
    far = Release(service="inference", label="far", source=EndpointSource(url="http://x/v1"))
    own = Release(service="gateway", label="own", source=CommandSource(argv=("x", "{socket}")))
    for one in (far, own):
        shelf.follow(one.service, [one], 0.0)
    for service, label, replicas, error in (
        ("chat", "v9", 1, NotFound),
        ("nosuch", "v1", 1, NotFound),
        ("chat", "v2", 0, BadRequest),
        ("chat", "v2", 1000, BadRequest),
        ("inference", "far", 2, BadRequest),
        ("gateway", "v1", 2, BadRequest),
        ("gateway", "own", 1, BadRequest),
    ):
        with pytest.raises(error):
            await fleet.ensure(service, label, replicas)
    assert shelf.desired().modules == {}


async def test_a_module_whose_release_is_lost_runs_its_first_one(make, shelf):
    fleet = make()
    await fleet.ensure("chat", "v2", 1)
    await fleet.remove("chat", "v1")
    (shelf._folder / "list.json").unlink()
    assert there(make()) == [("v1", 0)]


async def test_a_release_that_falls_beside_a_good_one_is_not_waited_for(make):
    fleet = make()
    await fleet.ensure("chat", "v2", 1)
    bad = fleet.kept[-1]
    bad.tell("crashed")
    bad.failure = "no such database"
    assert list(fleet.unready("ready")) == []
    assert fleet.hopeless() is None
    good = next(one for one in fleet.kept if one.slot.name == "chat")
    good.tell("crashed")
    assert bad in list(fleet.unready("ready"))
    good.failure = "neither"
    assert fleet.hopeless() is good


async def test_of_many_replacements_the_oldest_is_hurried(make):
    fleet = make()
    gone = []
    for label in ("v2", "v1", "v2"):
        old = next(one for one in fleet.kept if one.slot.name == "chat" and not one.stopping)
        await fleet.ensure("chat", label, 1)
        await fleet.remove("chat", old.slot.release)
        await turn()
        gone.append(old)
    assert [old.hurried for old in gone] == [False] * 3
    await fleet.ensure("chat", "v1", 1)
    await fleet.remove("chat", "v2")
    await turn()
    assert [old.hurried for old in gone] == [True, False, False]
    for old in gone[:2]:
        old.drained.set()
    await turn()
    await fleet.ensure("chat", "v2", 1)
    await fleet.remove("chat", "v1")
    await turn()
    assert not any(old.hurried for old in gone[1:])


async def test_fewer_instances_are_no_pile(make):
    fleet = make(chat=9)
    await fleet.ensure("chat", "v1", 1)
    await turn()
    left = [one for one in fleet.kept if one.slot.name == "chat" and one.stopping]
    assert (len(left), any(one.hurried for one in left)) == (8, False)


async def test_the_end_of_the_platform_hurries_what_drains(make):
    fleet = make()
    await fleet.ensure("chat", "v2", 1)
    old = fleet.kept[-2]
    await fleet.remove("chat", "v1")
    await turn()
    assert not old.hurried
    stopping = asyncio.create_task(fleet.stop(frozenset({"chat", "gateway", "inference"})))
    await turn()
    assert not stopping.done()
    assert old.hurried
    fleet.kill()
    await stopping
    await fleet.settle()
    assert ("v1", 0) not in there(fleet)
