"""What is listed as encrypted, and which of it the sandbox's unique id decrypts."""

from __future__ import annotations

from pydantic import SecretStr

from pytest_erp_sandbox.dolibarr.crypt import decrypts, encrypt
from pytest_erp_sandbox.dolibarr.encrypted import Encrypted, read_encrypted
from pytest_erp_sandbox.postgres.connection import SandboxConnection

from ..estates import Project

PRODS = SecretStr("c0ffee5eed0f9a17b2d4e6f8091a3b5c")
OURS = SecretStr("0123456789abcdef0123456789abcdef")
IV = b"4d1a9be03c7f5268"


def test_constants_are_listed_by_name_and_columns_by_their_rows(connection: SandboxConnection) -> None:
    ours = encrypt(SecretStr("a-password-of-ours"), OURS, IV)
    # Agents that other tests have made here have keys, too.
    connection.execute("UPDATE llx_user SET api_key = NULL WHERE login NOT IN ('admin', 'alice')")
    connection.execute(
        "INSERT INTO llx_const (name, entity, value) VALUES ('OF_OURS', 2, %s), ('BROKEN', 0, 'dolcrypt:what'),"
        " ('ABOUT_IT', 1, 'not dolcrypt:AES-256-CTR')",
        [ours],
    )
    connection.execute("UPDATE llx_societe SET note_private = %s WHERE rowid IN (1, 2)", [ours])
    found = {each.where: each for each in read_encrypted(connection, OURS)}
    assert found["llx_const.value OF_OURS (entity 2)"] == Encrypted("llx_const.value OF_OURS (entity 2)", 1, 0)
    assert found["llx_const.value BROKEN (entity 0)"].unreadable == 1
    assert found["llx_const.value MAIN_MAIL_SMTPS_PW (entity 1)"].unreadable == 1
    assert found["llx_societe.note_private"] == Encrypted("llx_societe.note_private", 2, 0)
    assert found["llx_user.api_key"] == Encrypted("llx_user.api_key", 1, 1)
    assert not [where for where in found if "ABOUT_IT" in where]

    of_prod = {each.where: each.unreadable for each in read_encrypted(connection, PRODS)}
    assert of_prod["llx_user.api_key"] == of_prod["llx_const.value MAIN_MAIL_SMTPS_PW (entity 1)"] == 0
    assert of_prod["llx_societe.note_private"] == 2


def test_without_a_unique_id_nothing_decrypts(connection: SandboxConnection) -> None:
    assert all(each.unreadable == each.rows > 0 for each in read_encrypted(connection, None))


def test_a_database_without_tables_has_nothing_encrypted(no_dolibarr: SandboxConnection) -> None:
    assert read_encrypted(no_dolibarr, OURS) == []


def test_by_chance_a_value_of_eight_characters_hardly_ever_decrypts() -> None:
    stored = [encrypt(SecretStr(f"pw{number:06}"), PRODS, f"{number:016x}".encode()) for number in range(2000)]
    assert all(decrypts(each, PRODS) for each in stored)
    assert sum(decrypts(each, OURS) for each in stored) < 20


def test_status_lists_them_without_showing_any(project: Project) -> None:
    settings = project.estate.settings(quarantine=False)
    settings["golden"] = {"path": project.path / "cache"}
    project.configure(settings)
    assert project.command("reset").returncode == 0
    done = project.command("status", "--encrypted", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [
        "llx_const.value",
        "MAIN_MAIL_SMTPS_PW",
        "(entity",
        "1)",
        project.estate.estate.sandboxes[0].name,
        "1",
        "1",
    ] in rows
    # The agent's own decrypts, prod's does not.
    assert ["llx_user.api_key", project.estate.estate.sandboxes[0].name, "2", "1"] in rows
    assert "dolcrypt" not in done.stdout
    assert "encrypted" not in project.command("status").stdout
