"""The configuration document as the processes read it at their start."""

from moonpool.contracts.config import PlatformConfig


def load_config(path: str) -> PlatformConfig:
    """The file's document with the environment's overrides; the defaults when `path` is "".

    Raises StartupError with file and line when it is broken.
    """
    return PlatformConfig()
