"""The releases of one platform on its disk, and what should run of them.

DIR/releases/
  list.json            contracts.releases.ReleaseList: what there is, as the config server's documents had it
                       last (wiring/release_following.py)
  desired.json         what should run; written by the supervisor alone, before it acts
  lock                 held (flock) while one of them is changed
  SERVICE/LABEL/venv   what was built for a release

Both files are replaced in one step and synced: who is killed at any moment leaves the old one or the new one.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from moonpool.contracts.releases import FIRST, MODULES, ListedRelease, Release, ReleaseList, sealed
from moonpool.core.errors import NotFound, StartupError, Unavailable
from moonpool.ports.discovery import Instance
from moonpool.upgrade import release as rules
from moonpool.wiring.layout import Layout
from moonpool.wiring.topology import read_topology

D = TypeVar("D", "Desired", ReleaseList)
GONE = ".gone-"
"""Begins the names of folders that nobody needs any more."""


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

    def labels(self, service: str) -> tuple[str, ...]:
        """Of what was added, oldest first."""
        return rules.labels_of(self.releases(), service)

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

    def follow(self, service: str, wanted: Collection[Release], at: float) -> tuple[str, ...]:
        """From now on these are the module's releases, as a document of the time `at` says.

        A label keeps what it was as long as something of it runs or should: such labels, for which `follow`
        is to be called again when nothing does.
        """
        with self._locked():
            known = self.releases()
            listed = tuple(one for one in known.releases if one.release.service == service)
            course = _course(listed, wanted, self.in_use(service), at)
            others = tuple(one for one in known.releases if one.release.service != service)
            new = ReleaseList(tuple(sorted((*others, *course.listed), key=lambda one: one.since)))
            for release in course.gone:
                self._put_away(release, at)
            if new != known:
                _write(self._folder / "list.json", new)
        return course.held

    def sweep(self) -> None:
        """Free the disk of what was built for releases that are gone. Takes its time."""
        for folder in self._folder.glob(f"*/{GONE}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _put_away(self, release: Release, at: float) -> None:
        """At once, for `sweep`. What was built later than `at` is of a successor that has the same label."""
        place = self.place(release.service, release.label)
        try:
            if (place / "venv").stat().st_mtime <= at:
                place.rename(place.with_name(f"{GONE}{place.name}-{time.time_ns():x}"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unavailable(f"releases cannot be kept: {error.strerror}: {place}") from error

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


class _Course(NamedTuple):
    """What becomes of a module's list. Of what is `gone` nothing runs; the labels that are `held` wait for
    that."""

    listed: tuple[ListedRelease, ...]
    gone: tuple[Release, ...]
    held: tuple[str, ...]


def _course(
    listed: Collection[ListedRelease], wanted: Collection[Release], used: Collection[str], at: float
) -> _Course:
    there = {one.release.label: one for one in listed}
    new = {each.label: each if each.digest else sealed(each) for each in wanted}
    held = tuple(
        label
        for label, one in there.items()
        if label in used and (label not in new or new[label].digest != one.release.digest)
    )
    kept = [one for label, one in there.items() if label in held or one.release == new.get(label)]
    same = {one.release.label for one in kept}
    added = [
        ListedRelease(release=release, since=release.created or at)
        for label, release in new.items()
        if label not in same
    ]
    gone = tuple(one.release for label, one in there.items() if label not in held and label not in new)
    return _Course((*kept, *added), gone, held)


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
