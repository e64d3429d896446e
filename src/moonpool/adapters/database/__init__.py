"""Databases: SQLite files, brought to the schema of this code when they are opened."""
