"""The parent of all processes of a platform on one machine: `moonpool up`.

It owns the data folder's lock, every listening socket and the topology file; it serves nothing itself.
What can go wrong before anything runs (folder, lock, configuration, port) is found by `prepare`, which
leaves nothing behind when it refuses.
"""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable

import msgspec
import structlog

from moonpool.adapters.spawner.local import ChildMain as Main
from moonpool.adapters.spawner.local import Inherited, LocalSpawner
from moonpool.contracts.documents.wire import CONFIG
from moonpool.contracts.releases import CommandSource, EndpointSource, EnvironmentSource, Release
from moonpool.core.clock import SYSTEM_CLOCK
from moonpool.core.errors import StartupError
from moonpool.ports.discovery import Instance
from moonpool.ports.spawner import Spec
from moonpool.upgrade.release_documents import SUPERVISOR
from moonpool.wiring import logfiles
from moonpool.wiring.backoff import Backoff
from moonpool.wiring.config_link import ConfigLink
from moonpool.wiring.control import Control
from moonpool.wiring.fleet import Kept, LocalFleet
from moonpool.wiring.foreign import HostedMain, ProgramMain
from moonpool.wiring.keeper import Keeper, KeeperSettings, Slot
from moonpool.wiring.layout import Layout
from moonpool.wiring.listening import HEARD, bind_tcp, bind_unix, refuse
from moonpool.wiring.lock import InstancesLock, PlatformLock
from moonpool.wiring.places import Places
from moonpool.wiring.registry import Module, secrets_of, stop_waves
from moonpool.wiring.release_following import ReleaseFollower
from moonpool.wiring.runner import GRACE, ChildMain
from moonpool.wiring.secrets import context_key, load_root, take_given
from moonpool.wiring.settings import ModuleSettings
from moonpool.wiring.shelf import Shelf
from moonpool.wiring.topology import TopologyFile, read_topology
from moonpool.wiring.watch import Watch, WatchSettings

