"""What a module's process is told when it starts."""

import msgspec

from moonpool.contracts.releases import FIRST, Overrides
from moonpool.wiring.secrets import Secrets


class ModuleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Goes to the child over an inherited pipe.

    `endpoint` is what others call it by, `data` the platform's folder, `config` the configuration
    file ("": none), `topology` the file that tells where everyone is, `drain_timeout` how many seconds it has
    to drain, `replaced_drain_timeout` when it was replaced (0: nobody will say that it was). `slot` is the
    place in which this process succeeds one that has ended ("": it succeeds nobody). `overrides` are the
    release's, over every configuration that it is given.
    """

    name: str
    release: str = FIRST
    instance: str
    slot: str = ""
    endpoint: str
    data: str
    config: str = ""
    topology: str
    overrides: Overrides = Overrides()
    secrets: Secrets = Secrets()
    drain_timeout: float = 30.0
    replaced_drain_timeout: float = 0.0
    log_level: str = "info"
