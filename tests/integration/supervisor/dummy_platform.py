"""The `moonpool` program with dummy modules instead of the real ones: `python dummy_platform.py up …`."""

import json
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import msgspec  # noqa: E402

from moonpool.cli.main import main  # noqa: E402
from moonpool.contracts.config import PlatformConfig  # noqa: E402
from moonpool.wiring import configuration, planning, serve  # noqa: E402
from moonpool.wiring.keeper import KeeperSettings  # noqa: E402
from moonpool.wiring.registry import Module  # noqa: E402

MODULES = (
    Module(name="front", entry="dummy_modules:run", public=True, needs=("beta",)),
    Module(name="beta", entry="dummy_modules:run"),
)

real_plan = planning.make_plan


def dummy_plan(config, *, path="", host=None, port=None):
    plan = real_plan(config, host=host, port=port)
    preload = () if os.environ.get("DUMMY_PRELOAD") == "none" else ("moonpool.wiring.runner",)
    return msgspec.structs.replace(
        plan,
        config=path,
        modules=MODULES,
        drain_timeout=2.0,
        preload=preload,
        keeping=KeeperSettings(backoff_first=0.02, backoff_most=0.2, probe_starting=0.01, probe_steady=0.05),
    )


def load_config(path, run=None):
    if path:
        json.loads(Path(path).read_text())
    return PlatformConfig()


planning.make_plan = dummy_plan
configuration.load_config = configuration.starting_config = load_config
serve.REGISTRY = MODULES
serve.ServePlan = msgspec.defstruct(
    "ServePlan", [("registry", tuple, MODULES)], bases=(serve.ServePlan,), frozen=True, kw_only=True
)

if __name__ == "__main__":
    main()
