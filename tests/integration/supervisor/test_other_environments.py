"""A release from a wheel: built without a network, and run from its own virtual environment."""

import asyncio
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

import moonpool
from moonpool.adapters.spawner.control import ControlFleet
from moonpool.contracts.releases import EnvironmentSource, Overrides, Release
from moonpool.core.errors import NotFound, Unprocessable
from moonpool.http.client import Client
from moonpool.wiring.building import from_environment, from_wheel
from moonpool.wiring.registry import find
from moonpool.wiring.shelf import Shelf

WHEN = 1.0
W2 = Release(service="user", label="w2", overrides=Overrides(environment={"EXTRA": "yes"}))


def wheel(folder: Path, requires: str = "msgspec", *, without: str = "") -> Path:
    """This package as a wheel, of another version."""
    root = Path(moonpool.__file__).parent
    made = folder / "moonpool-9.9-py3-none-any.whl"
    files = [f for f in sorted(root.rglob("*")) if f.is_file() and "__pycache__" not in f.parts]
    with zipfile.ZipFile(made, "w") as archive:
        names = [str(f.relative_to(root.parent)) for f in files if not without or without not in str(f)]
        for name in names:
            archive.write(root.parent / name, name)
        info = "moonpool-9.9.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: moonpool\nVersion: 9.9\nRequires-Dist: {requires}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return made


@pytest.fixture
def shelf(layout, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    layout.create()
    return Shelf(layout)


@pytest.mark.slow  # test_schema_across_releases runs two such releases
async def test_a_release_from_a_wheel_runs_from_its_environment(
    platform, layout, shelf, get, until, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(moonpool.__file__).parent.parent))
    built = await asyncio.to_thread(from_wheel, shelf, W2, wheel(tmp_path))
    assert built.manifest is not None
    assert built.manifest.service == "user"
    assert isinstance(built.source, EnvironmentSource)
    assert (built.source.package, len(built.source.sha256)) == ("moonpool-9.9-py3-none-any.whl", 64)
    shelf.follow(built.service, [built], WHEN)
    client = Client()
    fleet = ControlFleet(layout.control, client)
    async with platform(modules=find(["user"])) as supervisor:
        await fleet.ensure("user", "w2", 1)

        def new():
            return next(one for one in supervisor.instances if one.release == "w2")

        await until(lambda: new().state == "ready", seconds=30)
        process = psutil.Process(new().pid)
        assert process.cmdline()[0] == f"{built.source.path}/bin/python"
        assert process.environ()["EXTRA"] == "yes"
        secret = layout.root_key.read_bytes().hex()
        assert secret not in " ".join(process.cmdline())
        assert not any(name.startswith("MOONPOOL_S") for name in process.environ())
        assert "ready" in await get(new().endpoint, "/readyz")
        await fleet.remove("user", "v1")
        await until(lambda: [one.release for one in supervisor.instances] == ["w2"])
        pid = new().pid
        process.kill()
        await until(lambda: new().state == "ready" and new().pid not in (0, pid), seconds=30)
    assert not psutil.pid_exists(pid)
    await client.aclose()
    log = layout.log("user@w2").read_text()
    assert '"event":"ended"' in log


@pytest.mark.parametrize(
    ("requires", "without", "why"),
    [
        ("no-such-distribution-anywhere", "", "no-such-distribution-anywhere"),
        ("msgspec", "services/user/app", "cannot be built"),
        ("msgspec", "wiring/hosted", "cannot be built"),
    ],
)
def test_a_wheel_that_cannot_run_is_refused(shelf, tmp_path, requires, without, why):
    with pytest.raises(Unprocessable, match=why):
        from_wheel(shelf, W2, wheel(tmp_path, requires, without=without))


def test_what_is_no_wheel(shelf, tmp_path):
    with pytest.raises(NotFound):
        from_wheel(shelf, W2, tmp_path / "nothing.whl")
    text = tmp_path / "x.txt"
    text.touch()
    with pytest.raises(Unprocessable, match="no wheel"):
        from_wheel(shelf, W2, text)


def test_an_environment_without_moonpool_of_its_own(tmp_path):
    with pytest.raises(NotFound):
        from_environment(Release(service="user", label="e", source=EnvironmentSource(path=str(tmp_path))))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(Unprocessable):
        from_environment(Release(service="user", label="e", source=EnvironmentSource(path=str(tmp_path))))
