"""How `moonpool release` changes what releases there are: in the config server's documents, as a user of the
machine, and until the supervisor has heard of it.

    read ──► changed ──► written, if nobody else was quicker ──► on the supervisor's shelf

Whatever fails before it is sent has changed nothing; asking again does nothing twice.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from moonpool.cli.api import FAILED, NOT_RUNNING, REFUSED, Api, CommandFailed
from moonpool.cli.config_access import PATH, documents_api
from moonpool.cli.output import say
from moonpool.configserver.views import DocumentView, Outcome, PutDocument
from moonpool.contracts.releases import (
    FIRST,
    MODULES,
    Release,
    ReleaseList,
    ServiceReleases,
    digest_of,
    sealed,
)
from moonpool.contracts.routing import Routing
from moonpool.core.errors import Conflict
from moonpool.upgrade import release as rules
from moonpool.upgrade.documents import document_name as routing_name
from moonpool.upgrade.release_documents import document_name, entry, first_document, listed, roles
from moonpool.wiring.layout import Layout, default_data
from moonpool.wiring.shelf import Shelf, known_module

TRIES = 8
"""Times that a change is made again on what somebody else has written meanwhile."""
PATIENCE = 5.0
"""Seconds that the supervisor is waited for. It hears of a change after some hundredths."""
LOOK = 0.01

Entries = dict[str, object]
Edit = Callable[[ReleaseList, Entries], Entries]
"""What the document's releases become, from what they are. May raise."""


