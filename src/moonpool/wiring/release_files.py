"""The documents of releases, judged on the machine that runs them: what a release runs from must be there
when it is added, also by going back to an older version of a document."""

from pathlib import Path

from moonpool.contracts.releases import EnvironmentSource, Release
from moonpool.upgrade.release_documents import releases_kind


def missing(release: Release) -> str:
    """Programs and endpoints may come later; an environment that was collected does not."""
    match release.source:
        case EnvironmentSource(path=path) if not (Path(path) / "bin" / "python").exists():
            return f"its virtual environment is gone: {path}"
    return ""


RELEASES = releases_kind(missing)
