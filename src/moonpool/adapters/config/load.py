"""From a file and the environment to the platform's configuration, or an error that says where and what is
allowed."""

from collections.abc import Mapping
from pathlib import Path as FilePath

from moonpool.adapters.config.yaml_file import read_yaml
from moonpool.contracts.config import PlatformConfig
from moonpool.contracts.documents.environment import apply_environment
from moonpool.contracts.documents.place import Document
from moonpool.contracts.documents.platform import PLATFORM
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.core.errors import StartupError
from moonpool.ports.config import Kind


def load(
    file: FilePath | None, environ: Mapping[str, str], kind: Kind[PlatformConfig] = PLATFORM
) -> PlatformConfig:
    """Without a file: the defaults, and what the environment says. `kind` may check more than PLATFORM does.
    Raises StartupError."""
    document = Document("the environment", {}) if file is None else read_yaml(file)
    return overlaid(document, environ, kind)


def overlaid(
    document: Document, environ: Mapping[str, str], kind: Kind[PlatformConfig] = PLATFORM
) -> PlatformConfig:
    """`document` with the environment over it (which changes `document`). Raises StartupError."""
    if document.data is None or isinstance(document.data, dict):
        apply_environment(document, environ)
    try:
        return validate(document, kind)
    except DocumentFault as fault:
        raise StartupError(fault.message, where=document.where(fault.path), hint=fault.hint) from fault
