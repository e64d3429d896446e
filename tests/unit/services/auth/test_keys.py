import pytest

from moonpool.core.clock import ManualClock
from moonpool.services.auth import keys

PEPPER = b"0123456789abcdef"


def test_a_minted_key_parses_to_itself() -> None:
    key = keys.mint(ManualClock())
    assert keys.parse(key.text) == key
    assert key.text.startswith("sk-mp-" + key.id.removeprefix("key_") + "-")


def test_the_secret_has_at_least_128_bits() -> None:
    secret = keys.mint(ManualClock()).text.rsplit("-", 1)[1]
    assert len(secret) * 5 >= 128
    assert len({keys.mint(ManualClock()).text.rsplit("-", 1)[1] for _ in range(500)}) == 500


def test_its_representation_hides_the_secret() -> None:
    key = keys.mint(ManualClock())
    assert key.text.rsplit("-", 1)[1] not in f"{key!r} {key}"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text + "\n",
        lambda text: text.upper(),
        lambda text: text.replace("sk-mp-", "sk-"),
        lambda text: text[:-1] + "u",
        lambda text: text[:-1] + "é",
        lambda text: "sk-mp-" + "0" * 100_000,
    ],
)
def test_anything_else_is_not_a_key(change) -> None:
    assert keys.parse(change(keys.mint(ManualClock()).text)) is None


def test_only_the_same_text_and_pepper_match() -> None:
    key, other = keys.mint(ManualClock()), keys.mint(ManualClock())
    stored = keys.digest(PEPPER, key.text)
    assert keys.matches(PEPPER, key.text, stored)
    assert not keys.matches(PEPPER, other.text, stored)
    assert not keys.matches(b"another pepper...", key.text, stored)
    assert key.text not in stored
