import stat

import pytest

from moonpool.core.errors import StartupError
from moonpool.wiring.secrets import Secrets, context_key, derive, load_root, take_given


def test_hkdf_matches_rfc_5869(monkeypatch):
    """Appendix A.1, with its salt and info (which is no text, hence through latin-1)."""
    import hmac
    from hashlib import sha256

    from moonpool.wiring import secrets

    monkeypatch.setattr(secrets, "SALT", bytes(range(13)))
    info = "".join(chr(number) for number in range(0xF0, 0xFA))
    assert hmac.digest(bytes(range(13)), b"\x0b" * 22, sha256).hex().startswith("077709362c2e32df")

    class Latin(str):
        def encode(self, *_):
            return super().encode("latin-1")

    assert derive(b"\x0b" * 22, Latin(info), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_every_purpose_has_its_own_key():
    root = bytes(32)
    keys = {context_key(root, "auth"), context_key(root, "chat"), derive(root, "pepper:auth")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)
    assert context_key(root, "auth") == context_key(root, "auth")
    assert context_key(root, "auth") != context_key(bytes(31) + b"\1", "auth")


def test_the_root_is_made_once(tmp_path):
    path = tmp_path / "root.key"
    root = load_root(path, "")
    assert len(root) == 32
    assert load_root(path, "") == root
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_given_secret_wins_and_touches_no_disk(tmp_path):
    path = tmp_path / "root.key"
    assert load_root(path, "x" * 32) == load_root(path, "x" * 32) != load_root(path, "y" * 32)
    assert not path.exists()
    with pytest.raises(StartupError, match="too short"):
        load_root(path, "x" * 31)


def test_the_given_secret_is_taken_out_of_the_environment():
    environment = {"MOONPOOL_SECRET": "s", "OTHER": "o"}
    assert take_given(environment) == "s"
    assert environment == {"OTHER": "o"}
    assert take_given(environment) == ""


def test_a_damaged_root_is_refused(tmp_path):
    path = tmp_path / "root.key"
    path.write_bytes(b"short")
    with pytest.raises(StartupError, match="damaged: 5 bytes"):
        load_root(path, "")


def test_a_root_that_cannot_be_made(tmp_path):
    with pytest.raises(StartupError, match="cannot be read"):
        load_root(tmp_path / "missing" / "root.key", "")


def test_secrets_are_never_shown():
    secrets = Secrets(context=b"c" * 32, calls={"auth": b"a" * 32}, own={"pepper": b"p" * 32})
    assert repr(secrets) == str(secrets) == "Secrets(calls=['auth'], own=['pepper'])"
