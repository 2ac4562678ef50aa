"""Documents, streamed from pod to pod."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from pytest_erp_sandbox import ClusterError, NotASandboxError, SettingsError
from pytest_erp_sandbox.cluster import documents
from pytest_erp_sandbox.cluster.api import PodReference
from pytest_erp_sandbox.cluster.documents import (
    MARKER,
    ProdDocuments,
    SandboxDocuments,
    adopt_documents,
    sync_documents,
)
from pytest_erp_sandbox.cluster.exec import Exec, run_in_pod
from pytest_erp_sandbox.cluster.golden_documents import put_back

from .kubernetes import BUSYBOX, IMAGE, Kubernetes, until

TREE = """
set -e
mkdir -p mycompany/logos/thumbs mycompany/empty "mycompany/with space" mycompany/closed
printf 'x' >mycompany/one; : >mycompany/none
head -c 3000001 /dev/urandom >mycompany/logos/logo.png
printf 'a\\0b\\377\\n' >"mycompany/with space/na\\303\\257ve
second line"
long=$(printf 'long%.0s' $(seq 60)); printf long >"mycompany/$long"
ln -s logos/logo.png mycompany/link; ln -s ../one mycompany/logos/up; ln -s nowhere mycompany/dangling
ln mycompany/one mycompany/hard
chmod 640 mycompany/one; chmod 755 mycompany/logos; chmod 700 mycompany/closed; chmod 4755 mycompany/none
for n in $(seq 100); do echo $n >mycompany/logos/thumbs/$n; done
"""

FINGERPRINT = """
cd "$1" || exit 1
find . ! -name .erp-sandbox -exec sh -c 'for f; do
    # The times of folders and links are nothing that busybox restores.
    printf "%s %s " "$(stat -c "%A %Y" "$f" | sed "s/^l.*/l/; s/^\\(d[^ ]*\\).*/\\1/")" "$(readlink "$f")"
    [ -f "$f" ] && [ ! -L "$f" ] && md5sum <"$f"; printf "%s\\n" "$f" | od -An -c | tr -d "\\n"; echo
