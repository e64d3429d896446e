"""The file given to `up` becomes a version when it says something new; a lost database comes back."""

import pytest

from moonpool.configserver.faults import Author
from moonpool.configserver.service import Expected
from moonpool.configserver.takeover import GivenFile
from moonpool.core.errors import StartupError, Unavailable

ANN = Author("ann")


def given(number: int, **more: str) -> GivenFile:
    content: dict[str, object] = {"limits": {"default": {"concurrent": number}}}
    return GivenFile(path="p.yaml", digest=f"digest of {number}", content=content, **more)


async def now(server) -> tuple[int, str, dict[str, object]]:
    found = await server.service.find("platform")
    return found.version, found.author, found.content


async def test_without_a_file_the_defaults_are_first(open_server) -> None:
    assert await now(await open_server()) == (1, "defaults", {})


async def test_the_file_is_first(open_server) -> None:
    assert await now(await open_server(given=given(1))) == (1, "file", given(1).content)


async def test_a_changed_file_is_a_new_version_and_an_unchanged_one_is_not(open_server) -> None:
    await open_server(given=given(1))
    server = await open_server(given=given(1))
    await server.service.put("platform", {}, Expected(1), ANN, "by hand")
    assert await now(await open_server(given=given(1))) == (2, "ann", {})
    assert await now(await open_server()) == (2, "ann", {})
    assert await now(await open_server(given=given(2))) == (3, "file", given(2).content)


async def test_a_file_that_says_what_is_so_already_is_no_version(open_server) -> None:
    server = await open_server()
    await server.service.put("platform", given(1).content, Expected(1), ANN, "")
    assert await now(await open_server(given=given(1))) == (2, "ann", given(1).content)


async def test_a_broken_first_file_is_a_startup_error(open_server) -> None:
    with pytest.raises(StartupError, match=r"p\.yaml: no good"):
        await open_server(given=given(1, fault="no good"))


async def test_a_broken_later_file_is_told_and_changes_nothing(open_server) -> None:
    await open_server(given=given(1))
    server = await open_server(given=given(0))  # concurrent: 0 cannot be
    assert await now(server) == (1, "file", given(1).content)
    with pytest.raises(Unavailable, match=r"p\.yaml is not in use: .*concurrent"):
        await server.service.check()


async def test_a_lost_database_comes_back_from_the_snapshot(open_server, tmp_path) -> None:
    first = await open_server(given=given(1))
    await first.service.put("platform", {}, Expected(1), ANN, "")
    await first.service.stop()
    for file in tmp_path.glob("config.db*"):
        file.unlink()
    server = await open_server(given=given(1), kept=first.kept[-1])
    assert await now(server) == (2, "ann", {})
    assert server.service.snapshot.epoch != first.service.snapshot.epoch
    assert {entry.action for entry in await server.service.audited("", None, 10)} == {"restore"}
