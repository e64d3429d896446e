"""What the platform needs from infrastructure, as Protocols. Adapters implement them; one contract suite
a port (tests/contract) is run by every adapter."""
