"""Where the platform's documents come from, and how a process hears of their changes.

    file ──► config server ──► every process, which keeps on disk what it had last

A `Kind` says what a document of that name has to be. `current` is always valid: a document that is refused
changes nothing, and a source that is away leaves what was there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
Main = TypeVar("Main", covariant=True)

Path = tuple[str | int, ...]
"""Keys and indices from a document's root."""


class Problem(NamedTuple):
    """One fault of a document: where, what, and what would be right."""

    path: Path
    message: str
    hint: str


def no_problems(name: str, document: object) -> Iterable[Problem]:
    """For kinds whose schema says everything."""
    return ()


Others = Callable[[str], Mapping[str, object] | None]
"""The content of another document, by its name, as it is now; None when there is none."""


def any_change(name: str, new: object, old: object, others: Others) -> Iterable[Problem]:
    """For kinds of which every valid document may follow every other one."""
    return ()


def all_at_once(old: object, new: object) -> Iterable[Path]:
    """For kinds that are followed as a whole."""
    return ()


def nothing_lost(started: object, old: object, new: object) -> Iterable[str]:
    """For kinds of which clients use nothing by its name."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[T]):
    """A kind of documents.

    `name` is a document's, or `PREFIX/*` for one document each of PREFIX's things (`routing/*`). `shape` is
    the frozen struct it decodes to, unknown fields forbidden. `check(name, document)` yields what the shape
    cannot say. `change(name, new, old, others)` yields what of a change cannot be, seen from what it replaces
    (None: nothing) and from the other documents: the config server asks it before a change, followers never
    do. `restart(old, new)` yields the places of those changes that take effect only when the
    platform is started again; `lost(started, old, new)` what clients can use no more once a change has taken
    effect on a platform that was started with `started`. `writers` are the modules that may write it on their
    own behalf; admins always may, but what is `local` only as a user of the machine, never through a gateway.
    With `environment`, each process lays its environment's settings over the document.
    """

    name: str
    shape: type[T]
    summary: str
    check: Callable[[str, T], Iterable[Problem]] = no_problems
    change: Callable[[str, T, T | None, Others], Iterable[Problem]] = any_change
    restart: Callable[[T, T], Iterable[Path]] = all_at_once
    lost: Callable[[T, T, T], Iterable[str]] = nothing_lost
    writers: tuple[str, ...] = ()
    local: bool = False
    environment: bool = False

    def covers(self, name: str) -> bool:
        """Whether the document `name` is of this kind."""
        if not self.name.endswith("/*"):
            return name == self.name
        return name.startswith(self.name[:-1]) and len(name) >= len(self.name)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a source is doing. `live`: it hears of changes now. `version` is of the main document, 0 for one
    that no config server has numbered; `refused` says why the newest document is not in use ("": it is)."""

    live: bool
    version: int
    origin: str
    """What `current` came from: "server", "snapshot", "file" or "defaults"."""
    refused: str = ""


class ConfigSource(Protocol, Generic[Main]):
    """`Main` is the platform's own configuration, which is always there."""

    async def start(self) -> None:
        """Begin to follow. Raises StartupError with file and line when the first document is broken."""

    async def stop(self) -> None:
        """`current` stays what it was."""

    @property
    def current(self) -> Main: ...

    @property
    def standing(self) -> Standing: ...

    def find(self, kind: Kind[T], name: str) -> T | None:
        """The document of that name; None when there is none."""

    def subscribe(self, kind: Kind[T], callback: Callable[[str, T | None, T], None]) -> None:
        """Called in the event loop with name, old and new for every new valid document of that kind."""