done' sh {} + | grep -v '\\.  *\\\\n$' | sort
"""

_numbers = count()


class Ends:
    """A pod of prod's and one of a sandbox's, with folders of their own for each test."""

    def __init__(self, kubernetes: Kubernetes, images: tuple[str, str]) -> None:
        self.kubernetes = kubernetes
        number = next(_numbers)
        names = [
            kubernetes.pod(namespace, f"documents-{number}", image)
            for namespace, image in zip((kubernetes.prod, kubernetes.sandbox), images, strict=True)
        ]
        self.prod_pod = PodReference(kubernetes.prod, names[0])
        self.sandbox_pod = PodReference(kubernetes.sandbox, names[1])

    def fresh(self) -> tuple[ProdDocuments, SandboxDocuments]:
        path = f"/documents-{next(_numbers)}"
        for pod in (self.prod_pod, self.sandbox_pod):
            self.sh(pod, f"mkdir {path}")
        sandbox = SandboxDocuments(self.sandbox_pod, path, owner="Deployment erp-sandbox/dolibarr")
        adopt_documents(self.kubernetes.cluster, sandbox, [self.kubernetes.prod])
        return ProdDocuments(self.prod_pod, path), sandbox

    def sync(self, prod: ProdDocuments, sandbox: SandboxDocuments) -> int:
        return sync_documents(self.kubernetes.cluster, prod, sandbox, [self.kubernetes.prod], lambda *_: None)

    def sh(self, pod: PodReference, script: str, *arguments: str) -> str:
        return run_in_pod(self.kubernetes.cluster, pod, ["sh", "-c", script, "sh", *arguments], doing="the test")

    def at(self, place: ProdDocuments | SandboxDocuments, script: str) -> str:
        return self.sh(place.pod, f"cd {place.path} && {script}")

    def fingerprint(self, place: ProdDocuments | SandboxDocuments) -> str:
        return self.sh(place.pod, FINGERPRINT, place.path)


@pytest.fixture(
    scope="module",
    params=[
        (IMAGE, IMAGE, True),
        (IMAGE, BUSYBOX, True),
        (BUSYBOX, IMAGE, True),
        (BUSYBOX, BUSYBOX, True),
        (IMAGE, BUSYBOX, False),
        (BUSYBOX, IMAGE, False),
    ],
    ids=[
        "gnu-gnu",
        "gnu-busybox",
        "busybox-gnu",
        "busybox-busybox",
        "gnu-busybox-by-websocket",
        "busybox-gnu-by-websocket",
    ],
)
def each_ends(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Ends:
    *images, spdy = request.param
    return Ends(kubernetes.spoken_to(spdy=spdy), (images[0], images[1]))


@pytest.fixture(scope="module")
def ends(kubernetes: Kubernetes) -> Ends:
    return Ends(kubernetes, (IMAGE, BUSYBOX))


def test_all_of_it_arrives_as_it_is_and_replaces_what_was_there(each_ends: Ends) -> None:
    prod, sandbox = each_ends.fresh()
    each_ends.at(prod, TREE)
    each_ends.at(sandbox, "mkdir mycompany other && echo old >mycompany/old && echo kept >other/kept")
    before = each_ends.fingerprint(prod)
    entries = each_ends.sync(prod, sandbox)
    assert each_ends.at(sandbox, "ls -A") == f"{MARKER}\nmycompany\nother\n"
    each_ends.at(sandbox, "rm -r other")
    assert each_ends.fingerprint(sandbox).splitlines() == before.splitlines()
    assert each_ends.fingerprint(prod) == before
    assert entries == int(each_ends.at(prod, "find mycompany -print0 | tr -dc '\\0' | wc -c"))


def test_a_folder_that_is_empty_arrives_empty(each_ends: Ends) -> None:
    prod, sandbox = each_ends.fresh()
    each_ends.at(prod, "mkdir mycompany")
    each_ends.at(sandbox, "mkdir mycompany && touch mycompany/old")
    assert each_ends.sync(prod, sandbox) == 1
    assert each_ends.at(sandbox, "find mycompany") == "mycompany\n"


def test_several_folders_are_replaced_and_no_others(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, "mkdir mycompany facture secret && echo a >mycompany/a && echo b >facture/b && echo c >secret/c")
    ends.at(sandbox, "mkdir facture secret && echo own >secret/own && echo old >facture/old")
    ends.sync(replace(prod, folders=("mycompany", "facture")), replace(sandbox, folders=("mycompany", "facture")))
    assert ends.at(sandbox, "find * -type f | sort").split() == ["facture/b", "mycompany/a", "secret/own"]


# Of the file: its header before it, and the end after it, take 512 bytes each, or more.
@pytest.mark.parametrize("size", [65535, 65536, 8 * 1024 * 1024 - 1536, 8 * 1024 * 1024, 20_000_000])
def test_sizes_around_the_batches_of_the_stream(ends: Ends, size: int) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, f"mkdir mycompany && head -c {size} /dev/urandom >mycompany/file")
    ends.sync(prod, sandbox)
    assert ends.at(sandbox, "md5sum mycompany/file") == ends.at(prod, "md5sum mycompany/file")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        ("ln -s /etc mycompany/out", "points out of the folder, to '/etc'"),
        ("ln -s ../secret mycompany/out", "points out of the folder"),
        ("mkfifo mycompany/pipe", "neither a file, a folder nor a link"),
    ],
)
def test_links_out_and_devices_are_refused_and_the_old_documents_stay(ends: Ends, make: str, why: str) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, f"mkdir mycompany && {make}")
    ends.at(sandbox, "mkdir mycompany && echo old >mycompany/old")
    with pytest.raises(ClusterError, match=why):
        ends.sync(prod, sandbox)
    assert ends.at(sandbox, "find mycompany | sort").split() == ["mycompany", "mycompany/old"]


def test_without_the_marker_nothing_is_touched(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, "mkdir mycompany")
    ends.at(sandbox, f"rm {MARKER} && mkdir -p mycompany .erp-sandbox-incoming-x && touch mycompany/old")
    before = ends.fingerprint(sandbox)
    with pytest.raises(NotASandboxError, match=r"has no marker(.|\n)*erp-sandbox adopt"):
        ends.sync(prod, sandbox)
    assert ends.fingerprint(sandbox) == before


def test_the_marker_of_another_sandbox_is_not_its_own(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, "mkdir mycompany")
    other = replace(sandbox, owner="Deployment erp-other/dolibarr")
    with pytest.raises(NotASandboxError, match="is marked as Deployment erp-sandbox/dolibarr's"):
        ends.sync(prod, other)
    with pytest.raises(NotASandboxError, match="it was left so"):
        adopt_documents(ends.kubernetes.cluster, other, [])
    assert ends.at(sandbox, f"cat {MARKER}") == f"{sandbox.owner}\n"


def test_prods_namespace_is_refused(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    misled = replace(sandbox, pod=prod.pod)
    for call in (
        lambda: ends.sync(prod, misled),
        lambda: adopt_documents(ends.kubernetes.cluster, misled, [ends.kubernetes.prod]),
    ):
        with pytest.raises(NotASandboxError, match="in prod's namespace"):
            call()
    assert ends.at(prod, "ls -A") == ""


def test_a_folder_that_is_marked_as_a_sandboxs_is_no_prod(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, f"mkdir mycompany && echo Deployment a/b >{MARKER}")
    with pytest.raises(NotASandboxError, match="should be prod's, is marked as the documents of Deployment a/b"):
        ends.sync(prod, sandbox)


@pytest.fixture(scope="module", params=[IMAGE, BUSYBOX], ids=["gnu", "busybox"])
def one_volume(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[tuple[PodReference, PodReference]]:
    """A pod of prod's and one of a sandbox's with one volume, at /volume, and folders of it elsewhere, too."""
    name = f"one-volume-{next(_numbers)}"
    folder = f"/var/tmp/{kubernetes.prod}-{name}"
    volume = {"name": "documents", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}
    mounts = [
        {"name": "documents", "mountPath": "/volume"},
        {"name": "documents", "mountPath": "/documents", "subPath": "prod"},
        {"name": "documents", "mountPath": "/logos", "subPath": "prod/mycompany/logos"},
    ]
    for namespace in (kubernetes.prod, kubernetes.sandbox):
        kubernetes.pod(namespace, name, request.param, volumes=[volume], volumeMounts=mounts)
    prod, sandbox = PodReference(kubernetes.prod, name), PodReference(kubernetes.sandbox, name)
    make = "cd /volume && mkdir -p prod/other sandbox/mycompany && ln -s ../prod/mycompany/logos sandbox/linked"
    run_in_pod(kubernetes.cluster, prod, ["sh", "-c", make], doing="making folders")
    yield prod, sandbox
    run_in_pod(kubernetes.cluster, prod, ["sh", "-c", "rm -rf /volume/*"], doing="tidying up")


@pytest.mark.parametrize(
    ("prods", "sandboxes", "folder", "why"),
    [
        ("/volume/prod", "/volume/prod", "mycompany", "the very folder of prod's documents"),
        ("/documents", "/volume/prod", "mycompany", "the very folder of prod's documents"),
        ("/volume/prod", "/volume", "mycompany", "share files"),
        ("/volume/prod", "/documents/mycompany", "logos", "share files"),
        ("/volume/prod", "/volume/prod/other", "mycompany", "share files"),
        ("/documents", "/volume", "prod", "share files"),
        ("/documents/mycompany", "/volume/prod", "mycompany", "share files"),
        ("/volume/prod/mycompany", "/logos", "mycompany", "share files"),
        ("/volume/prod/mycompany", "/volume/sandbox", "linked", "share files"),
    ],
)
def test_prods_own_files_are_recognised_where_their_volume_is_the_sandboxs_too(
    kubernetes: Kubernetes,
    one_volume: tuple[PodReference, PodReference],
    prods: str,
    sandboxes: str,
    folder: str,
    why: str,
) -> None:
    prod = ProdDocuments(one_volume[0], prods, ("mycompany", "logos"))
    sandbox = SandboxDocuments(one_volume[1], sandboxes, (folder,), owner="sandbox")
    for call in (
        lambda: sync_documents(kubernetes.cluster, prod, sandbox, [kubernetes.prod], lambda *_: None),
        lambda: adopt_documents(kubernetes.cluster, sandbox, [kubernetes.prod], prod),
    ):
        with pytest.raises(NotASandboxError, match=f"{why}(.|\n)*a volume of its own"):
            call()
    find = "find /volume -path /volume/sandbox -prune -o -name '.erp-sandbox*' -print"
    assert run_in_pod(kubernetes.cluster, prod.pod, ["sh", "-c", find], doing="looking for what was written") == ""


def test_a_folder_of_its_own_in_prods_volume_is_the_sandboxs(
    kubernetes: Kubernetes, one_volume: tuple[PodReference, PodReference]
) -> None:
    for prods in ("/volume/prod", "/documents"):
        prod = ProdDocuments(one_volume[0], prods)
        sandbox = SandboxDocuments(one_volume[1], "/volume/sandbox", owner="sandbox")
        adopt_documents(kubernetes.cluster, sandbox, [kubernetes.prod], prod)
        assert sync_documents(kubernetes.cluster, prod, sandbox, [kubernetes.prod], lambda *_: None) > 0


@pytest.fixture(scope="module")
def clones(kubernetes: Kubernetes) -> tuple[PodReference, PodReference]:
    """A pod of prod's and one of a sandbox's with a volume each, at /volume: of one name, as clones are."""
    make = """
        truncate -s 16m /image && mkfs.ext4 -q -U 01234567-89ab-cdef-0123-456789abcdef /image
        mkdir -p /volume && mount -o loop /image /volume && rmdir /volume/lost+found
        mkdir -p /volume/documents/mycompany && exec sleep infinity
    """
    name = f"clone-{next(_numbers)}"
    for namespace in (kubernetes.prod, kubernetes.sandbox):
        command = ["sh", "-ec", make]
        kubernetes.pod(namespace, name, command=command, securityContext={"privileged": True})
    prod, sandbox = PodReference(kubernetes.prod, name), PodReference(kubernetes.sandbox, name)
    ready = ["sh", "-c", "until [ -d /volume/documents/mycompany ]; do sleep 0.1; done; stat -f -c %i /volume"]
    names = {run_in_pod(kubernetes.cluster, pod, ready, doing="waiting for the volume") for pod in (prod, sandbox)}
    assert len(names) == 1
    return prod, sandbox


@pytest.mark.parametrize("path", ["/volume", "/volume/documents"])
def test_two_volumes_of_one_name_are_told_apart_once_the_sandboxs_is_marked(
    ends: Ends, clones: tuple[PodReference, PodReference], path: str
) -> None:
    prod = ProdDocuments(clones[0], path, ("mycompany",))
    sandbox = SandboxDocuments(clones[1], path, ("mycompany",), owner="sandbox")
    ends.at(prod, "mkdir -p mycompany && echo prods >mycompany/file")
    ends.at(sandbox, "mkdir -p mycompany && echo own >mycompany/file")
    cluster, prods = ends.kubernetes.cluster, [ends.kubernetes.prod]
    # As long as nothing says that the folder is the sandbox's, nothing is written there.
    for call in (lambda: ends.sync(prod, sandbox), lambda: adopt_documents(cluster, sandbox, prods, prod)):
        with pytest.raises(NotASandboxError, match=r"or looks so(.|\n)*write 'sandbox' into \.erp-sandbox"):
            call()
    assert ends.at(sandbox, "ls -A; cat mycompany/file").split()[-2:] == ["mycompany", "own"]
    ends.at(sandbox, f"echo sandbox >{MARKER}")
    adopt_documents(cluster, sandbox, prods, prod)
    assert ends.sync(prod, sandbox) == 2
    assert ends.at(sandbox, "cat mycompany/file; ls -A").split() == ["prods", MARKER, *ends.at(prod, "ls").split()]
    assert MARKER not in ends.at(prod, "ls -A")


@pytest.mark.parametrize(
    ("prods", "sandboxes"), [("/volume/prod", "/volume/prod"), ("/documents", "/volume/prod"), ("/volume", "/volume")]
)
def test_a_marker_does_not_make_prods_folder_the_sandboxs(
    kubernetes: Kubernetes,
    one_volume: tuple[PodReference, PodReference],
    monkeypatch: pytest.MonkeyPatch,
    prods: str,
    sandboxes: str,
) -> None:
    """Not to see the marker from prod's pod stands for a network file system's cache there."""
    prod = ProdDocuments(one_volume[0], prods)
    sandbox = SandboxDocuments(one_volume[1], sandboxes, owner="sandbox")
    run_in_pod(kubernetes.cluster, sandbox.pod, ["sh", "-c", f"echo sandbox >{sandboxes}/{MARKER}"], doing="marking")
    marker = documents._marker
    for see in (marker, lambda cluster, place: "" if place is prod else marker(cluster, place)):
        monkeypatch.setattr(documents, "_marker", see)
        for call in (
            lambda: sync_documents(kubernetes.cluster, prod, sandbox, [kubernetes.prod], lambda *_: None),
            lambda: adopt_documents(kubernetes.cluster, sandbox, [kubernetes.prod], prod),
        ):
            with pytest.raises(NotASandboxError, match="the very folder of prod's documents"):
                call()
    clean = f"rm {sandboxes}/{MARKER}; find /volume -path /volume/sandbox -prune -o -name '.erp-sandbox*' -print"
    assert run_in_pod(kubernetes.cluster, sandbox.pod, ["sh", "-c", clean], doing="tidying up") == ""


def stateful_pod(kubernetes: Kubernetes, namespace: str, replicas: int, shared: str = "") -> PodReference:
    """The first pod of a new StatefulSet whose pods have a volume each, and one on which they may have documents."""
    name = f"stateful-{next(_numbers)}"
    mounts = [{"name": "own", "mountPath": "/volume"}]
    if shared:
        mounts.append({"name": "shared", "mountPath": shared})
    container = {"name": "erp", "image": BUSYBOX, "command": ["sleep", "infinity"], "volumeMounts": mounts}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    pod = {
        "containers": [container],
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 0,
    }
    body: Any = {
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            "volumeClaimTemplates": [{"metadata": {"name": "own"}, "spec": claim}],
        },
    }
    kubernetes.cluster.apps.create_namespaced_stateful_set(namespace, body)
    until(lambda: f"{name}-0" in kubernetes.pods(namespace, f"app={name}"), f"{name} has a pod")
    kubernetes.await_pod(namespace, f"{name}-0")
    return PodReference(namespace, f"{name}-0")


def test_documents_that_each_pod_has_others_of_are_refused_on_either_side(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    cluster, prods = ends.kubernetes.cluster, [ends.kubernetes.prod]
    scattered = replace(
        sandbox, pod=stateful_pod(ends.kubernetes, ends.kubernetes.sandbox, 2), path="/volume/documents"
    )
    scattered_prod = ProdDocuments(stateful_pod(ends.kubernetes, ends.kubernetes.prod, 2), "/volume")
    for call in (
        lambda: ends.sync(scattered_prod, sandbox),
        lambda: ends.sync(prod, scattered),
        lambda: adopt_documents(cluster, scattered, prods),
        lambda: put_back(cluster, scattered, prods),
    ):
        with pytest.raises(
            ClusterError, match=r"StatefulSet .* has 2 pods, and each has a volume of its own(.|\n)*one"
        ):
            call()
    assert ends.sh(scattered.pod, "ls -A /volume") == ""


@pytest.mark.parametrize(
    ("replicas", "shared"), [(1, ""), (2, "/volume/documents"), (2, "/volume/documents/mycompany")]
)
def test_a_statefulset_of_one_pod_or_with_its_documents_elsewhere_is_synced(
    ends: Ends, replicas: int, shared: str
) -> None:
    _, sandbox = ends.fresh()
    prod = ProdDocuments(stateful_pod(ends.kubernetes, ends.kubernetes.prod, replicas, shared), "/volume/documents")
    ends.sh(prod.pod, "mkdir -p /volume/documents/mycompany && echo x >/volume/documents/mycompany/x")
    assert ends.sync(prod, sandbox) == 2


def test_a_source_that_fails_is_said_and_the_old_documents_stay(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(sandbox, "mkdir mycompany && echo old >mycompany/old")
    with pytest.raises(ClusterError, match=r"tar in pod .* failed \(exit code 2\)(.|\n)*mycompany"):
        ends.sync(prod, sandbox)  # prod has no such folder
    assert ends.at(sandbox, "cat mycompany/old") == "old\n"


@pytest.fixture
def small_volume(kubernetes: Kubernetes) -> str:
    name = f"small-{next(_numbers)}"
    volume = {"name": "documents", "emptyDir": {"medium": "Memory"}}
    return kubernetes.pod(
        kubernetes.sandbox,
        name,
        volumes=[volume],
        volumeMounts=[{"name": "documents", "mountPath": "/documents"}],
        command=["sh", "-c", "mount -o remount,size=1m /documents; exec sleep infinity"],
        securityContext={"privileged": True},
    )


def test_a_volume_that_is_full_is_said_and_the_old_documents_stay(ends: Ends, small_volume: str) -> None:
    prod, _ = ends.fresh()
    ends.at(prod, "mkdir mycompany && head -c 9000000 /dev/urandom >mycompany/large")
    sandbox = SandboxDocuments(PodReference(ends.kubernetes.sandbox, small_volume), "/documents", owner="sandbox")
    adopt_documents(ends.kubernetes.cluster, sandbox, [])
    ends.at(sandbox, "mkdir mycompany && echo old >mycompany/old")
    with pytest.raises(ClusterError, match=r"cannot be unpacked .*(Wrote only|No space left)(.|\n)*room"):
        ends.sync(prod, sandbox)
    assert ends.at(sandbox, "cat mycompany/old") == "old\n"


@pytest.mark.parametrize("damaged", [3, 200, 306])
def test_what_is_damaged_on_its_way_is_not_unpacked(
    each_ends: Ends, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    """A write that is not what it was told to be stands for a fault of the network's."""
    prod, sandbox = each_ends.fresh()
    each_ends.at(prod, "mkdir mycompany && head -c 20000000 /dev/urandom >mycompany/large")
    each_ends.at(sandbox, "mkdir mycompany && echo old >mycompany/old")
    written = 0

    def write_damaged(self: Exec, data: bytes, write: Callable[[Exec, bytes], None] = Exec.write) -> None:
        nonlocal written
        written += 1
        write(self, bytes([data[0] ^ 1]) + data[1:] if written == damaged else data)

    monkeypatch.setattr(Exec, "write", write_damaged)
    with pytest.raises(ClusterError, match=r"what arrived is not what was sent\n.*Run again"):
        each_ends.sync(prod, sandbox)
    assert written >= damaged
    assert each_ends.at(sandbox, "cat mycompany/old && ls mycompany") == "old\nold\n"


