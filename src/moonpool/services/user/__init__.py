"""user: what people tell the platform about themselves, and how they like it to look."""
