"""The inside of a module's process in another virtual environment: `python -I -m moonpool.wiring.hosted`.

The supervisor that starts it may be of another release than this file, so what they say to each other is
kept small and is a contract: one argument, the numbers of inherited file descriptors (`Handed`), and one
JSON document to read from `told` (`wiring.settings.ModuleSettings`; fields that one side does not know are
ignored). The module's entry point is looked up by name in this environment's own registry.

With `--describe NAME` it tells what this environment has of a module (`Described`), and ends.
"""

import os
import socket
import sys

import msgspec

from moonpool.contracts.manifest import Manifest
from moonpool.core.errors import StartupError
from moonpool.wiring.registry import find, resolve
from moonpool.wiring.runner import EX_CONFIG, run_child
from moonpool.wiring.settings import ModuleSettings

MODULE = "moonpool.wiring.hosted"
DESCRIBE = "--describe"


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of file descriptors."""

    sockets: tuple[int, ...]
    lifeline: int
    """A byte tells that another one has taken over, its end to drain and end soon."""
    status: int
    """Takes the text of a StartupError and, if the settings have a `replaced_drain_timeout`, notes
    (adapters/spawner/status.py)."""
    told: int
    """Gives the settings, then ends."""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """`file` is where this package was loaded from."""

    file: str
    manifest: Manifest | None


def describe(name: str) -> int:
    """Raises StartupError when there is no such module here, or it cannot be loaded."""
    (module,) = find([name])
    module.load_entry()
    manifest = module.load_manifest()
    if manifest is not None:
        resolve(f"moonpool.services.{name}.app:create")  # what its process would find out
    described = Described(file=__file__, manifest=manifest)
    sys.stdout.buffer.write(msgspec.json.encode(described))
    return 0


def main(argument: str) -> int:
    handed = msgspec.json.decode(argument, type=Handed)
    try:
        with os.fdopen(handed.told, "rb") as file:
            settings = msgspec.json.decode(file.read(), type=ModuleSettings)
        (module,) = find([settings.name])
    except (StartupError, msgspec.DecodeError) as error:
        os.write(handed.status, f"this release does not understand its supervisor: {error}".encode()[:4096])
        return EX_CONFIG
    sockets = [socket.socket(fileno=number) for number in handed.sockets]
    for number in (handed.lifeline, handed.status, *handed.sockets):
        os.set_inheritable(number, False)
    return run_child(module, settings, sockets, handed.lifeline, handed.status)


if __name__ == "__main__":
    sys.exit(describe(sys.argv[2]) if sys.argv[1] == DESCRIBE else main(sys.argv[1]))
