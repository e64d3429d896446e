"""What can be seen to fail before a platform's first start, by looking only: a start that is refused has made
nothing, not even the data folder.

Later starts look at the same when they come to it: there releases may bring other models, and processes of
the run before may still hold the port for a moment.
"""

import importlib.util
from pathlib import Path

from moonpool.contracts.config import PlatformConfig
from moonpool.core.errors import StartupError
from moonpool.services.inference.weights import INSTALL, local_models
from moonpool.wiring.layout import Layout
from moonpool.wiring.listening import bind_tcp
from moonpool.wiring.supervisor import Plan

ENGINE = "xllamacpp"
_ENGINE_OWNER = "inference"


def check_first_start(layout: Layout, config: PlatformConfig, plan: Plan) -> None:
    """Raises StartupError, in the words of whoever would have found it later."""
    if layout.run.exists():
        return
    if any(module.name == _ENGINE_OWNER for module in plan.modules):
        check_models(config)
    if any(module.public for module in plan.modules):
        for sock in bind_tcp(plan.host, plan.port):
            sock.close()


def check_models(config: PlatformConfig) -> dict[str, Path]:
    """The files of local models. Raises StartupError when one of them, or the engine, is not there."""
    files = local_models(config.models)
    if files and importlib.util.find_spec(ENGINE) is None:
        raise StartupError("the engine is not installed", where=ENGINE, hint=f"{INSTALL}.")
    return files
