"""Documents in versions: one writer wins, what is refused changes nothing, everything is noted."""

import asyncio
import dataclasses
from collections.abc import Iterable

import msgspec
import pytest

from moonpool.configserver.faults import Author, StaleMatch, VersionConflict
from moonpool.configserver.service import Expected
from moonpool.configserver.views import PatchDocument, Rollback, Setting
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.contracts.documents.wire import Changed
from moonpool.core.errors import BadRequest, NotFound, PermissionDenied, Unavailable
from moonpool.ports.config import Kind, Others, Problem

ANN = Author("ann", "key_1", "req_1")


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    service: str
    weight: int = 0


def check(name: str, share: Share) -> Iterable[Problem]:
    if name != f"shares/{share.service}":
        yield Problem(("service",), "the document is another service's", "Name the same.")


SHARES = Kind(name="shares/*", shape=Share, summary="Shares.", check=check, writers=("upgrade",))
KINDS = Kinds([PLATFORM, SHARES])


def limits(number: int) -> dict[str, object]:
    return {"limits": {"default": {"requests_per_minute": number}}}


async def test_a_change_is_a_version(open_server) -> None:
    server = await open_server()
    outcome = await server.service.put("platform", limits(5), Expected(1), ANN, "less")
    assert (outcome.version, outcome.changed, outcome.takes_effect) == (2, True, "now")
    assert [change.path for change in outcome.changes] == ["limits.default.requests_per_minute"]
    found = await server.service.find("platform")
    assert (found.version, found.content, found.author, found.reason) == (2, limits(5), "ann", "less")
    assert (await server.service.find("platform", 1)).content == {}
    assert server.kept[-1].find("platform") == found


async def test_what_is_so_already_is_no_version(open_server) -> None:
    server = await open_server()
    await server.service.put("platform", limits(5), Expected(1), ANN, "")
    outcome = await server.service.put("platform", limits(5), Expected(2), ANN, "")
    assert (outcome.version, outcome.changed) == (2, False)


async def test_who_comes_too_late_changes_nothing(open_server) -> None:
    server = await open_server()
    await server.service.put("platform", limits(5), Expected(1), ANN, "")
    with pytest.raises(VersionConflict) as late:
        await server.service.put("platform", limits(6), Expected(1), ANN, "")
    assert (late.value.status, late.value.present) == (409, 2)
    with pytest.raises(StaleMatch) as stale:
        await server.service.put("platform", limits(6), Expected(1, header=True), ANN, "")
    assert (stale.value.status, stale.value.present) == (412, 2)
    assert (await server.service.find("platform")).content == limits(5)


