"""What runs, held to what should: the `Fleet` of one machine (ports/spawner.py), inside the supervisor.

    asked ──► kept (shelf.py) ──► places taken, keepers started · surplus told to drain ──► places given back

A supervisor that was killed finds what was kept and starts the same again.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from moonpool.contracts.releases import (
    FIRST,
    CommandSource,
    EndpointSource,
    EnvironmentSource,
    ImageSource,
    Release,
)
from moonpool.core.errors import BadRequest, Conflict, MoonpoolError, NotFound
from moonpool.ports.discovery import Instance
from moonpool.ports.spawner import Deployment
from moonpool.wiring.draining import surplus
from moonpool.wiring.foreign import listens_itself
from moonpool.wiring.keeper import Slot
from moonpool.wiring.places import MOST, Places
from moonpool.wiring.registry import Module, start_order
from moonpool.wiring.shelf import Shelf


class Kept(Protocol):
    """A place and what is in it: keeper.Keeper, or watch.Watch for what runs elsewhere."""

    slot: Slot
    instance: Instance
    failure: str
    was_ready: bool

    def start(self) -> None: ...

    async def retire(self, *, settle: float) -> None: ...

    async def stop(self) -> None: ...

    def hurry(self) -> None: ...

    def kill(self) -> None: ...


MakeKept = Callable[[Slot, Release], Kept]


class LocalFleet:
    """Implements ports.spawner.Fleet. `replicas` is how many of a module's first release run when nothing
    else was asked for; `alone` names modules of which one release may have one instance only.

    `make` makes what fills a place; `changed` is called when the list of instances has changed.
    """

    def __init__(
        self,
        *,
        modules: Sequence[Module],
        replicas: Mapping[str, int],
        alone: frozenset[str],
        shelf: Shelf,
        places: Places,
        make: MakeKept,
        settle: float,
        changed: Callable[[], None],
    ) -> None:
        self._modules = {module.name: module for module in start_order(modules)}
        self._replicas = {name: replicas.get(name, 1) for name in self._modules}
        self._alone = alone
        self._shelf = shelf
        self._places = places
        self._make = make
        self._settle = settle
        self._changed = changed
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving: list[Kept] = []
        self._unhurried: list[Kept] = []
        self._log = structlog.get_logger()
        self.kept: list[Kept] = []
        """Everything there is, in the order of starting; what drains included."""

    def prepare(self) -> None:
        """Take the places of all that should run, and start nothing. Raises StartupError."""
        for name in self._modules:
            for label, wanted in self._wanted(name).items():
                try:
                    release = self._find(name, label)
                except MoonpoolError as error:
                    self._log.error("a release cannot run", release=f"{name}@{label}", error=str(error))
                    continue
                for _ in range(wanted):
                    self._add(release)
            if self._of(name):
                continue
            for _ in range(self._replicas[name]):  # better the first one than none
                self._add(Release(service=name, label=FIRST))

    def start(self) -> None:
        for kept in self.kept:
            kept.start()

    # ── ports.spawner.Fleet ────────────────────────────────────────────────────────────────────────

    async def deployments(self, service: str = "") -> tuple[Deployment, ...]:
        return tuple(self._deployments(service))

    async def instances(self, service: str = "") -> tuple[Instance, ...]:
        return tuple(kept.instance for kept in self.kept if service in ("", kept.slot.name))

    async def ensure(self, service: str, release: str, replicas: int) -> None:
        found = self._find(service, release)
        if not 1 <= replicas <= MOST:
            raise BadRequest(f"{found.name} cannot run {replicas} times", hint=f"From 1 to {MOST}.")
        if replicas > 1 and isinstance(found.source, EndpointSource):
            raise BadRequest(f"{found.name} is an endpoint: there is one of it", hint="Ask for one replica.")
        if replicas > 1 and service in self._alone:
            raise BadRequest(
                f"more than one {service} of a release needs a shared cache, or each would count limits "
                "for itself",
                hint="Set infrastructure.cache to a redis:// URL.",
            )
        self._want(service, {**self._wanted(service), release: replicas})
        self._reconcile(found, replicas)

    async def drain(self, instance: str) -> None:
        kept = next((one for one in self.kept if one.instance.instance == instance), None)
        if kept is None or kept in self._leaving:
            return
        service, label = kept.slot.name, kept.slot.release
        wanted = dict(self._wanted(service))
        if sum(wanted.values()) <= 1:
            raise Conflict(
                f"{instance} is all that {service} should have",
                code="last_instance",
                hint="Start another instance or release first.",
            )
        left = wanted.pop(label, 1) - 1
        self._want(service, {**wanted, label: left} if left > 0 else wanted)
        self._retire([kept])

    async def remove(self, service: str, release: str) -> None:
        self._module(service)
        wanted = dict(self._wanted(service))
        if release in wanted:
            del wanted[release]
            if not wanted:
                raise Conflict(
                    f"{service}@{release} is the only release that {service} should have",
                    code="last_release",
                    hint="Start another release first.",
                )
            self._want(service, wanted)
        self._retire(self._of(service, release))

    # ── for the supervisor ─────────────────────────────────────────────────────────────────────────

    def unready(self, *states: str) -> Iterator[Kept]:
        """What the start of the platform still waits for: places not in `states`, without those whose
        release has fallen while another one of its module is well."""
        well = {one.slot.name for one in self.kept if one.instance.state in states}
        for kept in self.kept:
            fallen = kept.instance.state == "crashed" and not kept.was_ready
            if kept.instance.state not in states and not (fallen and kept.slot.name in well):
                yield kept

    def hopeless(self) -> Kept | None:
        """A place whose process says it cannot start, and never could; None while its module has another."""
        for kept in self.kept:
            if kept.failure and not kept.was_ready and self._all_refuse(kept.slot.name):
                return kept
        return None

    def _all_refuse(self, name: str) -> bool:
        return all(one.failure and not one.was_ready for one in self._of(name))

    async def stop(self, names: frozenset[str]) -> None:
        """Drain these modules' instances soon: nothing should run any more; what was asked for stays kept."""
        await asyncio.gather(*(kept.stop() for kept in list(self.kept) if kept.slot.name in names))

    async def settle(self) -> None:
        """Until what was told to drain on its own has ended."""
        if self._retiring:
            await asyncio.wait(self._retiring)

    def kill(self) -> None:
        for kept in self.kept:
            kept.kill()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    def _wanted(self, service: str) -> Mapping[str, int]:
        default = {FIRST: self._replicas[service]}
        return self._shelf.desired().modules.get(service, default)

    def _want(self, service: str, wanted: Mapping[str, int]) -> None:
        default = {FIRST: self._replicas[service]}
        self._shelf.want(service, None if wanted == default else dict(wanted))

    def _module(self, service: str) -> Module:
        if service not in self._modules:
            raise NotFound(
                f"no module {service!r} runs here",
                code="unknown_module",
                hint=f"There are {', '.join(self._modules)}.",
            )
        return self._modules[service]

    def _find(self, service: str, label: str) -> Release:
        """Raises NotFound, and BadRequest for what cannot run on this machine."""
        module = self._module(service)
        release = self._shelf.find(service, label)
        match release.source:
            case ImageSource():
                raise BadRequest(
                    f"{release.name} is an image, and processes of this machine run no images",
                    hint="Add it from a wheel, or as a command.",
                )
            case EnvironmentSource(path=path) if not (Path(path) / "bin" / "python").exists():
                raise BadRequest(
                    f"the virtual environment of {release.name} is gone: {path}",
                    hint="Add it again under a new label.",
                )
            case CommandSource() as source if module.public and listens_itself(source):
                raise BadRequest(
                    f"{release.name} would listen by itself, and the {service}'s sockets are handed over",
                    hint="It must take its sockets by LISTEN_FDS.",
                )
        return release

    def _of(self, service: str, label: str | None = None) -> list[Kept]:
        return [
            one
            for one in self.kept
            if one.slot.name == service and label in (None, one.slot.release) and one not in self._leaving
        ]

    def _deployments(self, service: str) -> Iterator[Deployment]:
        for name in self._modules:
            if service not in ("", name):
                continue
            wanted = self._wanted(name)
            there = [kept.instance for kept in self.kept if kept.slot.name == name]
            for label in dict.fromkeys([*wanted, *(one.release for one in there)]):
                yield Deployment(
                    service=name,
                    release=label,
                    replicas=wanted.get(label, 0),
                    instances=tuple(one for one in there if one.release == label),
                )

    def _reconcile(self, release: Release, wanted: int) -> None:
        there = self._of(release.service, release.label)
        for _ in range(wanted - len(there)):
            self._add(release).start()
        if len(there) > wanted:
            # Those of no use first, then the latest.
            there.sort(key=lambda one: (one.instance.state in ("ready", "degraded"), -one.slot.number))
            self._retire(there[: len(there) - wanted])

    def _add(self, release: Release) -> Kept:
        slot = self._places.take(self._modules[release.service], release)
        try:
            kept = self._make(slot, release)
        except BaseException:
            self._places.give_back(slot)
            raise
        self.kept.append(kept)
        self._changed()
        return kept

    def _retire(self, leaving: Sequence[Kept]) -> None:
        """Instances of one module."""
        if not leaving:
            return
        name = leaving[0].slot.name
        for kept in leaving:
            self._leaving.append(kept)
            self._unhurried.append(kept)
            task = asyncio.create_task(self._retired(kept), name=f"retire {kept.slot.name}")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        draining = [one for one in self._unhurried if one.slot.name == name]
        for kept in surplus(draining, serving=len(self._of(name)), leaving=len(leaving)):
            self._log.warning("too many drain: the oldest is hurried", instance=kept.instance.instance)
            self._unhurried.remove(kept)
            kept.hurry()

    async def _retired(self, kept: Kept) -> None:
        await kept.retire(settle=self._settle)
        self.kept.remove(kept)
        self._leaving.remove(kept)
        if kept in self._unhurried:
            self._unhurried.remove(kept)
        self._changed()
        self._places.give_back(kept.slot)