class ReleaseDocuments:
    """`shelf` is what the supervisor knows, and all there is to read while the config server is away."""

    def __init__(self, data: Path | None) -> None:
        self._data = data
        layout = Layout(data or default_data())
        layout.create()
        self.shelf = Shelf(layout)

    # ── what is asked for ──────────────────────────────────────────────────────────────────────────

    def known(self, service: str) -> ReleaseList:
        """What was added of the module, by its document. Raises CommandFailed."""
        return listed(_decoded(self._read(self._api(), service)[1]))

    def check(self, known: ReleaseList, release: Release, *, built: bool) -> None:
        """Raises what `add` would, as far as it can be known before its environment is built."""
        if release.label == FIRST:
            raise Conflict(
                f"{FIRST} is what runs when no release was added",
                code="release_exists",
                hint="Choose another label, like v2.",
            )
        if not built and release.label in rules.labels_of(known, release.service):
            raise _another(release)
        rules.add(known, release, 0.0)
        for one in self.shelf.releases().releases:  # one that was removed may still run
            if one.release.name == release.name and (not built or one.release.digest != digest_of(release)):
                raise _another(release)

    def add(self, release: Release) -> Release:
        """Sealed, as it is kept. Raises Unprocessable, Conflict, CommandFailed."""
        release = sealed(release)

        def edit(known: ReleaseList, entries: Entries) -> Entries:
            self.check(known, release, built=True)
            return entries if release.label in entries else {**entries, release.label: entry(release)}

        why = f"{release.label} added" + (f": {release.note}" if release.note else "")
        document = self._change(release.service, edit, why)
        self._wait(lambda: release.label in self.shelf.labels(release.service))
        return document.releases[release.label]

    def remove(self, service: str, label: str) -> None:
        """Raises NotFound, and Conflict for what runs or should; CommandFailed for what the routing needs."""
        used = self.shelf.in_use(service)

        def edit(known: ReleaseList, entries: Entries) -> Entries:
            rules.remove(known, service, label, used)
            return {name: each for name, each in entries.items() if name != label}

        self._change(service, edit, f"{label} removed")
        self._wait(lambda: label not in self.shelf.labels(service))

    def collect(self, retention: rules.Retention) -> tuple[Release, ...]:
        """Remove what the policy lets go; what it was."""
        gone = rules.collectable(self.shelf.releases(), self.shelf.in_use, time.time(), retention)
        services = [name for name in MODULES if any(one.service == name for one in gone)]
        api = self._api() if services else None
        needed = {name: self._routed(api, name) for name in services if api is not None}
        gone = tuple(one for one in gone if one.label not in needed.get(one.service, ()))
        for service in services:
            labels = {one.label for one in gone if one.service == service}
            if labels:
                self._collect(service, labels)
        return gone

    def _collect(self, service: str, labels: set[str]) -> None:
        def edit(_: ReleaseList, entries: Entries) -> Entries:
            return {name: each for name, each in entries.items() if name not in labels}

        self._change(service, edit, f"collected, as not used any more: {', '.join(sorted(labels))}")
        self._wait(lambda: not labels & set(self.shelf.labels(service)))

    # ── how ────────────────────────────────────────────────────────────────────────────────────────

    def _change(self, service: str, edit: Edit, why: str) -> ServiceReleases:
        api = self._api()
        for _ in range(TRIES):
            version, content = self._read(api, service)
            document = _decoded(content)
            before = content.get("releases", {})
            assert isinstance(before, dict)
            after = edit(listed(document), before)
            if after == before:
                return document
            content = {**content, "releases": after}
            try:
                path = f"{PATH}/documents/{document_name(service)}"
                api.put(path, Outcome, PutDocument(content=content, version=version, reason=why))
            except CommandFailed as error:
                if error.code == "version_conflict":
                    continue
                raise _unanswered(error) from None
            return _decoded(content)
        raise CommandFailed(
            f"others change the releases of {service} all the time", exit_code=FAILED, hint="Try again."
        )

    def _api(self) -> Api:
        try:
            return documents_api(self._data, "", "")
        except CommandFailed as error:
            raise _unchanged(error) from None

    def _read(self, api: Api, service: str) -> tuple[int, dict[str, object]]:
        """Version and content. Before there is a document, it would be what the supervisor has."""
        known_module(service)
        try:
            view = api.get(f"{PATH}/documents/{document_name(service)}", DocumentView)
        except CommandFailed as error:
            if error.code != "unknown_version":
                raise _unchanged(error) from None
            first = first_document(service, self.shelf.releases(), self.shelf.in_use(service))
            entries = {label: entry(release) for label, release in first.releases.items()}
            return 0, {"service": service, "releases": entries}
        return view.version, view.content

    def _routed(self, api: Api, service: str) -> frozenset[str]:
        """Labels that requests may be sent to."""
        try:
            view = api.get(f"{PATH}/documents/{routing_name(service)}", DocumentView)
        except CommandFailed as error:
            if error.code != "unknown_version":
                raise _unchanged(error) from None
            return frozenset()
        try:
            return frozenset(roles(msgspec.convert(view.content, Routing)))
        except msgspec.ValidationError:  # of a newer package: who knows what it needs
            return frozenset(self.shelf.labels(service))

    def _wait(self, heard: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not heard():
            if time.monotonic() > deadline:
                say(
                    "The supervisor has not heard of it yet: it will as soon as it follows the config server."
                )
                return
            time.sleep(LOOK)


def _decoded(content: Entries) -> ServiceReleases:
    try:
        return msgspec.convert(content, ServiceReleases)
    except msgspec.ValidationError as error:
        raise CommandFailed(
            f"the document of its releases says what this version does not know: {error}",
            exit_code=REFUSED,
            hint="Use the platform's own `moonpool`, or go back with `moonpool config rollback`.",
        ) from None


def _unanswered(error: CommandFailed) -> CommandFailed:
    """A change that was sent and not answered may have been made: the server may be killed just after it."""
    if error.exit_code != FAILED or not (error.code or "").startswith("upstream_"):
        return _unchanged(error)
    hint = "Whether it was made is not known. Ask for it again: what is so already is not done twice."
    return CommandFailed(_told(error), exit_code=FAILED, code=error.code, hint=hint)


def _told(error: CommandFailed) -> str:
    return f"releases cannot be changed now: {error.message}"


def _unchanged(error: CommandFailed) -> CommandFailed:
    """What could not be asked has changed nothing, and what is known can be read all the same."""
    if error.exit_code not in (NOT_RUNNING, FAILED):
        return error
    hint = (
        "Nothing was changed. Releases live in the config server: start the platform with `moonpool up`, or "
        "wait until `moonpool status` shows `config` ready. `release list` and `show` work without it."
    )
    return CommandFailed(_told(error), exit_code=error.exit_code, code=error.code, hint=hint)


def _another(release: Release) -> Conflict:
    return Conflict(
        f"{release.name} is another release already: releases do not change",
        code="release_exists",
        hint="Choose a new label, or remove the old release first.",
    )
