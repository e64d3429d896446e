"""The releases of one platform on its disk, and what should run of them.

DIR/releases/
  list.json            contracts.releases.ReleaseList: what was added; upgrade/release.py has the rules
  desired.json         what should run; written by the supervisor alone, before it acts
  lock                 held (flock) while one of them is changed
  SERVICE/LABEL/venv   what was built for a release

Both files are replaced in one step and synced: who is killed at any moment leaves the old one or the new one.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from moonpool.contracts.releases import FIRST, MODULES, Release, ReleaseList
from moonpool.core.errors import Conflict, NotFound, StartupError, Unavailable
from moonpool.ports.discovery import Instance
from moonpool.upgrade import release as rules
from moonpool.wiring.layout import Layout
from moonpool.wiring.topology import read_topology

D = TypeVar("D", "Desired", ReleaseList)


class Desired(msgspec.Struct, frozen=True):
    """Replicas by module and release. Of a module that is not named its first release runs, in the number
    that the configuration says."""

    modules: dict[str, dict[str, int]] = {}


class Shelf:
    """Every change is made under the lock on what the file then says. Raises Unavailable when the disk
    does not let it, and then nothing has changed."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folder = layout.releases

    # ── releases ───────────────────────────────────────────────────────────────────────────────────

    def releases(self) -> ReleaseList:
        return _read(self._folder / "list.json", ReleaseList)

    def find(self, service: str, label: str) -> Release:
        """The first release is everywhere without being added. Raises NotFound."""
        if label == FIRST:
            return Release(service=service, label=FIRST)
        return rules.find(self.releases(), service, label).release

    def all(self, service: str = "") -> tuple[Release, ...]:
        """Of one module or of all: the first releases, then what was added, oldest first."""
        first = tuple(Release(service=name, label=FIRST) for name in MODULES)
        added = tuple(listed.release for listed in self.releases().releases)
        return tuple(release for release in (*first, *added) if service in ("", release.service))

    def check(self, release: Release, *, built: bool = True) -> None:
        """Raises what `add` would, as far as it can be known before its environment is `built`."""
        self._refuse_first(release)
        known = self.releases()
        if not built and release.label in rules.labels_of(known, release.service):
            raise Conflict(
                f"{release.name} is another release already: releases do not change",
                code="release_exists",
                hint="Choose a new label, or remove the old release first.",
            )
        rules.add(known, release, 0.0)

    def add(self, release: Release, now: float) -> Release:
        """Sealed, as it is kept. Raises Unprocessable and Conflict."""
        self._refuse_first(release)
        with self._locked():
            _write(self._folder / "list.json", rules.add(self.releases(), release, now))
        return self.find(release.service, release.label)

    def _refuse_first(self, release: Release) -> None:
        if release.label == FIRST:
            raise Conflict(
                f"{FIRST} is what runs when no release was added",
                code="release_exists",
                hint="Choose another label, like v2.",
            )

    def remove(self, service: str, label: str) -> None:
        """Raises NotFound, and Conflict for what runs or should."""
        with self._locked():
            used = self.in_use(service)
            _write(self._folder / "list.json", rules.remove(self.releases(), service, label, used))
            shutil.rmtree(self.place(service, label), ignore_errors=True)

    def collect(self, now: float, retention: rules.Retention) -> tuple[Release, ...]:
        """Remove what the policy lets go; what it was."""
        with self._locked():
            gone = rules.collectable(self.releases(), self.in_use, now, retention)
            keep = [one for one in self.releases().releases if one.release not in gone]
            _write(self._folder / "list.json", ReleaseList(tuple(keep)))
            for release in gone:
                shutil.rmtree(self.place(release.service, release.label), ignore_errors=True)
        return gone

    def place(self, service: str, label: str) -> Path:
        """The folder for what is built for a release."""
        return self._folder / service / label

    def in_use(self, service: str) -> frozenset[str]:
        """Labels that should run, or of which something is left."""
        left = [one for one in self.instances() if one.name == service and one.state != "stopped"]
        return frozenset({*self.desired().modules.get(service, {}), *(one.release for one in left)})

    def instances(self) -> tuple[Instance, ...]:
        return read_topology(self._layout.topology).modules

    # ── what should run ────────────────────────────────────────────────────────────────────────────

    def desired(self) -> Desired:
        return _read(self._folder / "desired.json", Desired)

    def want(self, service: str, wanted: dict[str, int] | None) -> None:
        """From now on `wanted` should run of that module; None: what the configuration says.

        Raises NotFound when one of them is not (any more) on the shelf.
        """
        with self._locked():
            for label in wanted or {}:
                self.find(service, label)
            modules = {name: each for name, each in self.desired().modules.items() if name != service}
            if wanted:
                modules[service] = wanted
            _write(self._folder / "desired.json", Desired(modules))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"releases cannot be kept: {error.strerror}: {self._folder}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def known_module(name: str) -> None:
    """Raises NotFound for what can have no releases."""
    if name not in MODULES:
        raise NotFound(
            f"there is no module {name!r}", code="unknown_module", hint=f"Known are {', '.join(MODULES)}."
        )


def _read(path: Path, shape: type[D]) -> D:
    """Raises StartupError when it is damaged: what should run is not to be guessed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=shape)
    except FileNotFoundError:
        return shape()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartupError(
            f"cannot be read: {error}",
            where=str(path),
            hint="Restore it from a backup; without the file only the first releases run.",
        ) from error


def _write(path: Path, document: Desired | ReleaseList) -> None:
    draft = path.with_name(f".{path.name}")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Unavailable(f"releases cannot be kept: {error.strerror}: {path}") from error
