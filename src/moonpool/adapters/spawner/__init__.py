"""Spawners: local processes."""
