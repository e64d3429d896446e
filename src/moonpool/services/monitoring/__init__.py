"""Health of everything, recent requests with their decisions, and one exposition of all metrics."""