def once(act: Callable[[], object]) -> Callable[[int, int], None]:
    """What is told of a sync's progress, and acts in its middle."""
    is_done = False

    def on_progress(_entries: int, size: int) -> None:
        nonlocal is_done
        if size > 20_000_000 and not is_done:
            is_done = True
            act()

    return on_progress


@pytest.fixture
def endless(ends: Ends) -> Iterator[tuple[ProdDocuments, SandboxDocuments]]:
    """Documents whose copying does not end by itself within the test."""
    prod, sandbox = ends.fresh()
    ends.at(prod, "mkdir mycompany && truncate -s 1500000000 mycompany/large")
    ends.at(sandbox, "mkdir mycompany && echo old >mycompany/old")
    yield prod, sandbox
    ends.at(prod, "rm mycompany/large")


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_program_killed_at_either_end_leaves_the_old_documents(
    ends: Ends, endless: tuple[ProdDocuments, SandboxDocuments], end: str
) -> None:
    prod, sandbox = endless
    victim = prod if end == "source" else sandbox
    kill = "for p in /proc/[0-9]*; do read -r n <$p/comm && [ $n = tar ] && kill -9 ${p#/proc/} && k=1; done"
    in_the_middle = once(lambda: ends.at(victim, f"k=; until [ $k ]; do {kill}; done 2>/dev/null; true"))
    with pytest.raises(ClusterError, match=r"tar.*exit code"):
        sync_documents(ends.kubernetes.cluster, prod, sandbox, [], in_the_middle)
    assert ends.at(sandbox, "cat mycompany/old && ls mycompany") == "old\nold\n"


