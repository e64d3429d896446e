"""Upgrades of a running platform, told and watched as an operator does."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from harness.platform import Platform, wait_until
from moonpool.cli.release_documents import ReleaseDocuments
from moonpool.contracts.releases import Release

LIMITS = {"requests_per_minute": 10_000_000, "tokens_per_minute": 1_000_000_000, "concurrent": 2000}
"""None that a test's load comes near."""


def told(platform: Platform, *words: str, code: int = 0, timeout: float = 120) -> dict[str, Any]:
    """`moonpool WORDS --json`, which must end with `code`."""
    done = platform.command(*words, "--json", timeout=timeout)
    said = f"{words}: {done.returncode} {done.stdout}\n{done.stderr}"
    assert done.returncode == code, f"{said}\n{platform.logs()}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def add(platform: Platform, release: Release) -> Release:
    """As `moonpool release add` does it."""
    return await asyncio.to_thread(ReleaseDocuments(platform.data).add, release)


def upgrade(
    platform: Platform,
    service: str,
    label: str,
    strategy: str,
    *,
    code: int = 0,
    wait: bool = True,
    timeout: float = 120,
    **plan: Any,
) -> dict[str, Any]:
    """`upgrade start SERVICE --to LABEL`; its view at its end, or when it has begun."""
    file = Path(f"{platform.data}-{service}-{label}.yaml")
    file.write_text(json.dumps(plan))  # JSON is YAML, too
    words = ["upgrade", "start", service, "--to", label, "--strategy", strategy, "--plan", str(file)]
    return told(platform, *words, *(["--wait"] if wait else []), code=code, timeout=timeout)


def view(platform: Platform, name: str) -> dict[str, Any]:
    """An upgrade by id, or the newest of a service, as soon as there is a manager to tell."""

    def ask() -> dict[str, Any]:
        answer = platform.request("GET", f"/admin/upgrades/{name}")
        found: dict[str, Any] = answer.json() if answer.status == 200 else {}
        return found

    return wait_until(ask, "an answer of the manager")


def history(platform: Platform, id: str) -> list[dict[str, Any]]:
    """Oldest first."""
    data: list[dict[str, Any]] = told(platform, "upgrade", "history", id)["data"]
    return sorted(data, key=lambda one: one["at"])


def began(platform: Platform, id: str, what: str) -> float:
    """When a phase of an upgrade first began (Unix seconds)."""
    return next(float(one["at"]) for one in history(platform, id) if one["what"].startswith(what))


def modules(platform: Platform, name: str = "") -> list[dict[str, Any]]:
    """Every instance, those of one module if it is named."""
    return [one for one in platform.instances() if name in ("", one["name"])]


def releases(platform: Platform, name: str) -> list[str]:
    return [one["release"] for one in modules(platform, name)]


def kill(platform: Platform, name: str, release: str = "", *, most: int = 100) -> int:
    """`kill -9` of a module's processes; how many there were."""
    found = [one for one in modules(platform, name) if release in ("", one["release"]) and one["pid"]]
    for one in found[:most]:
        os.kill(one["pid"], signal.SIGKILL)
    return len(found[:most])
