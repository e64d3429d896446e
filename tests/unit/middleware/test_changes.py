import pytest

from moonpool.middleware.changes import Changes


@pytest.mark.parametrize(
    ("written", "path", "changed"),
    [
        ("/v1/files", "/v1/files", True),
        ("/v1/files/f1", "/v1/files", True),
        ("/v1/files/f1", "/v1/files/f1/content", True),
        ("/v1/files/f1", "/v1/files/f2", False),
        ("/v1/files/f1", "/v1/files/f11", False),
        ("/v1/files", "/v1/models", False),
        ("/api/users/me", "/api/users", True),
    ],
)
def test_what_a_write_makes_untrue(written: str, path: str, changed: bool) -> None:
    changes = Changes()
    before = changes.now
    changes.write("org", written)
    assert changes.since("org", path, before) is changed
    assert not changes.since("org", path, changes.now)
    assert not changes.since("another", path, before)


def test_what_was_forgotten_counts_as_changed() -> None:
    changes = Changes(capacity=2)
    before = changes.now
    changes.write("org", "/a")
    for name in "bcd":
        changes.write("org", f"/{name}")
    assert changes.since("org", "/a", before)
    assert not changes.since("org", "/a", changes.now)
