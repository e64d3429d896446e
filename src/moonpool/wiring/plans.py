"""The plan file of an upgrade, read and checked without a platform."""

from pathlib import Path

from moonpool.adapters.config.yaml_file import read_yaml
from moonpool.contracts.documents.validation import DocumentFault, validate
from moonpool.contracts.upgrades import Strategy, UpgradePlan
from moonpool.core.errors import StartupError
from moonpool.upgrade.plan import PLAN

MORE = "docs/upgrades.md tells every setting of a plan."


def load_plan(file: Path) -> UpgradePlan:
    """Raises StartupError with file and line of the first fault."""
    document = read_yaml(file)
    try:
        return validate(document, PLAN)
    except DocumentFault as fault:
        known = f"Allowed: {', '.join(Strategy)}." if fault.path == ("strategy",) else MORE
        raise StartupError(
            fault.message, where=document.where(fault.path), hint=fault.hint or known
        ) from fault
