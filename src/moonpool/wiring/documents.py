"""The platform's documents in this process: which kinds there are, and how it follows them."""

import os
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

from structlog.typing import FilteringBoundLogger

from moonpool.adapters.config.beginning import Beginning, begin
from moonpool.adapters.config.kept import KeptFile, read_kept
from moonpool.adapters.config.server import ServerConfig
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.kinds import AnyKind, Kinds
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.wire import CONFIG, SILENCE, WATCH
from moonpool.contracts.manifest import Timeouts
from moonpool.http.reading import iterate
from moonpool.wiring import logging as logs
from moonpool.wiring.clients import ServiceCaller
from moonpool.wiring.configuration import overridden
from moonpool.wiring.registry import resolve
from moonpool.wiring.settings import ModuleSettings

KINDS = (
    "moonpool.wiring.configuration:KEPT",
    "moonpool.upgrade.documents:ROUTING",
    "moonpool.wiring.release_files:RELEASES",
)
"""Every kind of documents there is, as "package:NAME" of a ports.config.Kind. Adding one here is all it
takes for the config server to keep it and for every process to follow it."""
_WATCHING = Timeouts(total=10.0, connect=2.0, first_byte=10.0, between_bytes=SILENCE)


def load_kinds(references: Sequence[str] = KINDS) -> Kinds:
    return Kinds([cast(AnyKind, resolve(reference)) for reference in references])


def kept_folder(settings: ModuleSettings) -> Path:
    return Path(settings.topology).parent


def begin_documents(settings: ModuleSettings) -> Beginning:
    """What the process starts with. Raises StartupError for a broken configuration."""
    file = Path(settings.config) if settings.config else None
    return begin(file, os.environ, read_kept(kept_folder(settings), settings.slot or settings.name))


def open_documents(
    settings: ModuleSettings, beginning: Beginning, caller: ServiceCaller, log: FilteringBoundLogger
) -> ServerConfig:
    documents = ServerConfig(
        instance=settings.instance,
        kinds=load_kinds(),
        beginning=beginning,
        connect=partial(_watch, caller),
        keep=KeptFile(kept_folder(settings), settings.slot or settings.name).write,
        environ=os.environ,
        log=log,
        view=lambda config: overridden(config, settings.overrides),
    )
    logs.set_level(documents.current.telemetry.log_level)
    documents.subscribe(PLATFORM, _follow_log_level)
    return documents


def _follow_log_level(_name: str, _old: PlatformConfig | None, new: PlatformConfig) -> None:
    logs.set_level(new.telemetry.log_level)


async def _watch(caller: ServiceCaller, since: str) -> AsyncIterator[bytes]:
    query = urlencode({"since": since}) if since else ""
    body = await caller.stream(CONFIG, WATCH, query, timeouts=_WATCHING)
    chunks = iterate(body)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
