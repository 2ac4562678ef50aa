"""Documents in a pod, put back to what they were."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_erp_sandbox import ClusterError, NotASandboxError
from pytest_erp_sandbox.cluster.documents import MARKER, ProdDocuments, SandboxDocuments
from pytest_erp_sandbox.cluster.exec import PodReference
from pytest_erp_sandbox.cluster.golden_documents import keep_golden, put_back

from .kubernetes import BUSYBOX, IMAGE, Kubernetes
from .test_documents import TREE, Ends

CHANGE = """
echo new >mycompany/new; mkdir mycompany/empty/more; echo x >mycompany/empty/more/x
echo other >mycompany/one; rm -r mycompany/logos; ln -sfn /etc mycompany/link; chmod 777 "mycompany/with space"
"""


@pytest.fixture(scope="module", params=[IMAGE, BUSYBOX], ids=["gnu", "busybox"])
def ends(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Ends:
    return Ends(kubernetes, (IMAGE, request.param))


@pytest.fixture
def documents(ends: Ends) -> SandboxDocuments:
    """A sandbox's, with a golden copy of what was synced."""
    prod, sandbox = ends.fresh()
    ends.at(prod, TREE)
    ends.sync(prod, sandbox)
    keep_golden(ends.kubernetes.cluster, sandbox)
    return sandbox


def back(ends: Ends, documents: SandboxDocuments) -> int:
    return put_back(ends.kubernetes.cluster, documents, [ends.kubernetes.prod])


def fingerprint(ends: Ends, documents: SandboxDocuments) -> str:
    return ends.fingerprint(replace(documents, path=f"{documents.path}/mycompany"))


def test_what_a_rehearsal_changed_is_put_back_each_time_and_nothing_else_touched(
    ends: Ends, documents: SandboxDocuments
) -> None:
    before, inode = fingerprint(ends, documents), ends.at(documents, "stat -c %i mycompany/none")
    assert back(ends, documents) == 0
    for _ in range(2):
        ends.at(documents, CHANGE)
        assert back(ends, documents) > 0
        assert fingerprint(ends, documents) == before
        assert back(ends, documents) == 0
    assert ends.at(documents, "stat -c %i mycompany/none") == inode


def test_without_a_golden_copy_nothing_is_touched_and_a_sync_makes_it_none(
    ends: Ends, documents: SandboxDocuments
) -> None:
    ends.sync(ProdDocuments(ends.prod_pod, documents.path), documents)
    ends.at(documents, "echo new >mycompany/new")
    with pytest.raises(ClusterError, match=r"no golden copy(.|\n)*sync-documents"):
        back(ends, documents)
    assert ends.at(documents, "cat mycompany/new") == "new\n"


def test_a_folder_that_is_not_marked_as_the_sandboxs_own_is_not_touched(
    ends: Ends, documents: SandboxDocuments
) -> None:
    ends.at(documents, "echo new >mycompany/new")
    with pytest.raises(NotASandboxError, match="is marked as"):
        back(ends, replace(documents, owner="Deployment erp-other/dolibarr"))
    ends.at(documents, f"rm {MARKER}")
    with pytest.raises(NotASandboxError, match="no marker"):
        back(ends, documents)
    misled = replace(documents, pod=PodReference(ends.kubernetes.prod, ends.prod_pod.name))
    with pytest.raises(NotASandboxError, match="in prod's namespace"):
        back(ends, misled)
    assert ends.at(documents, "cat mycompany/new") == "new\n"


def test_a_golden_copy_that_was_spoilt_is_said(ends: Ends, documents: SandboxDocuments) -> None:
    ends.at(documents, "echo x >mycompany/one; echo x >.erp-sandbox-golden/tree/mycompany/one")
    with pytest.raises(ClusterError, match=r"are not what they were(.|\n)*'mycompany/one'(.|\n)*sync-documents"):
        back(ends, documents)
    # and it stays said
    with pytest.raises(ClusterError, match="are not what they were"):
        back(ends, documents)
