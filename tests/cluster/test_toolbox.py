"""The toolbox pod."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.toolbox import CACHE, Toolbox, ToolboxImage, remove_orphans, toolbox
from pytest_erp_sandbox.cluster.volume import require_usable

from .kubernetes import IMAGE, KUBECONFIG, Kubernetes, until

SECRET = "-".join(["geheim", "ü'\"$(x)\\"])
SELECTOR = "app.kubernetes.io/managed-by=erp-sandbox"


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
    credentials = {"prod": {"PGPASSWORD": SecretStr(SECRET), "PGUSER": SecretStr("dumper")}}
    return toolbox(kubernetes.cluster, kubernetes.sandbox, golden, ToolboxImage(image), credentials, **options)


@pytest.fixture(scope="module")
def box(kubernetes: Kubernetes, golden: str) -> Iterator[Toolbox]:
    with started(kubernetes, golden) as running:
        yield running


def secrets_of_ours(kubernetes: Kubernetes) -> list[str]:
    found: Any = kubernetes.cluster.core.list_namespaced_secret(kubernetes.sandbox, label_selector=SELECTOR)
    return [secret.metadata.name for secret in found.items]


def test_programs_run_with_their_credentials_and_give_back_what_they_say(box: Toolbox) -> None:
    said: list[str] = []
    script = 'echo "$PGUSER:$PGPASSWORD"; echo one >&2; printf two >&2; echo >&2'
    answer = box.run(["sh", "-c", script], doing="the test", credentials="prod", watch=said.append)
    assert answer == f"dumper:{SECRET}\n"
    assert said == ["one", "two"]
    assert box.run(["sh", "-c", 'echo "${PGPASSWORD-none}"'], doing="the test") == "none\n"


def test_postgresqls_programs_are_there(box: Toolbox) -> None:
    for program in ("pg_dump", "pg_restore", "psql", "tar"):
        assert program in box.run([program, "--version"], doing="asking for its version")


def test_a_program_that_fails_says_why(box: Toolbox) -> None:
    with pytest.raises(ClusterError, match=r"the dump in pod .* failed \(exit code 7\): no such table"):
        box.run(["sh", "-c", "echo no such table >&2; exit 7"], doing="the dump")


def test_a_program_that_takes_too_long_is_ended_in_the_pod(box: Toolbox) -> None:
    with pytest.raises(ClusterError, match="exit code 124"):
        box.run(["sleep", "4321"], doing="the dump", timeout=timedelta(seconds=1))
    assert "4321" not in box.run(["ps", "ax"], doing="the test")


def test_files_come_back_byte_by_byte(box: Toolbox) -> None:
    box.run(["sh", "-c", f"head -c 3000000 /dev/urandom >{CACHE}/file"], doing="the test")
    content = b"".join(map(bytes, box.fetch(f"{CACHE}/file")))
    expected = box.run(["md5sum", f"{CACHE}/file"], doing="the test").split()[0]
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == expected
    with pytest.raises(ClusterError, match="No such file"):
        list(box.fetch(f"{CACHE}/missing"))


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


def test_credentials_are_nowhere_but_in_the_secret(kubernetes: Kubernetes, box: Toolbox) -> None:
    box.run(["true"], doing="the test", credentials="prod")
    pod: Any = kubernetes.cluster.core.read_namespaced_pod(box.pod.name, box.pod.namespace)
    assert "geheim" not in str(pod)
    assert "geheim" not in box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"], doing="the test")
    secret: Any = kubernetes.cluster.core.read_namespaced_secret(box.pod.name, box.pod.namespace)
    assert [owner.uid for owner in secret.metadata.owner_references] == [pod.metadata.uid]


def test_pod_and_secret_are_gone_afterwards_also_after_an_error(kubernetes: Kubernetes, golden: str) -> None:
    def fail() -> None:
        with started(kubernetes, golden) as running:
            names.append(running.pod.name)
            raise KeyboardInterrupt

    names: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        fail()
    until(lambda: names[0] not in kubernetes.pods(kubernetes.sandbox, SELECTOR), "the pod is gone")
    until(lambda: names[0] not in secrets_of_ours(kubernetes), "its Secret is gone")


def test_the_pod_of_a_killed_run_ends_by_itself_and_the_next_run_removes_it_with_its_secret(
    kubernetes: Kubernetes, golden: str, box: Toolbox
) -> None:
    code = f"""
from pathlib import Path
from pydantic import SecretStr
from pytest_erp_sandbox.cluster.api import connect_cluster
from pytest_erp_sandbox.cluster.toolbox import ToolboxImage, toolbox
cluster = connect_cluster(Path({KUBECONFIG!r}))
image = ToolboxImage({IMAGE!r})
with toolbox(cluster, {kubernetes.sandbox!r}, {golden!r}, image, {{"prod": {{"X": SecretStr("x")}}}}) as box:
    print(box.pod.name, flush=True)
    box.run(["sleep", "1000"], doing="something long")
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    name = process.stdout.readline().decode().strip()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    def phase() -> str:
        pod: Any = kubernetes.cluster.core.read_namespaced_pod(name, kubernetes.sandbox)
        return str(pod.status.phase)

    until(lambda: phase() in ("Succeeded", "Failed"), "the pod has ended")
    assert name in secrets_of_ours(kubernetes)
    assert remove_orphans(kubernetes.cluster, kubernetes.sandbox) == [name]
    until(lambda: name not in secrets_of_ours(kubernetes), "its Secret is gone")
    # That of a run that is alive is left alone.
    assert box.run(["echo", "alive"], doing="the test") == "alive\n"


def test_a_claim_that_is_missing_is_named(kubernetes: Kubernetes) -> None:
    with pytest.raises(ClusterError, match='"missing" not found') as failure, started(kubernetes, "missing"):
        pytest.fail("there is no volume")
    assert failure.value.status == 404


def test_a_claim_that_can_only_be_read_is_refused(kubernetes: Kubernetes) -> None:
    name = claim(kubernetes, "read-only", accessModes=["ReadOnlyMany"], storageClassName="none")
    with pytest.raises(ClusterError, match="is ReadOnlyMany: golden dumps cannot be written"):
        require_usable(kubernetes.cluster, kubernetes.sandbox, name)


def test_a_claim_without_a_volume_is_said(kubernetes: Kubernetes) -> None:
    name = claim(kubernetes, "unbound", storageClassName="none")
    with (
        pytest.raises(ClusterError, match=r"does not start within 4 s: .*unbound.*PersistentVolumeClaim"),
        started(kubernetes, name, timeout=timedelta(seconds=4)),
    ):
        pytest.fail("there is no volume")


def test_a_volume_that_the_toolbox_may_not_write_is_said(kubernetes: Kubernetes) -> None:
    name = kubernetes.claim("roots", mode="555")
    with (
        pytest.raises(ClusterError, match=r"cannot be written by the toolbox(.|\n)*Permission denied"),
        started(kubernetes, name),
    ):
        pytest.fail("it cannot be written")


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
    until(lambda: set(secrets_of_ours(kubernetes)) == {box.pod.name}, "no Secret is left")
