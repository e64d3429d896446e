"""One root secret, and a key of its own for every purpose.

Derived keys are HKDF-SHA-256 (RFC 5869) of the root with the purpose as `info`: whoever has one learns
nothing about the others. A service is given its own context key and those of the services that its
manifest's `calls` names; the gateway, which calls everyone, is given all. Keys travel to children over
an inherited pipe, never in arguments or environment, where other processes could read them.
"""

import contextlib
import hmac
import os
import secrets
from collections.abc import MutableMapping
from hashlib import sha256
from pathlib import Path

import msgspec

from moonpool.core.errors import StartupError

SECRET_ENV = "MOONPOOL_SECRET"  # noqa: S105 - a variable's name
ROOT_BYTES = 32
SALT = b"moonpool/v1"


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What one module may know. Never shown: not by `repr`, hence not in logs or tracebacks."""

    context: bytes = b""
    """Verifies the signed contexts that this module is called with (the gateway has none)."""
    calls: dict[str, bytes] = {}
    """Signs the contexts of calls to a service, by its name."""
    own: dict[str, bytes] = {}
    """Keys by purpose that this module alone needs, for instance auth's "pepper"."""

    def __repr__(self) -> str:
        return f"Secrets(calls={sorted(self.calls)}, own={sorted(self.own)})"


def take_given(environment: MutableMapping[str, str] = os.environ) -> str:
    """`$MOONPOOL_SECRET`, which is taken away so that no child inherits it; "" when there is none."""
    return environment.pop(SECRET_ENV, "")


def load_root(path: Path, given: str) -> bytes:
    """`given` (at least 32 characters), else the file's 32 bytes, made at the first call.

    Raises StartupError when the secret is too short, or the file is damaged or cannot be made.
    """
    if given:
        if len(given) < ROOT_BYTES:
            raise StartupError(
                f"is too short: {len(given)} characters",
                where=f"${SECRET_ENV}",
                hint="Give at least 32 random ones, as `openssl rand -hex 32` prints them.",
            )
        return sha256(given.encode()).digest()
    try:
        root = _read_or_create(path)
    except OSError as error:
        raise StartupError(
            f"the root secret cannot be read: {(error.strerror or str(error)).lower()}",
            where=str(path),
            hint="Give the file back to the user who runs the platform, with mode 0600.",
        ) from error
    if len(root) != ROOT_BYTES:
        raise StartupError(
            f"the root secret is damaged: {len(root)} bytes instead of {ROOT_BYTES}",
            where=str(path),
            hint="Restore it from a backup: without it the stored API keys cannot be verified.",
        )
    return root


def _read_or_create(path: Path) -> bytes:
    """Written beside its place and linked into it: two starters agree on one, none sees a half."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(ROOT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_bytes()


def derive(root: bytes, purpose: str, length: int = 32) -> bytes:
    """HKDF (RFC 5869 §2): extract, then as many blocks of expand as `length` needs (at most 255)."""
    key = hmac.digest(SALT, root, sha256)
    block, output = b"", b""
    counter = 1
    while len(output) < length:
        block = hmac.digest(key, block + purpose.encode() + bytes([counter]), sha256)
        output += block
        counter += 1
    return output[:length]


def context_key(root: bytes, service: str) -> bytes:
    return derive(root, f"context:{service}")
