"""Builds the virtual environment of a release from a wheel.

    venv/lib/…/site-packages/moonpool           from the wheel; first on the path
    venv/lib/…/site-packages/_platform.pth ───► the platform's own site-packages, for dependencies

So a release costs seconds and a few megabytes, needs no network as long as the platform's own packages
satisfy what its wheel requires, and has what the platform has (the engine, weights). What they do not
satisfy pip installs into the new environment, where it comes first. The platform's own .pth files are not
followed: one that was installed editable does not show through.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from moonpool.core.errors import Unprocessable

PTH = "_platform.pth"
SECONDS = 1800.0


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def digest(wheel: Path) -> str:
    with wheel.open("rb") as file:
        content = sha256()
        while block := file.read(1024 * 1024):
            content.update(block)
    return content.hexdigest()


def build(wheel: Path, folder: Path, tell: Callable[[str], None] = lambda step: None) -> None:
    """Make `folder` anew. Raises Unprocessable with what pip said, and then leaves nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        tell("making the environment")
        has_pip = importlib.util.find_spec("pip") is not None
        venv.EnvBuilder(symlinks=True, with_pip=not has_pip).create(folder)
        _lend_dependencies(folder)
        tell(f"installing {wheel.name}")
        pip = [sys.executable, "-m", "pip", "--python", str(python_of(folder))]
        if not has_pip:
            pip = [str(python_of(folder)), "-m", "pip"]
        pip += ["--disable-pip-version-check", "--no-input"]
        run([*pip, "install", "--no-deps", "--ignore-installed", "--no-warn-script-location", str(wheel)])
        tell("looking for what it requires")
        run([*pip, "install", "--no-warn-script-location", wheel.name.partition("-")[0]])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _lend_dependencies(folder: Path) -> None:
    paths = sysconfig.get_paths()
    lent = dict.fromkeys((paths["purelib"], paths["platlib"]))
    versioned = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / versioned / "site-packages"
    (site / PTH).write_text("".join(f"{path}\n" for path in lent))


def run(command: Sequence[str]) -> bytes:
    """What it printed. Raises Unprocessable with its last words when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(  # noqa: S603 - pip, and the environment's own Python
            list(command), capture_output=True, timeout=SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unprocessable(f"cannot be built: {error}", code="release_broken") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        told = [line for line in said if line.startswith("ERROR")] or said
        raise Unprocessable(
            f"cannot be built: {' '.join(told[-3:])[:1000] or f'exit code {done.returncode}'}",
            code="release_broken",
            hint="Build the wheel for this Python; what it requires must be installed here, or within reach.",
        )
    return done.stdout
