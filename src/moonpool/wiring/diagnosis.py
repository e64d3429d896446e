"""Checks of the machine and of a running platform, each with a way out: `moonpool doctor`."""

import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from importlib import metadata

import msgspec
import psutil

from moonpool.contracts.config import PlatformConfig
from moonpool.core.errors import StartupError
from moonpool.wiring.layout import Layout
from moonpool.wiring.listening import bind_tcp
from moonpool.wiring.lock import holder
from moonpool.wiring.operator import documents_note, last_known
from moonpool.wiring.preflight import check_models
from moonpool.wiring.topology import amiss, read_topology

PYTHON = (3, 11)
DISTRIBUTION = "moonpool"
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A requirement's beginning (PEP 508)."""
_OPTIONAL = re.compile(r";.*\bextra\b")
LITTLE_DISK, MUCH_DISK = 200_000_000, 2_000_000_000
"""Bytes: below the first databases soon cannot grow, below the second it is worth knowing."""
MUCH_MEMORY = 1_000_000_000
"""Bytes: the whole platform with the small model takes most of it."""
DESCRIPTORS = 4096
"""Open files: about two thousand requests at a time."""
EARLIEST = 1_735_689_600.0
"""2025-01-01: a clock before this code was written is wrong, and certificates would not hold."""
SKEW = 120.0
"""Seconds by which a file may seem to come from the future."""


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """`hint` is the way out of a warning or a failure."""

    name: str
    verdict: Verdict
    detail: str
    hint: str = ""


def diagnose(layout: Layout, config: PlatformConfig, *, port: int | None = None) -> Iterator[Check]:
    """One check after the other, the machine first."""
    running = holder(layout)
    yield check_python(sys.version_info[:2])
    yield check_packages()
    yield check_engine(config)
    yield check_folder(layout)
    yield check_disk(layout)
    yield check_memory(running is not None)
    yield check_descriptors()
    yield check_clock(layout)
    yield check_port(config.gateway.host, config.gateway.port if port is None else port, running)
    yield check_platform(layout, running)
    yield check_documents(layout, running)


def check_python(version: tuple[int, int]) -> Check:
    told = ".".join(map(str, version))
    if version < PYTHON:
        return Check("python", Verdict.FAIL, told, "Python 3.11 or newer is needed; then `make up` again.")
    return Check("python", Verdict.OK, told)


