from __future__ import annotations

import pytest

from pytest_erp_sandbox.dolibarr.rights import resolve_rights
from pytest_erp_sandbox.errors import AgentError
from pytest_erp_sandbox.postgres.connection import SandboxConnection


@pytest.mark.parametrize(
    ("patterns", "ids"),
    [
        (["societe.creer"], [122]),
        (["facture.invoice_advance.validate"], [14]),
        (["produit.*"], [31, 32, 34, 38]),
        (["societe.*"], [121, 122, 125, 126, 130, 262, 281, 282, 283, 286]),
        (["*.lire"], [11, 31, 81, 121, 251, 281]),
        (["societe.contact.*", "societe.lire", "*.contact.lire"], [121, 281, 282, 283, 286]),
        ([], []),
    ],
)
def test_names_and_wildcards_give_ids(connection: SandboxConnection, patterns: list[str], ids: list[int]) -> None:
    assert resolve_rights(connection, patterns, entity=1) == ids


def test_unknown_rights_are_all_named_with_near_names(connection: SandboxConnection) -> None:
    with pytest.raises(AgentError) as refused:
        resolve_rights(connection, ["societe.lire", "societe.creeer", "factures.*", "xyzzy"], entity=1)
    message = str(refused.value)
    assert "'societe.creeer' (near: societe.creer" in message
    assert "'factures.*' (near: facture.*" in message
    assert "'xyzzy' (near: no name is near)" in message
    assert "'societe.lire'" not in message


def test_the_case_of_a_name_counts(connection: SandboxConnection) -> None:
    with pytest.raises(AgentError, match=r"Societe\.lire"):
        resolve_rights(connection, ["Societe.lire"], entity=1)


def test_a_right_of_another_company_does_not_count(connection: SandboxConnection) -> None:
    connection.execute("INSERT INTO llx_rights_def (id, entity, module, perms) VALUES (9001, 2, 'mine', 'lire')")
    assert resolve_rights(connection, ["mine.lire"], entity=2) == [9001]
    with pytest.raises(AgentError, match=r"mine\.lire"):
        resolve_rights(connection, ["mine.lire"], entity=1)


def test_leftovers_without_perms_match_nothing(connection: SandboxConnection) -> None:
    connection.execute("INSERT INTO llx_rights_def (id, module, perms) VALUES (9001, 'old', NULL), (9002, 'old', '')")
    with pytest.raises(AgentError, match=r"'old\*'"):
        resolve_rights(connection, ["old*"], entity=1)


def test_an_empty_subright_is_none(connection: SandboxConnection) -> None:
    connection.execute("INSERT INTO llx_rights_def (id, module, perms, subperms) VALUES (9001, 'mine', 'lire', '')")
    assert resolve_rights(connection, ["mine.lire"], entity=1) == [9001]
