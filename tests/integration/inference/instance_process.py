"""One inference instance as a process of its own, to be killed: `python instance_process.py SOCKET`."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import uvicorn

from moonpool.contracts.config import PlatformConfig
from moonpool.services.inference.app import create


def shared() -> Any:
    """The fixtures' module, which is no package's."""
    path = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("inference_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    fixtures = shared()
    socket = Path(sys.argv[1])
    app = create(fixtures.parts_of(PlatformConfig(engine=fixtures.ENGINE), socket.parent))
    uvicorn.run(app, uds=str(socket), log_level="warning")