def test_a_connection_cut_in_the_middle_leaves_the_old_documents_and_the_next_sync_tidies_up(
    ends: Ends, endless: tuple[ProdDocuments, SandboxDocuments]
) -> None:
    prod, sandbox = endless

    def interrupt(_entries: int, size: int) -> None:
        if size > 20_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync_documents(ends.kubernetes.cluster, prod, sandbox, [], interrupt)
    assert ends.at(sandbox, "cat mycompany/old") == "old\n"
    assert re.search(r"^\.erp-sandbox-incoming-", ends.at(sandbox, "ls -A"), re.MULTILINE)
    ends.at(prod, "echo new >mycompany/new && : >mycompany/large")
    ends.sync(prod, sandbox)
    assert ends.at(sandbox, "ls -A . mycompany").split() == [
        ".:", MARKER, "mycompany", "mycompany:", "large", "new",
    ]  # fmt: skip


def test_what_a_run_killed_between_the_two_renames_took_away_is_put_back(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(sandbox, "mkdir -p .erp-sandbox-old-x/mycompany && echo old >.erp-sandbox-old-x/mycompany/old")
    with pytest.raises(ClusterError):
        ends.sync(prod, sandbox)  # prod has no such folder
    assert ends.at(sandbox, "cat mycompany/old; ls -d .erp-sandbox-old-* || true") == "old\n"


def test_what_prods_erp_writes_meanwhile_is_copied_in_another_attempt(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, "mkdir mycompany && truncate -s 300000000 mycompany/large && echo start >mycompany/log")
    sizes: list[int] = []
    write = once(lambda: ends.at(prod, "echo more >>mycompany/large"))

    def write_in_the_middle(entries: int, size: int) -> None:
        sizes.append(size)
        write(entries, size)

    sync_documents(ends.kubernetes.cluster, prod, sandbox, [], write_in_the_middle)
    assert sizes.count(sizes[0]) == 2  # it began twice
    assert ends.at(sandbox, "md5sum mycompany/large") == ends.at(prod, "md5sum mycompany/large")


def test_a_gigabyte_arrives_byte_for_byte_in_constant_memory(ends: Ends) -> None:
    prod, sandbox = ends.fresh()
    ends.at(prod, "mkdir mycompany && head -c 1073741824 /dev/urandom >mycompany/large")
    sizes: list[int] = []

    def look(_entries: int, size: int) -> None:
        if size % (32 << 20) < 65536:
            with open("/proc/self/statm") as statm:
                sizes.append(int(statm.read().split()[1]) * 4096)

    sync_documents(ends.kubernetes.cluster, prod, sandbox, [], look)
    assert len(sizes) > 30
    assert max(sizes) - sizes[2] < 30_000_000
    assert ends.at(sandbox, "md5sum mycompany/large") == ends.at(prod, "md5sum mycompany/large")
    for place in (prod, sandbox):
        ends.at(place, "rm mycompany/large")


@pytest.mark.parametrize("path", ["documents", "/", "//", "/a/../b", ""])
def test_a_path_that_is_no_folder_of_its_own_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="documents folder is an absolute path"):
        ProdDocuments(PodReference("erp", "erp"), path)


@pytest.mark.parametrize("folder", ["", "..", ".", "a/b", "-rf", ".erp-sandbox"])
def test_what_is_no_folders_name_is_refused(folder: str) -> None:
    with pytest.raises(SettingsError, match="not the name of a folder"):
        ProdDocuments(PodReference("erp", "erp"), "/documents", (folder,))
