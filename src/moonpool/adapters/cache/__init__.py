"""Caches: memory of one process."""
