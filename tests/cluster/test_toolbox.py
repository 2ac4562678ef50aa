"""The toolbox pod."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest
from kubernetes.client import ApiException, RbacAuthorizationV1Api
from pydantic import SecretStr

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster import toolbox as toolbox_module
from pytest_erp_sandbox.cluster import volume as volume_module
from pytest_erp_sandbox.cluster.api import PodReference
from pytest_erp_sandbox.cluster.toolbox import LOGIN, Toolbox, ToolboxImage, remove_orphans, toolbox
from pytest_erp_sandbox.cluster.volume import require_usable

from .kubernetes import IMAGE, KUBECONFIG, Kubernetes, until

SELECTOR = "app.kubernetes.io/managed-by=erp-sandbox,app.kubernetes.io/component=toolbox"


def claim(kubernetes: Kubernetes, name: str, **spec: Any) -> str:
    body: Any = {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}, **spec},
    }
    kubernetes.cluster.core.create_namespaced_persistent_volume_claim(kubernetes.sandbox, body)
    return name


@pytest.fixture(scope="module")
def golden(kubernetes: Kubernetes) -> str:
    """A claim whose folder the toolbox's group may write, as drivers that know fsGroup make it."""
    return kubernetes.claim("golden")


def started(kubernetes: Kubernetes, golden: str, image: str = IMAGE, **options: Any) -> Any:
    return toolbox(kubernetes.cluster, kubernetes.sandbox, golden, ToolboxImage(image), **options)


LOGIN_OF_PROD = {"PGUSER": SecretStr("erp_dump"), "PGPASSWORD": SecretStr("geheim")}


@pytest.fixture(scope="module")
def box(kubernetes: Kubernetes, golden: str) -> Iterator[Toolbox]:
    with started(kubernetes, golden, login=LOGIN_OF_PROD) as running:
        yield running


def logins(kubernetes: Kubernetes) -> set[str]:
    """The names of toolboxes' Secrets."""
    found: Any = kubernetes.cluster.core.list_namespaced_secret(kubernetes.sandbox, label_selector=SELECTOR)
    return {each.metadata.name for each in found.items}


def test_a_program_that_fails_says_why(box: Toolbox) -> None:
    with pytest.raises(ClusterError, match=r"the dump in pod .* failed \(exit code 7\): no such table"):
        box.run(["sh", "-c", "echo no such table >&2; exit 7"], doing="the dump")


def test_the_pod_passes_the_restricted_standard_and_has_no_token(kubernetes: Kubernetes, box: Toolbox) -> None:
    pod: Any = kubernetes.cluster.core.read_namespaced_pod(box.pod.name, box.pod.namespace)
    spec, (container,) = pod.spec, pod.spec.containers
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    assert [spec.host_network, spec.host_pid, spec.host_ipc] == [None, None, None]
    assert spec.security_context.run_as_non_root
    assert spec.security_context.run_as_user > 0
    assert spec.security_context.seccomp_profile.type == "RuntimeDefault"
    assert container.security_context.allow_privilege_escalation is False
    assert container.security_context.capabilities.drop == ["ALL"]
    assert not container.security_context.capabilities.add
    kinds = {kind for volume in spec.volumes for kind, value in volume.to_dict().items() if value and kind != "name"}
    assert {kind.lower().replace("_", "") for kind in kinds} == {"persistentvolumeclaim", "emptydir", "secret"}
    # and what we promise besides
    assert container.security_context.read_only_root_filesystem
    assert set(container.resources.limits) >= {"cpu", "memory"}
    assert spec.automount_service_account_token is False
    assert 0 < spec.active_deadline_seconds <= 7200
    assert box.run(["id", "-u"], doing="the test") == "10001\n"
    assert "token" not in box.run(["ls", "/var/run", "/run"], doing="the test")
    with pytest.raises(ClusterError, match="Read-only file system"):
        box.run(["touch", "/etc/x"], doing="the test")