def check_packages(requirements: Sequence[str] | None = None) -> Check:
    """`requirements` as packaging metadata has them; None: those of the installed Moonpool."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or [] if requirements is None else requirements
    except metadata.PackageNotFoundError:
        return Check(
            "packages",
            Verdict.WARN,
            "unknown: run from a source folder",
            "Install Moonpool with `make up` or pip.",
        )
    names = [_PROJECT.match(each) for each in wanted if not _OPTIONAL.search(each)]
    needed = [name[0] for name in names if name is not None]
    missing = [name for name in needed if not _has_distribution(name)]
    if missing:
        return Check(
            "packages", Verdict.FAIL, f"missing: {', '.join(missing)}", "Install them with `make up` or pip."
        )
    return Check("packages", Verdict.OK, f"all {len(needed)} there")


def check_engine(config: PlatformConfig) -> Check:
    """The local engine and its weights: needed unless every model is remote."""
    try:
        files = check_models(config)
    except StartupError as error:
        return Check("weights", Verdict.FAIL, f"{error.where}: {error.message}", error.hint or "")
    if not files:
        return Check("weights", Verdict.OK, "not needed: every model is remote")
    told = ", ".join(
        f"{path.name}, {path.stat().st_size / 1e6:.0f} MB" for path in sorted(set(files.values()))
    )
    return Check("weights", Verdict.OK, told)


def check_folder(layout: Layout) -> Check:
    """Looks only: nothing is made."""
    place = layout.root
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check(
            "folder", Verdict.FAIL, f"{place} is not writable", "Choose a folder you own with --data DIR."
        )
    if place != layout.root:
        return Check("folder", Verdict.OK, f"{layout.root} will be made")
    if layout.root.stat().st_mode & 0o077:
        return Check("folder", Verdict.WARN, f"{layout.root} is open to others", f"chmod 700 {layout.root}")
    return Check("folder", Verdict.OK, str(layout.root))


def check_disk(layout: Layout) -> Check:
    place = layout.root
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    verdict = Verdict.FAIL if free < LITTLE_DISK else Verdict.WARN if free < MUCH_DISK else Verdict.OK
    hint = "" if verdict is Verdict.OK else "Free some space, or choose another disk with --data DIR."
    return Check("disk", verdict, f"{free / 1e9:.1f} GB free", hint)


def check_memory(running: bool) -> Check:
    free = psutil.virtual_memory().available
    if free < MUCH_MEMORY and not running:
        return Check(
            "memory",
            Verdict.WARN,
            f"{free / 1e9:.1f} GB available",
            "Close other programs, or use remote models: the local engine takes about half a GB.",
        )
    return Check("memory", Verdict.OK, f"{free / 1e9:.1f} GB available")


def check_descriptors() -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        return Check("open files", Verdict.WARN, f"at most {hard}", "Raise the hard limit (`ulimit -Hn`).")
    return Check("open files", Verdict.OK, "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard}")


def check_clock(layout: Layout, now: float | None = None) -> Check:
    now = time.time() if now is None else now
    hint = "Set the clock, best by NTP: tokens and certificates depend on it."
    if now < EARLIEST:
        return Check("clock", Verdict.FAIL, f"says {time.strftime('%Y-%m-%d', time.gmtime(now))}", hint)
    try:
        ahead = layout.topology.stat().st_mtime - now
    except OSError:
        ahead = 0.0
    if ahead > SKEW:
        return Check("clock", Verdict.WARN, f"went back by {ahead:.0f} s since the last run", hint)
    return Check("clock", Verdict.OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def check_port(host: str, port: int, running: int | None) -> Check:
    if running is not None:
        return Check("port", Verdict.OK, "the running platform has its own")
    try:
        for sock in bind_tcp(host, port):
            sock.close()
    except StartupError as error:
        return Check("port", Verdict.FAIL, f"{host}:{port}: {error.message}", error.hint or "")
    return Check("port", Verdict.OK, f"{host}:{port} is free")


def check_platform(layout: Layout, running: int | None) -> Check:
    if running is None:
        return Check("platform", Verdict.OK, "not running")
    modules = read_topology(layout.topology).modules
    ill = [f"{one.name} {one.state}{f' ({one.reason})' if one.reason else ''}" for one in amiss(modules)]
    if ill:
        crashed = any(one.state == "crashed" for one in modules)
        verdict = Verdict.FAIL if crashed else Verdict.WARN
        return Check("platform", verdict, ", ".join(ill), f"Their logs are in {layout.logs}.")
    drain = sum(one.state == "draining" for one in modules)
    rest = f", {drain} that were replaced drain" if drain else ""
    ready = f"running (pid {running}), all {len(modules) - drain} instances ready"
    return Check("platform", Verdict.OK, f"{ready}{rest}")


def check_documents(layout: Layout, running: int | None) -> Check:
    """How the processes stand with their configuration."""
    if running is None:
        known = last_known(layout)
        count = len(known.documents) if known else 0
        return Check("documents", Verdict.OK, f"{count} known from the last run" if known else "none yet")
    note = documents_note(layout, read_topology(layout.topology).modules)
    if note.away:
        return Check(
            "documents",
            Verdict.WARN,
            f"going on without the config server: {', '.join(note.away)}",
            f"Everything serves with what was known; see {layout.log('config')}.",
        )
    if note.behind:
        return Check(
            "documents",
            Verdict.WARN,
            f"without the newest configuration: {', '.join(note.behind)}",
            f"Their logs in {layout.logs} say why.",
        )
    if note.pending:
        return Check(
            "documents",
            Verdict.WARN,
            f"waiting for the next start: {', '.join(note.pending)}",
            "`moonpool down`, then `moonpool up`.",
        )
    return Check("documents", Verdict.OK, f"version {note.version} everywhere")


def _has_distribution(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
