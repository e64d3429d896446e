"""The `Prefer` field (RFC 7240): what a client would like, if it can be had. Pure."""


def preferences(value: bytes | None) -> dict[str, str]:
    """Preferences by lower-case name; one without a value has "". The first of a name counts (§2)."""
    found: dict[str, str] = {}
    if value is None:
        return found
    for item in value.decode("latin-1").split(","):
        name, _, text = item.partition(";")[0].partition("=")
        if name.strip():
            found.setdefault(name.strip().lower(), text.strip().strip('"').lower())
    return found


def without(value: bytes, name: str) -> bytes:
    """The field without the preferences of that name; b"" when nothing is left."""
    items = [item.strip() for item in value.split(b",")]
    kept = [item for item in items if name not in preferences(item)]
    return b", ".join(item for item in kept if item)
