"""Limits: memory of one process."""
