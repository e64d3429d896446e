"""The modules there are, and how to start each.

Nothing is imported until it is asked for: the supervisor reads manifests (light), the process of a
module its entry point.

    run(name, settings, sockets, stop, ready)   serves on `sockets` until `stop` has begun, then drains
"""

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Protocol

import msgspec

from moonpool.asgi.shutdown import Shutdown
from moonpool.contracts.config import SERVICES
from moonpool.contracts.documents.wire import CONFIG
from moonpool.contracts.manifest import Manifest
from moonpool.core.errors import StartupError
from moonpool.wiring.secrets import Secrets, context_key, derive
from moonpool.wiring.settings import ModuleSettings

GATEWAY = "gateway"
UPGRADE = "upgrade"


class EntryPoint(Protocol):
    """Runs one module in the current event loop.

    Calls `ready` once when it accepts; returns after `stop` has begun and everything is drained, within what
    remains by it (which may become less meanwhile). On `stop` it closes its listening sockets first (closes:
    the sockets are shared with the supervisor, a shutdown or an unlink would take them from the successor).
    Raises StartupError when it cannot start for a reason that a person has to mend.
    """

    def __call__(
        self,
        name: str,
        settings: ModuleSettings,
        sockets: list[socket.socket],
        stop: Shutdown,
        ready: Callable[[], None],
    ) -> Awaitable[None]: ...


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """`entry` is "package:function", `manifest` "package:NAME" ("" for what is no service).

    `secrets` are the purposes of the keys it alone is given.
    """

    name: str
    entry: str
    manifest: str = ""
    secrets: tuple[str, ...] = ()
    public: bool = False
    """Whether clients reach it on a TCP socket of its own."""
    needs: tuple[str, ...] = ()
    """Modules it calls beside those that its manifest names."""
    follows: tuple[str, ...] = ()
    """Modules that it only listens to: it is given a key that opens nothing else there."""

    def load_entry(self) -> EntryPoint:
        entry: EntryPoint = resolve(self.entry)
        return entry

    def load_manifest(self) -> Manifest | None:
        if not self.manifest:
            return None
        manifest: Manifest = resolve(self.manifest)
        return manifest

    def calls(self) -> tuple[str, ...]:
        """The modules it calls, without itself."""
        manifest = self.load_manifest()
        named = (*self.needs, *self.follows, *(manifest.calls if manifest else ()))
        return tuple(dict.fromkeys(name for name in named if name != self.name))


def _service(name: str, *secrets: str) -> Module:
    return Module(
        name=name,
        entry="moonpool.wiring.modules:run_service",
        manifest=f"moonpool.services.{name}.manifest:MANIFEST",
        secrets=secrets,
        follows=(CONFIG,),
    )


WATCHING = "watching"
"""The purpose of the key that followers sign with: whoever is broken into must not be able to write there."""
OWN_SECRETS = {"auth": ("pepper",)}

REGISTRY: tuple[Module, ...] = (
    Module(
        name=GATEWAY,
        entry="moonpool.wiring.modules:run_gateway",
        secrets=("spool",),
        public=True,
        needs=(*SERVICES, CONFIG, UPGRADE),
    ),
    *(_service(name, *OWN_SECRETS.get(name, ())) for name in SERVICES),
    Module(
        name=CONFIG,
        entry="moonpool.wiring.configserver:run_config",
        manifest="moonpool.configserver.manifest:MANIFEST",
        secrets=(WATCHING,),
    ),
    Module(
        name=UPGRADE,
        entry="moonpool.wiring.upgrading:run_upgrade",
        manifest="moonpool.upgrade.manifest:MANIFEST",
        needs=(CONFIG,),
    ),
)

START_FIRST = ("inference", GATEWAY, "auth", "model", CONFIG)
"""All start at the same time; these are forked first: the model's load takes longest, and the gateway
answers (if only "not yet") from the moment it accepts."""


def find(names: Iterable[str], registry: Sequence[Module] = REGISTRY) -> tuple[Module, ...]:
    """The modules of these names, in the order given. Raises StartupError for an unknown one."""
    known = {module.name: module for module in registry}
    found = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise StartupError(
                f"there is no module {name!r}", where="--target", hint=f"Known are {', '.join(known)}."
            )
        found.append(known[name])
    return tuple(found)


def load_manifests(registry: Sequence[Module] = REGISTRY) -> list[Manifest]:
    """Of all modules that have routes behind the gateway."""
    found = (module.load_manifest() for module in registry)
    return [manifest for manifest in found if manifest is not None]


def start_order(modules: Sequence[Module]) -> tuple[Module, ...]:
    """The order of forking."""
    rank = {name: index for index, name in enumerate(START_FIRST)}
    return tuple(sorted(modules, key=lambda module: rank.get(module.name, len(rank))))


def stop_waves(modules: Sequence[Module]) -> list[tuple[Module, ...]]:
    """Callers before those they call, so that what still streams keeps what it needs.

    Modules that call each other in a circle stop together.
    """
    left = {module.name: module for module in modules}
    calls = {name: set(module.calls()) for name, module in left.items()}
    waves = []
    while left:
        needed = set().union(*(calls[name] for name in left))
        wave = tuple(module for name, module in left.items() if name not in needed) or tuple(left.values())
        waves.append(wave)
        for module in wave:
            del left[module.name]
    return waves


def secrets_of(module: Module, root: bytes, calls: Sequence[str] | None = None) -> Secrets:
    """The least that `module` can do its work with; `calls` for a release that calls other modules."""
    named = module.calls() if calls is None else calls
    listens = set(module.follows) - set(module.needs)
    return Secrets(
        context=context_key(root, module.name),
        calls={
            name: derive(root, f"{WATCHING}:{name}") if name in listens else context_key(root, name)
            for name in named
        },
        own={purpose: derive(root, f"{purpose}:{module.name}") for purpose in module.secrets},
    )


def resolve(reference: str) -> Any:
    """The object that "package:name" refers to; the caller names its type. Raises StartupError."""
    package, _, name = reference.partition(":")
    try:
        return getattr(import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise StartupError(
            f"cannot be loaded: {error}", where=reference, hint="Install the platform again: `make up`."
        ) from error
