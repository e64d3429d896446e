"""What the fork server loads before it forks. Importing this module is the act; only the fork server does.

Every page loaded here is shared by all children. No thread and no event loop may start here, since
neither survives a fork; the engine's library is left out because it starts threads.
"""

import gc
import os

gc.disable()  # no collection may touch (and thereby copy) what is about to be frozen

import asyncio  # noqa: E402,F401
import http.client  # noqa: E402,F401
from importlib import import_module  # noqa: E402

import aiosqlite  # noqa: E402,F401
import uvicorn.lifespan.on  # noqa: E402
import uvicorn.protocols.http.httptools_impl  # noqa: E402,F401
from litestar import Litestar, get  # noqa: E402
from sqlalchemy.ext.asyncio import create_async_engine  # noqa: E402

import moonpool.wiring.modules  # noqa: E402
import moonpool.wiring.runner  # noqa: E402,F401
from moonpool.contracts.config import SERVICES  # noqa: E402
from moonpool.contracts.monitoring import ModuleHealth  # noqa: E402

for _service in SERVICES:
    import_module(f"moonpool.services.{_service}.app")


@get("/")
async def _trial() -> list[ModuleHealth]:
    return []


# Much is imported at first use only: one application and one engine, thrown away, spare every child
# 10 MB of its own.
Litestar([_trial]).openapi_schema.to_schema()
create_async_engine("sqlite+aiosqlite://")

# A group of its own: Ctrl-C in the terminal is the supervisor's to handle, and reaches nobody else.
os.setpgid(0, 0)
# What is there now stays: the children's collectors need not look at it (and copy its pages).
gc.freeze()