def test_a_namespace_that_enforces_the_restricted_standard_admits_the_pod(kubernetes: Kubernetes, golden: str) -> None:
    """Kubernetes enforces it from 1.25 on; an older one does not know the label, and admits any pod."""
    core: Any = kubernetes.cluster.core
    name = f"{kubernetes.sandbox}-restricted"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        until(lambda: bool(core.list_namespaced_service_account(name).items), "the namespace has its service account")
        body = toolbox_module._pod("restricted", golden, ToolboxImage(IMAGE), timedelta(hours=1), has_login=True)
        assert core.create_namespaced_pod(name, body, dry_run="All").metadata.name == "restricted"
    finally:
        core.delete_namespace(name)


def test_prods_login_is_there_in_files_that_only_its_user_may_read(box: Toolbox) -> None:
    assert box.run(["cat", f"{LOGIN}/PGUSER", f"{LOGIN}/PGPASSWORD"], doing="the test") == "erp_dumpgeheim"
    modes = box.run(["stat", "-L", "-c", "%a %g", f"{LOGIN}/PGPASSWORD"], doing="the test")
    assert modes == "440 10001\n"


def test_a_toolbox_that_dumps_nothing_has_no_login(kubernetes: Kubernetes, golden: str) -> None:
    before = logins(kubernetes)
    with started(kubernetes, golden) as running:
        assert LOGIN.strip("/") not in running.run(["ls", "/"], doing="the test").split()
        assert logins(kubernetes) == before


def test_the_pod_and_its_secret_are_gone_afterwards_also_after_an_error(kubernetes: Kubernetes, golden: str) -> None:
    def fail() -> None:
        with started(kubernetes, golden, login=LOGIN_OF_PROD, on_wait=look) as running:
            names.append(running.pod.name)
            raise KeyboardInterrupt

    def look(_said: str) -> None:
        there.update(logins(kubernetes))

    names, there = list[str](), set[str]()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names[0] in there
    assert names[0] not in logins(kubernetes)
    until(lambda: names[0] not in kubernetes.pods(kubernetes.sandbox, SELECTOR), "the pod is gone")