async def test_of_many_writers_exactly_one_wins(open_server) -> None:
    server = await open_server()
    results = await asyncio.gather(
        *(server.service.put("platform", limits(n), Expected(1), ANN, "") for n in range(1, 9)),
        return_exceptions=True,
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert (await server.service.find("platform")).version == 2


async def test_two_servers_on_one_database_do_not_overwrite_each_other(open_server) -> None:
    one, other = await open_server(), await open_server()
    await one.service.put("platform", limits(5), Expected(1), ANN, "")
    with pytest.raises(VersionConflict):
        await other.service.put("platform", limits(6), Expected(1), ANN, "")


async def test_a_bad_document_changes_nothing_and_is_noted(open_server) -> None:
    server = await open_server()
    before = server.service.snapshot
    bad = {"models": {"m": {"targets": [{"url": 3}]}}}
    with pytest.raises(DocumentFault) as fault:
        await server.service.put("platform", bad, Expected(1), ANN, "")
    assert fault.value.param == "models.m.targets[0].url"
    assert server.service.snapshot == before
    (entry, *_) = await server.service.audited("", None, 10)
    assert (entry.action, entry.who, entry.key, entry.request_id) == ("refused", "ann", "key_1", "req_1")
    assert "models.m.targets[0].url" in entry.detail


async def test_places_are_changed_all_or_none(open_server) -> None:
    server = await open_server()
    wish = PatchDocument(
        set=(
            Setting(path="models.m.targets[0].url", text="http://127.0.0.1:9/v1"),
            Setting(path="gateway.port", text="81"),
        )
    )
    outcome = await server.service.patch("platform", wish, Expected(), ANN)
    assert (outcome.takes_effect, outcome.restart) == ("restart", ["gateway.port"])
    mixed = PatchDocument(set=(Setting(path="gateway.port", value=82),), unset=("limits.default",))
    with pytest.raises(DocumentFault, match=r"limits\.default is not in the document"):
        await server.service.patch("platform", mixed, Expected(), ANN)
    content = (await server.service.find("platform")).content
    assert content["gateway"] == {"port": 81}


async def test_rollback_is_a_new_version(open_server) -> None:
    server = await open_server()
    await server.service.put("platform", limits(5), Expected(1), ANN, "")
    await server.service.put("platform", limits(6), Expected(2), ANN, "")
    outcome = await server.service.rollback("platform", Rollback(to=2), Expected(), ANN)
    assert (outcome.version, (await server.service.find("platform")).content) == (4, limits(5))
    assert [one.version for one in await server.service.history("platform", None, 10)] == [4, 3, 2, 1]
    assert [one.version for one in await server.service.history("platform", 3, 1)] == [2]
    with pytest.raises(NotFound):
        await server.service.rollback("platform", Rollback(to=9), Expected(), ANN)


async def test_only_what_the_platform_has_not_loaded_waits_for_a_start(open_server) -> None:
    server = await open_server()
    port: dict[str, object] = {"gateway": {"port": 81}}
    assert (await server.service.put("platform", port, Expected(1), ANN, "")).restart == ["gateway.port"]
    other = {**port, **limits(5)}
    assert (await server.service.put("platform", other, Expected(2), ANN, "")).restart == []
    assert (await server.service.put("platform", {}, Expected(3), ANN, "")).restart == []


async def test_models_that_clients_lose_are_named(open_server) -> None:
    server = await open_server()
    remote: dict[str, object] = {"targets": [{"url": "http://127.0.0.1:9/v1"}]}
    packaged: dict[str, object] = {"targets": [{"local": "packaged"}]}
    dropped: dict[str, object] = {"models": {"alone": remote}}
    kept: dict[str, object] = {"models": {"alone": remote, "smollm2": packaged}}
    assert server.service.judge("platform", dropped).lost == ["models.smollm2"]
    assert (await server.service.put("platform", kept, Expected(1), ANN, "")).lost == []
    outcome = await server.service.put("platform", dropped, Expected(2), ANN, "")
    assert (outcome.lost, outcome.restart) == (["models.smollm2"], [])


async def test_the_environment_has_its_say(open_server) -> None:
    server = await open_server(environ={"MOONPOOL_GATEWAY__PORT": "90"})
    outcome = await server.service.put("platform", {"gateway": {"port": 81}}, Expected(1), ANN, "")
    assert outcome.shadowed == ["gateway.port"]
    assert outcome.restart == []


async def test_what_only_the_environment_breaks_is_refused_with_its_variable(open_server) -> None:
    variable = "MOONPOOL_MODELS__M__TARGETS__0__WEIGHT"
    server = await open_server()
    restarted = await open_server(environ={variable: "3"})
    assert restarted.service.snapshot == server.service.snapshot
    with pytest.raises(DocumentFault, match=variable):
        await restarted.service.put("platform", limits(5), Expected(1), ANN, "")


async def test_other_kinds_have_their_writers_and_their_checks(open_server) -> None:
    server = await open_server(kinds=KINDS)
    upgrade = Author("upgrade", service="upgrade")
    good: dict[str, object] = {"service": "chat", "weight": 3}
    assert (await server.service.put("shares/chat", good, Expected(0), upgrade, "")).version == 1
    with pytest.raises(BadRequest, match="does not write"):
        await server.service.put("shares/chat", {}, Expected(1), Author("chat", service="chat"), "")
    with pytest.raises(DocumentFault, match="another service's"):
        await server.service.put("shares/auth", good, Expected(0), ANN, "")
    for unknown in ("shares/", "shares", "nothing", "shares/a/b", "../x"):
        with pytest.raises(NotFound):
            await server.service.find(unknown)


async def test_a_change_is_seen_beside_what_was_and_the_other_documents(open_server) -> None:
    def rises(name: str, new: Share, old: Share | None, others: Others) -> Iterable[Problem]:
        if old is not None and new.weight < old.weight:
            yield Problem(("weight",), f"it falls from {old.weight}", "Weights rise.")
        if others("platform") != {}:
            yield Problem((), "the platform is configured", "Take that back.")

    kinds = Kinds([PLATFORM, dataclasses.replace(SHARES, change=rises)])
    server = await open_server(kinds=kinds)
    share: dict[str, object] = {"service": "chat", "weight": 3}
    await server.service.put("shares/chat", share, Expected(0), ANN, "")
    with pytest.raises(DocumentFault, match="weight: it falls from 3"):
        await server.service.put("shares/chat", {**share, "weight": 2}, Expected(1), ANN, "")
    await server.service.put("platform", limits(5), Expected(1), ANN, "")
    with pytest.raises(DocumentFault, match="the platform is configured"):
        await server.service.put("shares/chat", {**share, "weight": 4}, Expected(1), ANN, "")
    assert (await server.service.find("shares/chat")).version == 1


async def test_what_is_the_machines_is_changed_by_its_users_and_writers_only(open_server) -> None:
    server = await open_server(kinds=Kinds([PLATFORM, dataclasses.replace(SHARES, local=True)]))
    share: dict[str, object] = {"service": "chat"}
    with pytest.raises(PermissionDenied, match="only its users"):
        await server.service.put("shares/chat", share, Expected(0), ANN, "")
    await server.service.put("shares/chat", share, Expected(0), Author("ann", local=True), "")
    weighty = {**share, "weight": 1}
    upgrade = Author("upgrade", service="upgrade")
    assert (await server.service.put("shares/chat", weighty, Expected(1), upgrade, "")).version == 2
    with pytest.raises(PermissionDenied):
        await server.service.rollback("shares/chat", Rollback(to=1), Expected(), ANN)


async def test_watchers_get_everything_and_then_every_change(open_server) -> None:
    server = await open_server()
    events = server.hub.watch("")
    assert b'"snapshot"' in await anext(events)
    await server.service.put("platform", limits(5), Expected(1), ANN, "")
    data = (await anext(events)).removeprefix(b"data: ").strip()
    told = msgspec.json.decode(data, type=Changed)
    assert (told.sequence, told.document.version, told.document.content) == (2, 2, limits(5))
    await events.aclose()


class Gone:
    """A database that is away until it is told to come back."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.away = True

    async def start(self) -> None:
        if self.away:
            raise Unavailable("the disk is gone")
        await self.inner.start()

    def __getattr__(self, name: str):
        return getattr(self.inner, name)


async def test_without_a_database_the_snapshot_is_served_and_nothing_changed(open_server, tmp_path) -> None:
    first = await open_server()
    await first.service.put("platform", limits(5), Expected(1), ANN, "")
    gone = Gone(first.service._database)
    server = await open_server(database=gone, kept=first.kept[-1])
    assert server.service.snapshot.stale
    assert (await server.service.find("platform")).content == limits(5)
    for change in (
        server.service.put("platform", limits(6), Expected(2), ANN, ""),
        server.service.history("platform", None, 1),
        server.service.check(),
    ):
        with pytest.raises(Unavailable, match="the disk is gone"):
            await change
    gone.away = False
    await server.service._connect()
    assert not server.service.snapshot.stale
    await server.service.check()
    assert (await server.service.put("platform", limits(6), Expected(2), ANN, "")).version == 3
