"""Releases from a wheel, or from a virtual environment that somebody made."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import msgspec

from moonpool.adapters.spawner import virtualenv
from moonpool.contracts.releases import EnvironmentSource, Release
from moonpool.core.errors import NotFound, Unprocessable
from moonpool.wiring.hosted import DESCRIBE, MODULE, Described
from moonpool.wiring.shelf import Shelf


def from_wheel(
    shelf: Shelf, release: Release, wheel: Path, tell: Callable[[str], None] = lambda step: None
) -> Release:
    """`release` with an environment built for it. Raises NotFound, Unprocessable; one builds at a time."""
    if not wheel.is_file():
        raise NotFound(f"there is no file {wheel}", hint="`python -m build` makes a wheel in dist/.")
    if wheel.suffix != ".whl":
        raise Unprocessable(f"{wheel.name} is no wheel", hint="Wheels end in .whl.")
    place = shelf.place(release.service, release.label)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place.parent / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        virtualenv.build(wheel.absolute(), place / "venv", tell)
    source = EnvironmentSource(path=str(place / "venv"), package=wheel.name, sha256=virtualenv.digest(wheel))
    return from_environment(msgspec.structs.replace(release, source=source))


def from_environment(release: Release) -> Release:
    """`release`, whose source is an environment, with what its package declares. Raises Unprocessable when
    there is no Moonpool in it, or none that has the module."""
    source = release.source
    assert isinstance(source, EnvironmentSource)
    python = virtualenv.python_of(Path(source.path))
    if not python.exists():
        raise NotFound(
            f"there is no Python in {source.path}", hint="Name the folder of a virtual environment."
        )
    said = virtualenv.run([str(python), "-I", "-m", MODULE, DESCRIBE, release.service])
    try:
        described = msgspec.json.decode(said, type=Described)
    except msgspec.DecodeError as error:
        raise Unprocessable(
            f"its package declares what this platform does not understand: {error}", code="release_broken"
        ) from None
    if Path(source.path).resolve() not in Path(described.file).resolve().parents:
        raise Unprocessable(
            f"there is no Moonpool in {source.path}: it would run {described.file}", code="release_broken"
        )
    return msgspec.structs.replace(release, manifest=described.manifest)
