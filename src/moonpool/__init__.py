"""Moonpool: a self-hosted LLM platform behind one resilient gateway."""

__version__ = "0.1.0"
