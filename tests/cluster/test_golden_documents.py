"""Documents in a pod, put back to what they were."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pytest_erp_sandbox import ClusterError, NotASandboxError
from pytest_erp_sandbox.cluster import golden_documents
from pytest_erp_sandbox.cluster.api import Cluster, PodReference
from pytest_erp_sandbox.cluster.documents import MARKER, ProdDocuments, SandboxDocuments
from pytest_erp_sandbox.cluster.golden_documents import keep_golden, put_back
from pytest_erp_sandbox.cluster.unpack import script
from pytest_erp_sandbox.listing import Listing

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


@pytest.mark.parametrize("folders", [("mycompany", "facture"), ("facture",)], ids=["added", "another"])
def test_folders_that_were_chosen_after_the_sync_are_not_touched(
    ends: Ends, documents: SandboxDocuments, folders: tuple[str, ...]
) -> None:
    ends.at(documents, "mkdir facture && echo kept >facture/kept && echo new >mycompany/new")
    with pytest.raises(ClusterError, match=r"has 'mycompany', but .* 'facture'(.|\n)*nothing was changed\n.*sync-docu"):
        back(ends, replace(documents, folders=folders))
    assert ends.at(documents, "cat facture/kept mycompany/new") == "kept\nnew\n"


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


def test_a_listing_of_the_golden_copy_that_was_cut_off_is_said(ends: Ends, documents: SandboxDocuments) -> None:
    ends.at(documents, "cd .erp-sandbox-golden && head -c 700 listing >cut && mv cut listing")
    with pytest.raises(ClusterError, match=r"is cut off\n.*sync-documents"):
        back(ends, documents)


@pytest.mark.parametrize("listed", ["", "echo 2; stat -c '%f|%s|%u:%g|%y|%z' mycompany;"], ids=["nothing", "half"])
def test_what_cannot_be_listed_after_it_was_put_back_is_said(
    ends: Ends, documents: SandboxDocuments, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    """A listing that fails, and is done only once what was added is gone, stands for a volume that fails meanwhile."""
    ends.at(documents, "echo new >mycompany/new")
    failing = f"[ -e mycompany/new ] || {{ {listed} echo Input/output error >&2; exit 124; }}\n"

    def failing_list(name: str) -> str:
        return failing + script(name) if name == "list" else script(name)

    monkeypatch.setattr(golden_documents, "script", failing_list)
    with pytest.raises(ClusterError, match=r"cannot be put back in .*: Input/output error\n.*sync-documents"):
        back(ends, documents)
    monkeypatch.undo()
    assert back(ends, documents) == 0


@pytest.mark.parametrize(
    ("fault", "why"),
    [("ln -s /dev/full .erp-sandbox-golden/steps", "No space left"), ("mv ../{0} ../{0}-away", "can't cd")],
    ids=["full", "gone"],
)
def test_steps_that_cannot_be_taken_are_said_and_not_waited_for(
    ends: Ends, documents: SandboxDocuments, monkeypatch: pytest.MonkeyPatch, fault: str, why: str
) -> None:
    """A file without room, and a folder moved away after it was looked at, stand for a volume that fails meanwhile."""
    # More steps than what is on its way holds: a program that does not read them all never ends, for older servers.
    ends.at(documents, "cd mycompany && seq 20000 | sed s/^/added-by-a-rehearsal-/ | xargs touch")
    look, said = golden_documents._look, list[str]()

    def look_and_lose(cluster: Cluster, sandbox: SandboxDocuments) -> tuple[Listing, Listing]:
        seen = look(cluster, sandbox)
        ends.at(sandbox, fault.format(sandbox.path.strip("/")))
        return seen

    def put_them_back() -> None:
        with pytest.raises(ClusterError, match=r"cannot be put back in .*(.|\n)*sync-documents") as failure:
            back(ends, documents)
        said.append(str(failure.value))

    monkeypatch.setattr(golden_documents, "_look", look_and_lose)
    putting = threading.Thread(target=put_them_back, daemon=True)
    putting.start()
    putting.join(60)
    assert why in "".join(said)
