from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.dolibarr.crypt import API_KEY_IV, MAX_KEY_LENGTH, decrypt, encrypt
from pytest_erp_sandbox.errors import AgentError

# From Dolibarr's own function: key, unique id, stored form.
VECTORS = [
    (
        "ai-agent-key-0001",
        "0123456789abcdef0123456789abcdef",
        "dolcrypt:AES-256-CTR:10fbb3f05469219f:G8mlxSgtnYtthCqA8sLw32o=",
    ),
    (
        "sandbox-key-0001",
        "84b5bc91f83b56e458db71e0adac2b62",
        "dolcrypt:AES-256-CTR:10fbb3f05469219f:DFxIeBulA5WLJ7qQuq61wA==",
    ),
]
KEY, UNIQUE_ID, STORED = VECTORS[0]


@pytest.mark.parametrize(("key", "unique_id", "stored"), VECTORS)
def test_a_key_is_encrypted_as_dolibarr_does_it(key: str, unique_id: str, stored: str) -> None:
    assert encrypt(SecretStr(key), SecretStr(unique_id)) == stored


@pytest.mark.parametrize(("key", "unique_id", "stored"), VECTORS)
def test_what_dolibarr_encrypted_is_decrypted(key: str, unique_id: str, stored: str) -> None:
    assert decrypt(stored, SecretStr(unique_id)) == SecretStr(key)


def test_the_longest_key_fits_dolibarrs_column() -> None:
    assert len(encrypt(SecretStr("k" * MAX_KEY_LENGTH), SecretStr(UNIQUE_ID))) <= 128


def test_another_iv_is_kept_in_the_stored_form() -> None:
    stored = encrypt(SecretStr(KEY), SecretStr(UNIQUE_ID), iv=b"4d1a9be03c7f5268")
    assert stored.startswith("dolcrypt:AES-256-CTR:4d1a9be03c7f5268:")
    assert stored.rpartition(":")[2] != STORED.rpartition(":")[2]
    assert decrypt(stored, SecretStr(UNIQUE_ID)) == SecretStr(KEY)


@pytest.mark.parametrize(("unique_id", "same_as"), [("short", "short" + "\0" * 27), (UNIQUE_ID, UNIQUE_ID + "more")])
def test_a_unique_id_is_padded_or_cut_to_32_bytes(unique_id: str, same_as: str) -> None:
    assert encrypt(SecretStr(KEY), SecretStr(unique_id)) == encrypt(SecretStr(KEY), SecretStr(same_as))


def test_a_key_from_before_dolibarr_18_is_read_as_it_is() -> None:
    assert decrypt("an-old-plain-key", SecretStr(UNIQUE_ID)) == SecretStr("an-old-plain-key")


@pytest.mark.parametrize(
    "stored",
    [
        "dolcrypt:AES-256-CTR:10fbb3f05469219f:not base64!",
        "dolcrypt:AES-256-CTR:tooshort:G8mlxSgtnYtthCqA8sLw32o=",
        "dolcrypt:AES-256-GCM:10fbb3f05469219f:G8mlxSgtnYtthCqA8sLw32o=",
        "dolcrypt:",
    ],
)
def test_what_is_no_encrypted_key_is_none(stored: str) -> None:
    assert decrypt(stored, SecretStr(UNIQUE_ID)) is None


def test_a_key_of_another_instance_is_none() -> None:
    assert decrypt(STORED, SecretStr("84b5bc91f83b56e458db71e0adac2b62")) is None


def test_unprintable_bytes_are_no_key() -> None:
    head, _, encrypted = encrypt(SecretStr("A"), SecretStr(UNIQUE_ID)).rpartition(":")
    flipped = bytes(byte ^ 0x40 for byte in base64.b64decode(encrypted))
    assert decrypt(f"{head}:{base64.b64encode(flipped).decode()}", SecretStr(UNIQUE_ID)) is None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("clé", "printable ASCII"),
        ("a\nb", "printable ASCII"),
        ("", "printable ASCII"),
        ("k" * (MAX_KEY_LENGTH + 1), "67 bytes"),
        ("dolcrypt:x", "must not begin"),
        ("DolCrypt:x", "must not begin"),
    ],
)
def test_a_key_that_dolibarr_cannot_take_is_refused_without_naming_it(key: str, said: str) -> None:
    with pytest.raises(AgentError, match=said) as refused:
        encrypt(SecretStr(key), SecretStr(UNIQUE_ID), API_KEY_IV)
    assert not key or key not in str(refused.value)
