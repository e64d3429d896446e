"""What the fork server loads before it forks. Importing this module is the act; only the fork server does.

Every page loaded here is shared by all children, and what is imported here once (alembic alone takes
0.15 s) no child imports again. No thread and no event loop may start here, since neither survives a fork;
the engine's library is left out because it starts threads.
"""

import contextlib
import gc
import os
import sys
from importlib import import_module

from moonpool.contracts.config import SERVICES
from moonpool.wiring.absent import COLOURS, without

LIBRARIES = (
    "alembic.command",
    "alembic.config",
    "anyio._backends._asyncio",
    "encodings.ascii",
    "encodings.utf_8_sig",
    "httptools",
    "importlib.readers",
    "litestar",
    "multiprocessing.popen_forkserver",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
OURS = (
    "moonpool.wiring.runner",
    "moonpool.wiring.migrating",
    "moonpool.wiring.modules",
    "moonpool.wiring.configserver",
    "moonpool.wiring.upgrading",
    "moonpool.wiring.release_files",
    *(f"moonpool.services.{name}.{part}" for name in SERVICES for part in ("manifest", "app", "fallback")),
)


def _build_an_application() -> None:
    """Never served: Litestar loads half of itself when the first application is made, and each child would
    load that for itself."""
    from litestar import get

    from moonpool.asgi.application import Application

    @get("/{name:str}", sync_to_thread=False)
    def handler(name: str, limit: int = 1) -> dict[str, int]:
        return {name: limit}

    Application([handler], logging_config=None)


# A group of its own: Ctrl-C in the terminal is the supervisor's to handle, and reaches nobody else.
os.setpgid(0, 0)
gc.disable()  # no collection may touch (and thereby copy) what is about to be frozen
with without(COLOURS):
    for _name in (*LIBRARIES, *OURS):
        # What is missing or broken is for those to tell who need it: the others start all the same.
        with contextlib.suppress(Exception):
            import_module(_name)
with contextlib.suppress(Exception):
    _build_an_application()
if sys.version_info < (3, 12):  # from then on names have no reference counts (PEP 683)
    # The interpreter's cache of attributes holds 4096 names: who takes the place of one writes to both, and
    # they lie anywhere. An empty one saves each child half a megabyte.
    sys._clear_type_cache()
# What is there now stays: the children's collectors need not look at it (and copy its pages).
gc.freeze()
