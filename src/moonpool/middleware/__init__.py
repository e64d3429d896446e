"""The multi-middleware layer: one file a filter, and the one list that orders them (pipeline.py)."""