def test_a_secret_that_may_not_be_made_is_said_without_what_is_in_it(
    kubernetes: Kubernetes, golden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that refuses stands for the API server, of an account that may make pods, and no Secrets."""

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise ApiException(403, "Forbidden")

    monkeypatch.setattr(kubernetes.cluster.core, "create_namespaced_secret", refuse)
    with (
        pytest.raises(ClusterError, match=r"making Secret .*prod's login.* \(verb create\): Forbidden") as failure,
        started(kubernetes, golden, login=LOGIN_OF_PROD),
    ):
        pytest.fail("it has no login")
    shown = str(failure.getrepr(showlocals=True, funcargs=True))
    assert "def _make_secret" in shown
    assert "geheim" not in shown


def killed(kubernetes: Kubernetes, golden: str, before: str = "") -> str:
    """A run that is killed with ``kill -9`` while a program runs in its toolbox; returns the pod's name."""
    code = f"""
from pathlib import Path
from pydantic import SecretStr
from pytest_erp_sandbox.cluster.api import connect_cluster
from pytest_erp_sandbox.cluster.toolbox import ToolboxImage, toolbox
cluster = connect_cluster(Path({KUBECONFIG!r}))
image = ToolboxImage({IMAGE!r})
{before}
login = {{"PGUSER": SecretStr("erp_dump"), "PGPASSWORD": SecretStr("geheim")}}
with toolbox(cluster, {kubernetes.sandbox!r}, {golden!r}, image, login=login) as box:
    print(box.pod.name, flush=True)
    box.run(["sleep", "1000"], doing="something long")
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    name = process.stdout.readline().decode().strip()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return name


def test_the_pod_of_a_killed_run_ends_by_itself_and_the_next_run_removes_it(
    kubernetes: Kubernetes, golden: str, box: Toolbox
) -> None:
    name = killed(kubernetes, golden)

    def phase() -> str:
        pod: Any = kubernetes.cluster.core.read_namespaced_pod(name, kubernetes.sandbox)
        return str(pod.status.phase)

    until(lambda: phase() in ("Succeeded", "Failed"), "the pod has ended")
    assert name not in logins(kubernetes)
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox) == [name]
    until(lambda: name not in kubernetes.pods(kubernetes.sandbox, SELECTOR), "the pod is gone")
    # That of a run that is alive is left alone.
    assert box.run(["echo", "alive"], doing="the test") == "alive\n"


def test_the_secret_of_a_run_that_was_killed_while_its_pod_started_goes_with_the_pod(
    kubernetes: Kubernetes, golden: str
) -> None:
    """A pod that nothing can start, with a Secret as its maker makes it."""
    body: Any = toolbox_module._pod(
        "unstarted", golden, ToolboxImage("local/missing:1"), timedelta(hours=1), has_login=True
    )
    made: Any = kubernetes.cluster.core.create_namespaced_pod(kubernetes.sandbox, body)
    toolbox_module._make_secret(kubernetes.cluster, made.metadata, LOGIN_OF_PROD)
    assert logins(kubernetes) == {"unstarted"}
    kubernetes.cluster.core.delete_namespaced_pod("unstarted", kubernetes.sandbox, grace_period_seconds=0)
    until(lambda: logins(kubernetes) == set(), "its Secret is gone")


def test_a_login_without_its_toolbox_is_found_by_its_label_and_removed(kubernetes: Kubernetes, box: Toolbox) -> None:
    """One that nobody owns stands for one that the cluster did not remove with its pod."""
    labels = dict(each.split("=") for each in SELECTOR.split(","))
    body: Any = {"metadata": {"name": "left", "labels": labels}, "stringData": {"PGPASSWORD": "geheim"}}
    kubernetes.cluster.core.create_namespaced_secret(kubernetes.sandbox, body)
    kubernetes.secret(kubernetes.sandbox, "somebodys", {"password": "theirs"})
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox, logins=True) == []
    assert logins(kubernetes) == set()
    core: Any = kubernetes.cluster.core
    assert core.read_namespaced_secret("somebodys", kubernetes.sandbox).data


def test_the_login_of_a_run_that_was_killed_while_its_pod_started_is_removed_although_the_pod_runs(
    kubernetes: Kubernetes, golden: str
) -> None:
    body: Any = toolbox_module._pod("killed", golden, ToolboxImage(IMAGE), timedelta(hours=1), has_login=True)
    made: Any = kubernetes.cluster.core.create_namespaced_pod(kubernetes.sandbox, body)
    toolbox_module._make_secret(kubernetes.cluster, made.metadata, LOGIN_OF_PROD)
    pod = PodReference(kubernetes.sandbox, "killed")
    until(lambda: toolbox_module._not_running(kubernetes.cluster, pod) is None, "it runs")
    told = list[str]()
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox, on_left=told.append, logins=True) == []
    assert any("killed is left: a run uses it" in each for each in told)  # as far as one can see
    assert "killed" not in logins(kubernetes)
    kubernetes.cluster.core.delete_namespaced_pod("killed", kubernetes.sandbox, grace_period_seconds=0)


def test_containers_that_others_put_beside_it_neither_take_its_place_nor_keep_it(
    kubernetes: Kubernetes, golden: str
) -> None:
    """The second container stands for what admission webhooks add: Istio's and Linkerd's proxies, Vault's agent."""
    beside = """
from pytest_erp_sandbox.cluster import toolbox as module
pod = module._pod
def with_sidecar(*arguments, **options):
    body = pod(*arguments, **options)
    own = body["spec"]["containers"][0]
    body["spec"]["containers"].insert(0, {"name": "proxy", "image": own["image"], "command": ["sleep", "infinity"]})
    return body
module._pod = with_sidecar
"""
    name = killed(kubernetes, golden, beside)

    def pod() -> Any:
        return kubernetes.cluster.core.read_namespaced_pod(name, kubernetes.sandbox)

    until(lambda: any(each.state.terminated for each in pod().status.container_statuses), "its own container has ended")
    assert pod().status.phase == "Running"
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox) == [name]