CONTROL = "control"
PRELOAD = ("moonpool.wiring.preload",)
TRY_AGAIN = 0.05
"""Seconds between looks at what an earlier supervisor's processes still hold."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `replicas` is by module name, 1 where it says nothing."""

    modules: tuple[Module, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    config: str = ""
    replicas: dict[str, int] = {}
    alone: frozenset[str] = frozenset()
    """Modules of which one release may have one instance only."""
    drain_timeout: float = 30.0
    replaced_drain_timeout: float = 900.0
    log_level: str = "info"
    tls: bool = False
    preload: tuple[str, ...] = PRELOAD
    keeping: KeeperSettings = KeeperSettings()
    watching: WatchSettings = WatchSettings()
    log_max_bytes: int = logfiles.MAX_BYTES
    degraded_patience: float = 5.0
    """Seconds that the start waits for modules which still miss each other."""
    upkeep_every: float = 5.0
    """Seconds between looks at the log files' sizes."""


class Supervisor:
    """`prepare`, `start`, then `wait_ready` or not, at the end `stop` (always, `prepare`'s success given)."""

    def __init__(self, layout: Layout, plan: Plan) -> None:
        self.layout = layout
        self.plan = plan
        self.url = ""
        self._lock = PlatformLock(layout)
        self._shelf = Shelf(layout)
        self._instances: InstancesLock | None = None
        self._public: list[socket.socket] = []
        self._root = b""
        self._releases: dict[tuple[str, str], Release] = {}
        self._waves: list[tuple[Module, ...]] = []
        self._modules = {module.name: module for module in plan.modules}
        self._topology: TopologyFile | None = None
        self._spawner = LocalSpawner(self._main_for, preload=plan.preload)
        self._places: Places | None = None
        self._fleet: LocalFleet | None = None
        self._control: Control | None = None
        self._config: ConfigLink | None = None
        self._following: ReleaseFollower | None = None
        self._started = False
        self._observers: list[Callable[[Instance], None]] = []
        self._change = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    # ── before anything runs ───────────────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        """Take everything that can be refused. Raises StartupError, and then holds nothing."""
        os.umask(0o077)
        given = take_given()
        self.layout.create()
        self._lock.acquire()
        try:
            self._instances = InstancesLock(self.layout)
            self._topology = self._take_over_topology()
            await self._outlive_predecessor()
            self._public = await self._bind_public()
            await self._spawner.start()  # loads while the rest is prepared
            self._root = load_root(self.layout.root_key, given)
            self._waves = stop_waves(self.plan.modules)
            self._fleet = self._make_fleet()
        except BaseException:
            await self._let_go()
            raise

    def _take_over_topology(self) -> TopologyFile:
        """What a killed supervisor said last is not true any more: what is left of it drains."""
        left = [one for one in read_topology(self.layout.topology).modules if one.state != "stopped"]
        topology = TopologyFile(self.layout.topology)
        topology.publish(tuple(msgspec.structs.replace(one, state="draining") for one in left))
        return topology

    async def _outlive_predecessor(self) -> None:
        """After a supervisor was killed its children drain on their own, soon: wait for the last one."""
        assert self._instances is not None
        overridden = (one.overrides.drain_timeout or 0.0 for one in self._shelf.all())
        deadline = time.monotonic() + max(self.plan.drain_timeout, *overridden) + 2 * GRACE
        while not self._instances.try_exclusive():
            if time.monotonic() > deadline:
                raise StartupError(
                    "processes of an earlier run on this data do not end",
                    where=str(self.layout.root),
                    hint="Find them with `ps` (their names begin with mp-) and end them with `kill -9`.",
                )
            await asyncio.sleep(TRY_AGAIN)

    async def _bind_public(self) -> list[socket.socket]:
        if not any(module.public for module in self.plan.modules):
            return []
        sockets = await asyncio.to_thread(bind_tcp, self.plan.host, self.plan.port)
        port = sockets[0].getsockname()[1]
        shown = "127.0.0.1" if self.plan.host in ("", "0.0.0.0", "::") else self.plan.host  # noqa: S104
        host = f"[{shown}]" if ":" in shown else shown
        self.url = f"{'https' if self.plan.tls else 'http'}://{host}:{port}"
        return sockets

    def _make_fleet(self) -> LocalFleet:
        plan, layout = self.plan, self.layout
        names = (*self._modules, CONTROL)
        self._places = Places(
            layout,
            names,
            public=self._public,
            url=self.url,
            drain_timeout=plan.drain_timeout,
            replaced_drain_timeout=plan.replaced_drain_timeout,
        )
        shelf = self._shelf
        fleet = LocalFleet(
            modules=plan.modules,
            replicas=plan.replicas,
            alone=plan.alone,
            shelf=shelf,
            places=self._places,
            make=self._make_kept,
            settle=plan.keeping.settle,
            changed=self._publish,
        )
        self._control = Control(fleet, shelf, bind_unix(self._places.path(f"{CONTROL}.sock")), layout.control)
        fleet.prepare()
        if CONFIG in self._modules:
            key = context_key(self._root, CONFIG)
            self._config = ConfigLink(SUPERVISOR, self._config_server, key, SYSTEM_CLOCK)
            self._following = ReleaseFollower(shelf, self._config, self._log)
        return fleet

    def _config_server(self) -> str:
        """Where it is; "" while there is none to answer."""
        there = (one for one in self.instances if one.name == CONFIG)
        return next((one.endpoint for one in there if one.state in ("ready", "degraded", "starting")), "")

    # ── running ────────────────────────────────────────────────────────────────────────────────────

    def observe(self, observer: Callable[[Instance], None]) -> None:
        """Call with every change of an instance."""
        self._observers.append(observer)

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(kept.instance for kept in self.fleet.kept)

    @property
    def fleet(self) -> LocalFleet:
        """What runs, once prepared."""
        assert self._fleet is not None
        return self._fleet

    async def start(self) -> None:
        assert self._control is not None
        self._started = True
        self._publish()
        self.fleet.start()
        await self._control.start()
        if self._following is not None:
            await self._following.start()
        self._upkeep = asyncio.create_task(self._keep_up(), name="upkeep")

    async def wait_ready(self) -> None:
        """Returns when every instance is ready, or is of use and stays degraded for a while. A release that
        does not come up beside another one of its module is not waited for.

        Raises StartupError when a module says it cannot start.
        """
        await self._wait_until("ready", "degraded")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.plan.degraded_patience):
                await self._wait_until("ready")

    async def _wait_until(self, *states: str) -> None:
        while True:
            self._change.clear()
            fallen = self.fleet.hopeless()
            if fallen is not None:
                raise StartupError(f"{fallen.slot.name} cannot start: {fallen.failure}")
            if not any(self.fleet.unready(*states)):
                return
            await self._change.wait()

    async def stop(self) -> None:
        """Drain: callers first, then those they call. Ends with nothing left running or held."""
        try:
            if self._following is not None:
                await self._following.stop()
            if self._control is not None:
                control, self._control = self._control, None
                await control.stop()
            for wave in self._waves:
                await self._end(wave)
        finally:
            await self._let_go()

    async def _end(self, wave: tuple[Module, ...]) -> None:
        """Drain these. Once nobody accepts on the public sockets whoever connects is refused."""
        refused = self._public if any(module.public for module in wave) else []
        soon = asyncio.get_running_loop().call_later(HEARD, refuse, refused)
        try:
            await self.fleet.stop(frozenset(module.name for module in wave))
        finally:
            soon.cancel()
            refuse(refused)

    def kill(self) -> None:
        """Make a running `stop` (or the next one) quick: nobody is waited for any more."""
        self.fleet.kill()

    async def _let_go(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._upkeep
        if self._following is not None:
            await self._following.stop()
        if self._config is not None:
            await self._config.close()
        if self._control is not None:
            await self._control.stop()
        if self._fleet is not None:
            await self._fleet.settle()
        await self._spawner.stop()
        if self._places is not None:
            self._places.close()
        else:
            for sock in self._public:
                sock.close()
        if self._instances is not None:
            self._instances.close()
        self._lock.release()

    def _make_kept(self, slot: Slot, release: Release) -> Kept:
        self._releases[slot.name, slot.release] = release
        source = release.source
        if isinstance(source, EndpointSource):
            return Watch(
                slot,
                source,
                key=os.environ.get(source.api_key_env, "") if source.api_key_env else "",
                settings=self.plan.watching,
                clock=SYSTEM_CLOCK,
                random=random.random,
                generation=_generation,
                changed=self._on_change,
            )
        keeping = self.plan.keeping
        return Keeper(
            slot,
            self._spawner,
            settings=keeping,
            clock=SYSTEM_CLOCK,
            backoff=Backoff(
                first=keeping.backoff_first,
                most=keeping.backoff_most,
                healthy=keeping.healthy_after,
                clock=SYSTEM_CLOCK,
                random=random.random,
            ),
            generation=_generation,
            changed=self._on_change,
        )

    def _on_change(self, instance: Instance) -> None:
        self._publish()
        for observer in self._observers:
            observer(instance)

    def _publish(self) -> None:
        if not self._started:
            return
        assert self._topology is not None
        self._topology.publish(self.instances)
        self._change.set()

    def _main_for(self, spec: Spec) -> Main:
        module, release = self._modules[spec.name], self._releases[spec.name, spec.release]
        assert self._instances is not None
        assert self._places is not None
        calls = None if release.manifest is None else release.manifest.calls
        settings = ModuleSettings(
            name=spec.name,
            release=spec.release,
            instance=spec.instance,
            slot=f"{spec.name}-{spec.number}",
            endpoint=spec.endpoint,
            data=str(self.layout.root),
            config=self.plan.config,
            topology=str(self.layout.topology),
            overrides=release.overrides,
            secrets=secrets_of(module, self._root, calls),
            drain_timeout=spec.drain_timeout,
            replaced_drain_timeout=spec.replaced_drain_timeout,
            log_level=self.plan.log_level,
        )
        log, lock = self._places.log(spec.name, spec.release), Inherited(self._instances.fd)
        match release.source:
            case EnvironmentSource() as source:
                return HostedMain(source, settings, log, lock)
            case CommandSource() as source:
                return ProgramMain(source, settings, log, lock)
            case _:
                return ChildMain(module, settings, log, lock)

    async def _keep_up(self) -> None:
        """Log files stay bounded; a topology that could not be written is written again."""
        while True:
            await asyncio.sleep(self.plan.upkeep_every)
            for log in {self.layout.log("supervisor"), *(kept.slot.log for kept in self.fleet.kept)}:
                try:
                    await asyncio.to_thread(logfiles.rotate, log, max_bytes=self.plan.log_max_bytes)
                except OSError as error:
                    self._log.warning("log file not rotated", file=log.name, error=str(error))
            if self._topology is not None and self._topology.stale:
                self._topology.flush()
            if self._following is not None:
                self._following.look()


def _generation() -> str:
    """Grows with time: no two processes ever have had the same."""
    return f"{time.time_ns() // 1_000_000:x}"
