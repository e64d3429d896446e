"""Object stores: a folder."""
