"""What the fork server loads before it forks. Importing this module is the act; only the fork server does.

Every page loaded here is shared by all children. No thread and no event loop may start here, since
neither survives a fork; the engine's library is left out because it starts threads.
"""

import gc
import os

gc.disable()  # no collection may touch (and thereby copy) what is about to be frozen

import asyncio  # noqa: E402,F401
import http.client  # noqa: E402,F401

import aiosqlite  # noqa: E402,F401
import httptools  # noqa: E402,F401
import litestar  # noqa: E402,F401
import msgspec  # noqa: E402,F401
import sqlalchemy.dialects.sqlite.aiosqlite  # noqa: E402
import sqlalchemy.ext.asyncio  # noqa: E402,F401
import structlog  # noqa: E402,F401
import uvicorn  # noqa: E402
import uvicorn.protocols.http.httptools_impl  # noqa: E402,F401
import uvloop  # noqa: E402,F401

import moonpool.wiring.runner  # noqa: E402,F401

# A group of its own: Ctrl-C in the terminal is the supervisor's to handle, and reaches nobody else.
os.setpgid(0, 0)
# What is there now stays: the children's collectors need not look at it (and copy its pages).
gc.freeze()
