"""Litestar without what it adds by itself for libraries that our services do not use."""

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin


class Application(Litestar):
    """Our shapes are msgspec's. Pydantic is there for the command line's sake (typer), and Litestar would
    load it into every service: 7 MB, and its plugins look at every type."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]

    @staticmethod
    def _patch_opentelemetry_middleware(config: AppConfig) -> AppConfig:
        """It would look for libraries that are not there, on the whole path. Spans are asgi/tracing.py's."""
        return config
