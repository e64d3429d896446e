"""What the adapters on Redis share: a connection of our own on hiredis (docs/adr/0017)."""