def test_the_pod_of_a_run_that_was_killed_before_it_had_its_login_is_not_waited_for(
    kubernetes: Kubernetes, golden: str, box: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod without its Secret is what such a run leaves; a shorter patience stands for the half minute that passes."""
    image = ToolboxImage(IMAGE)
    body: Any = toolbox_module._pod("without-login", golden, image, timedelta(hours=1), has_login=True)
    kubernetes.cluster.core.create_namespaced_pod(kubernetes.sandbox, body)
    told = list[str]()
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox, on_left=told.append, logins=True) == []
    assert any("without-login" in each and "until it is 30 s old" in each for each in told)
    monkeypatch.setattr(toolbox_module, "_LOGIN_WITHIN", timedelta(seconds=-1))
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox) == []
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox, logins=True) == ["without-login"]
    until(lambda: "without-login" not in kubernetes.pods(kubernetes.sandbox, SELECTOR), "the pod is gone")


@pytest.fixture
def starting(kubernetes: Kubernetes, golden: str) -> str:
    """A pod as it is left where a run was killed while it waited for the start."""
    body: Any = toolbox_module._pod(
        "starting", golden, ToolboxImage("local/missing:1"), timedelta(hours=1), has_login=False
    )
    kubernetes.cluster.core.create_namespaced_pod(kubernetes.sandbox, body)

    def waits_for() -> str:
        return toolbox_module._waits_for(kubernetes.cluster.core.read_namespaced_pod("starting", kubernetes.sandbox))

    until(lambda: "missing" in waits_for(), "its image is not found")
    return "starting"


def test_one_that_starts_is_let_alone_for_as_long_as_its_run_may_wait_for_it(
    kubernetes: Kubernetes, box: Toolbox, starting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's date stands for the minutes that pass."""
    core: Any = kubernetes.cluster.core
    listing, minutes, told = core.list_namespaced_pod_with_http_info, 5, list[str]()

    def minutes_later(*arguments: Any, **options: Any) -> Any:
        found, status, headers = listing(*arguments, **options)
        date = parsedate_to_datetime(headers["Date"]) + timedelta(minutes=minutes)
        return found, status, {"Date": format_datetime(date, usegmt=True)}

    with monkeypatch.context() as patched:
        patched.setattr(core, "list_namespaced_pod_with_http_info", minutes_later)
        assert remove_orphans(kubernetes.cluster, kubernetes.sandbox, on_left=told.append) == []
        minutes = 6
        assert remove_orphans(kubernetes.cluster, kubernetes.sandbox) == [starting]
    in_use, in_making = sorted(told, key=len)
    assert in_use == f"{box.pod} is left: a run uses it"
    assert re.match(rf"pod .*/{starting} is left: .* until it is 360 s old; it is 3\d\d s old: .*image", in_making)


def test_two_on_one_claim_run_at_once_and_want_to_be_on_one_node(kubernetes: Kubernetes) -> None:
    """Also where the claim's name is longer than a label may be, and would be cut behind a dot."""
    name = claim(kubernetes, f"{'a' * 62}.golden")
    with started(kubernetes, name) as first, started(kubernetes, name) as second:
        for box in (first, second):
            assert box.run(["echo", "runs"], doing="the test") == "runs\n"
        pod: Any = kubernetes.cluster.core.read_namespaced_pod(second.pod.name, kubernetes.sandbox)
        (preferred,) = pod.spec.affinity.pod_affinity.preferred_during_scheduling_ignored_during_execution
        term = preferred.pod_affinity_term
        assert term.topology_key == "kubernetes.io/hostname"
        selector = ",".join(f"{key}={value}" for key, value in term.label_selector.match_labels.items())
        assert set(kubernetes.pods(kubernetes.sandbox, selector)) == {first.pod.name, second.pod.name}


def test_a_claim_that_is_missing_is_named(kubernetes: Kubernetes) -> None:
    with pytest.raises(ClusterError, match='"missing" not found') as failure, started(kubernetes, "missing"):
        pytest.fail("there is no volume")
    assert failure.value.status == 404


def test_a_claim_that_can_only_be_read_is_refused(kubernetes: Kubernetes) -> None:
    name = claim(kubernetes, "read-only", accessModes=["ReadOnlyMany"], storageClassName="none")
    with pytest.raises(ClusterError, match="is ReadOnlyMany: golden dumps cannot be written"):
        require_usable(kubernetes.cluster, kubernetes.sandbox, name)


@pytest.fixture
def idle_class(kubernetes: Kubernetes) -> Iterator[str]:
    """A storage class that makes no volume: a stand-in for one whose driver is down."""
    storage: Any = kubernetes.cluster.storage
    name = f"{kubernetes.sandbox}-idle"
    storage.create_storage_class({"metadata": {"name": name}, "provisioner": "example.org/nobody"})
    yield name
    storage.delete_storage_class(name)


def test_a_claim_without_a_volume_is_said_at_once_and_by_the_error(kubernetes: Kubernetes, idle_class: str) -> None:
    name, told = claim(kubernetes, "unbound", storageClassName=idle_class), list[str]()
    with (
        pytest.raises(ClusterError, match=r"does not start within 4 s: .*unbound.*PersistentVolumeClaim"),
        started(kubernetes, name, timeout=timedelta(seconds=4), on_wait=told.append),
    ):
        pytest.fail("there is no volume")
    assert told[0] == (
        f"PVC {kubernetes.sandbox}/{name} is not bound yet: it waits for a volume of its storage class, {idle_class}"
    )


@pytest.mark.parametrize(
    ("storage_class", "said"), [("", "it has no storage class"), ("misspelt", "there is no storage class misspelt")]
)
def test_no_pod_is_started_for_a_claim_that_nothing_makes_a_volume_for(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch, storage_class: str, said: str
) -> None:
    monkeypatch.setattr(volume_module, "_BOUND_WITHIN", 1)
    name = claim(kubernetes, f"classless-{len(storage_class)}", storageClassName=storage_class)
    with (
        pytest.raises(ClusterError, match=rf"{name} was not bound within 1 s: {said}"),
        started(kubernetes, name, timeout=timedelta(seconds=4)),
    ):
        pytest.fail("there is no volume")


def test_who_may_not_read_storage_classes_takes_the_claims_for_granted(kubernetes: Kubernetes) -> None:
    name, told = claim(kubernetes, "taken-for-granted", storageClassName="misspelt"), list[str]()
    rbac: Any = RbacAuthorizationV1Api(kubernetes.cluster.core.api_client)
    rules = [{"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get"]}]
    rbac.create_namespaced_role(kubernetes.sandbox, {"metadata": {"name": "reads-claims"}, "rules": rules})
    kubernetes.bind("reader", kubernetes.sandbox, "reads-claims")
    require_usable(kubernetes.account("reader"), kubernetes.sandbox, name, told.append)
    assert told == [
        f"PVC {kubernetes.sandbox}/{name} is not bound yet: it waits for a volume of its storage class, misspelt"
    ]


def test_a_volume_that_the_toolbox_may_not_write_is_said(kubernetes: Kubernetes) -> None:
    name = kubernetes.claim("roots", mode="555")
    with (
        started(kubernetes, name) as running,
        pytest.raises(ClusterError, match=r"roots cannot be written by the toolbox(.|\n)*Permission denied"),
    ):
        running.require_room()


def test_an_image_that_is_not_there_is_said(kubernetes: Kubernetes, golden: str) -> None:
    with (
        pytest.raises(ClusterError, match=r"does not start within 8 s: .*(ErrImagePull|ImagePullBackOff)"),
        started(kubernetes, golden, "local/missing:1", timeout=timedelta(seconds=8)),
    ):
        pytest.fail("there is no image")


def test_no_test_leaves_a_toolbox(kubernetes: Kubernetes, box: Toolbox) -> None:
    def left() -> list[str]:
        return [name for name in kubernetes.pods(kubernetes.sandbox, SELECTOR) if name != box.pod.name]

    until(lambda: left() == [], f"no toolbox is left: {left()}")
