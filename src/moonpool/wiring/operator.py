"""An operator at the machine: whoever may write the data folder may ask the config server directly, also
while the gateway or the auth service are away."""

import getpass
import os
import time
from hashlib import sha256

import msgspec

from moonpool.adapters.config.kept import read_all, read_kept
from moonpool.contracts import context
from moonpool.contracts.documents.wire import CONFIG, OPERATOR, Kept, Snapshot, newest
from moonpool.core.errors import Unavailable
from moonpool.core.principal import Principal, Role
from moonpool.ports.discovery import Instance
from moonpool.wiring.layout import Layout
from moonpool.wiring.secrets import SECRET_ENV, context_key
from moonpool.wiring.topology import read_topology


class Direct(msgspec.Struct, frozen=True):
    """Where the config server is, and the signed context that it takes."""

    endpoint: str
    context: bytes


def config_server(layout: Layout) -> Direct:
    """Raises Unavailable when none runs on this data; OSError when the folder's secret may not be read."""
    for module in read_topology(layout.topology).modules:
        if module.name == CONFIG and module.state != "stopped":
            return Direct(module.endpoint, _signed(layout))
    raise Unavailable(f"no config server runs on {layout.root}")


def last_known(layout: Layout) -> Snapshot | None:
    """The documents as the config server had them last."""
    return newest(read_kept(layout.run))


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """How the platform's processes stand with their documents.

    `version` is of the platform's configuration. `away`: the modules that do not hear of changes now;
    `behind`: those with an older version, or whose newest was refused; `pending` by place: the modules in
    which its change waits for the next start.
    """

    version: int = 0
    away: list[str] = []
    behind: list[str] = []
    pending: dict[str, list[str]] = {}


def documents_note(layout: Layout, running: tuple[Instance, ...]) -> Note:
    """From what each process keeps on the disk, so it can be told whatever is down."""
    instances = {one.instance: one.name for one in running}
    kept = [(instances[one.instance], one) for one in read_all(layout.run) if one.instance in instances]
    version = max((one.version for _, one in kept), default=0)
    pending: dict[str, list[str]] = {}
    for name, one in kept:
        for path in one.pending:
            pending.setdefault(path, []).append(name)
    return Note(
        version=version,
        away=sorted({name for name, one in kept if not one.live}),
        behind=sorted({name for name, one in kept if _behind(one, version)}),
        pending=pending,
    )


def _behind(kept: Kept, version: int) -> bool:
    return kept.live and (kept.version < version or bool(kept.refused))


def _signed(layout: Layout) -> bytes:
    given = os.environ.get(SECRET_ENV, "")
    root = sha256(given.encode()).digest() if given else layout.root_key.read_bytes()
    principal = Principal(user=f"{OPERATOR}:{_user()}", role=Role.OWNER)
    key = context_key(root, CONFIG)
    return context.sign(key, issuer=OPERATOR, audience=CONFIG, principal=principal, now=time.time())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return str(os.getuid())
