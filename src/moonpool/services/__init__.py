"""The nine services. They know contracts and ports, and never each other."""
