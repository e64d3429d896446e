"""Which document and which versions are meant: `config diff releases/chat 1 3`, `config diff 1 3`. Pure."""

from collections.abc import Sequence

import typer


def read_versions(words: Sequence[str], document: str) -> tuple[str, tuple[int | None, int | None]]:
    """`[DOCUMENT] [A] [B]`: the document (`document` unless it is named), and what was given of A and B."""
    document, versions = _read(words, document)
    if len(versions) > 2:
        raise typer.BadParameter(f"two versions differ, and these are {len(versions)}.")
    old, new, *_ = *versions, None, None
    return document, (old, new)


def read_version(words: Sequence[str], document: str) -> tuple[str, int]:
    """`[DOCUMENT] VERSION`."""
    document, versions = _read(words, document)
    if len(versions) != 1 or versions[0] == 0:
        raise typer.BadParameter("name one version, as `moonpool config history` shows them.")
    return document, versions[0]


def _read(words: Sequence[str], document: str) -> tuple[str, list[int]]:
    versions = list(words)
    if versions and not versions[0].isdecimal():
        document = versions.pop(0)
    for word in versions:
        if not word.isdecimal():
            raise typer.BadParameter(f"{word!r} is no version: those are numbers.")
    return document, [int(word) for word in versions]
