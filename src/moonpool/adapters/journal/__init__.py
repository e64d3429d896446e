"""Spools beside the process: what must survive it before it is on its way."""
