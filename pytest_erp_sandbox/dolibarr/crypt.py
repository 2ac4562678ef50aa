"""API keys as Dolibarr stores them from version 18 on: encrypted with the instance's unique id."""

from __future__ import annotations

import base64
import binascii

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import SecretBytes, SecretStr

from ..errors import AgentError

__all__ = ["API_KEY_IV", "ENCRYPTED", "MAX_KEY_LENGTH", "decrypt", "decrypts", "encrypt"]

API_KEY_IV = b"10fbb3f05469219f"
"""The initialization vector of every API key: always the same, so that Dolibarr can look up an encrypted key."""

MAX_KEY_LENGTH = 66
"""The longest key, in bytes, whose encrypted form fits the column (``varchar(128)``)."""

ENCRYPTED = "dolcrypt:"
"""With which encrypted values begin, whatever they are of."""

_CIPHER = "AES-256-CTR"
_CIPHER_KEY_LENGTH = 32


def encrypt(plain: SecretStr, unique_id: SecretStr, iv: bytes = API_KEY_IV) -> str:
    """Give the form in which Dolibarr stores the API key ``plain``.

    There is no integrity check in it, and with a constant ``iv`` one known key reveals the others.

    Args:
        plain: printable ASCII, at most ``MAX_KEY_LENGTH`` bytes.
        unique_id: the instance's unique id (``$dolibarr_main_instance_unique_id``).
        iv: 16 bytes; Dolibarr looks keys up under the default alone.

    Raises:
        AgentError: Dolibarr could not take such a key.
    """
    _check(plain)
    encryptor = _cipher(unique_id, iv).encryptor()
    encrypted = encryptor.update(plain.get_secret_value().encode()) + encryptor.finalize()
    return f"{ENCRYPTED}{_CIPHER}:{iv.decode()}:{base64.b64encode(encrypted).decode()}"


def decrypt(stored: str, unique_id: SecretStr) -> SecretStr | None:
    """Read a key back from what Dolibarr stored, encrypted or (as before Dolibarr 18) as it is.

    Returns:
        The key, or None if this is not a key that was encrypted with ``unique_id``.
    """
    if not stored.startswith(ENCRYPTED):
        return SecretStr(stored)
    plain = _decrypted(stored, unique_id)
    # Another unique id gives other bytes, not an error: printable ones by chance only in the shortest of keys.
    key = "" if plain is None else plain.get_secret_value()
    return plain if key.isascii() and key.isprintable() else None


def decrypts(stored: str, unique_id: SecretStr) -> bool:
    """Whether a value that Dolibarr stored encrypted, of whatever kind, seems to be so with ``unique_id``.

    A short one, of another unique id, may seem to be by chance: of eight characters, one of some thousand.
    """
    plain = _decrypted(stored, unique_id)
    return plain is not None and _is_text(plain)


def _decrypted(stored: str, unique_id: SecretStr) -> SecretStr | None:
    cipher, _, rest = stored.removeprefix(ENCRYPTED).partition(":")
    iv, _, encrypted = rest.partition(":")
    if cipher != _CIPHER or len(iv.encode()) != len(API_KEY_IV):
        return None
    try:
        decryptor = _cipher(unique_id, iv.encode()).decryptor()
        return SecretStr(decryptor.update(base64.b64decode(encrypted, validate=True)).decode())
    except (binascii.Error, UnicodeDecodeError):
        return None


def _is_text(plain: SecretStr) -> bool:
    return "".join(plain.get_secret_value().split()).isprintable()


def _check(plain: SecretStr) -> None:
    key = plain.get_secret_value
    if not key() or not key().isascii() or not key().isprintable():
        raise AgentError("an API key has to be printable ASCII")
    if len(key()) > MAX_KEY_LENGTH:
        raise AgentError(f"an API key has {len(key())} bytes; Dolibarr can store {MAX_KEY_LENGTH} encrypted")
    if key().lower().startswith(ENCRYPTED):
        raise AgentError(f"an API key must not begin with {ENCRYPTED!r}: Dolibarr refuses it")


def _cipher(unique_id: SecretStr, iv: bytes) -> Cipher[modes.CTR]:
    padded = SecretBytes(unique_id.get_secret_value().encode()[:_CIPHER_KEY_LENGTH].ljust(_CIPHER_KEY_LENGTH, b"\0"))
    return Cipher(algorithms.AES256(padded.get_secret_value()), modes.CTR(iv))
