"""Where instances are: a file that the supervisor writes, or a fixed mapping."""
