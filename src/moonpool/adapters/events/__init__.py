"""Event logs: one SQLite file for the whole platform."""
