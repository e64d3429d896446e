"""The composition root: which modules there are, with which adapters, in which processes. Nothing but the
command line imports it."""
