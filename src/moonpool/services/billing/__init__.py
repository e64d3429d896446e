"""billing: what was consumed. Every usage event is counted exactly once, whatever is killed on the way."""
