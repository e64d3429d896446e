"""Encryption at rest: AES-256-GCM (NIST SP 800-38D) with a random nonce for every write.

The letter's id is authenticated with its content, so that contents cannot be exchanged between letters. The
id of the key stands beside: after a rotation older letters are still read with the older key.
"""

import hmac
import os
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moonpool.core.errors import InternalError
from moonpool.ports.dead_letters import Answered, Failed, Letter, Note, Sent

NONCE = 12
"""Bytes, as the mode has it; random ones are safe for 2^32 writes a key (SP 800-38D §8.3)."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What of a letter is sealed: everything but its note."""

    sent: Sent
    failures: tuple[Failed, ...]
    answer: Answered | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Content)


class Seal:
    """`keys`: 32 bytes each, the one to seal with first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_id_of(key): AESGCM(key) for key in keys}
        self.key_id = _id_of(keys[0])
        self._naming = hmac.digest(keys[0], b"dead letters: names", sha256)

    def seal(self, letter: Letter) -> bytes:
        content = Content(sent=letter.sent, failures=letter.failures, answer=letter.answer)
        nonce = os.urandom(NONCE)
        sealed = self._keys[self.key_id].encrypt(nonce, _encoder.encode(content), letter.note.id.encode())
        return nonce + sealed

    def open(self, note: Note, key_id: str, sealed: bytes) -> Letter:
        """Raises InternalError when the key is not there, or the content is not what was sealed."""
        key = self._keys.get(key_id)
        if key is None:
            raise InternalError(
                f"the dead letter {note.id} was sealed with another key",
                code="letter_unreadable",
                hint="Restore the platform's secret with which it was written, or purge it.",
            )
        try:
            plain = key.decrypt(sealed[:NONCE], sealed[NONCE:], note.id.encode())
        except InvalidTag:
            raise InternalError(f"the dead letter {note.id} is damaged", code="letter_unreadable") from None
        content = _decoder.decode(plain)
        return Letter(note=note, sent=content.sent, failures=content.failures, answer=content.answer)

    def name(self, text: str) -> str:
        """The same for the same text, of which it tells nothing (a client's Idempotency-Key might)."""
        return hmac.digest(self._naming, text.encode(), sha256).hex()[:40]


def _id_of(key: bytes) -> str:
    """Tells keys apart and nothing about them."""
    return hmac.digest(key, b"dead letters: key id", sha256).hex()[:16]
