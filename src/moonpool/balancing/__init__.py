"""Which endpoint gets a request. Deciding is pure and clock-injected; nothing here does I/O."""
