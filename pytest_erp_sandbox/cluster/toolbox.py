"""The toolbox: a pod beside the golden dumps' volume, which it reads and writes, and where PostgreSQL's tools run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pydantic import SecretStr

from ..errors import ClusterError
from ..progress import human_size
from .api import LABEL, Cluster, PodReference, ask, await_condition, refuse_prods
from .exec import Exec, kept_open, run_in_pod
from .volume import require_usable

__all__ = [
    "CACHE",
    "ENDS_WITHIN",
    "LOGIN",
    "OTHER_USER",
    "Toolbox",
    "ToolboxFolder",
    "ToolboxImage",
    "remove_orphans",
    "toolbox",
]

CACHE = "/cache"
"""Where the volume is mounted in the pod."""

LOGIN = "/login"
"""Where the pod has prod's login, one file a variable, if it was given it."""

_CONTAINER = "toolbox"
_LABELS = {LABEL: "erp-sandbox", "app.kubernetes.io/component": "toolbox"}
_SELECTOR = ",".join(f"{key}={value}" for key, value in _LABELS.items())
_CLAIM = "pytest-erp-sandbox/claim"
"""The label that has the claim's name, as much of it as a label may have."""

_SCRATCH = "/tmp"  # noqa: S108 - of the pod's own

_STARTS_WITHIN = timedelta(minutes=5)
_GIVEN_UP = _STARTS_WITHIN + timedelta(minutes=1)
"""A toolbox that has not started for so long is nobody's: whoever made it has given it up, or was killed."""

_LOGIN_WITHIN = timedelta(seconds=30)
"""The same, of one that lacks the Secret for its start: its maker makes that next."""

_BEAT = 0.5
"""Seconds from one look to the next."""

ENDS_WITHIN = timedelta(seconds=45)
"""How long the toolbox of a killed run may go on, whatever it was killed at."""

OTHER_USER = "Its files may belong to another user: set golden.user to that one."

_LEAST_ROOM = 16 << 20
"""Bytes that must be free beside what is put there, as it comes in batches."""

# Ends when the lifeline's connection does, and with it every program in the pod; or when none came.
_MAIN = """
mkfifo $1/alive
(sleep 30; [ -e $1/begun ] || : >$1/alive) &
cat $1/alive
"""
# Its own stdout stays open: of a command without, containerd (seen with 1.6) closes stdin.
_LIFELINE = ": >$1/begun; exec 3>&1; cat >$1/alive"


@dataclass(frozen=True)
class ToolboxImage:
    """What the pod is made of.

    Attributes:
        image: with tar, flock and timeout; and pg_dump, pg_restore and psql where prod is to be dumped there.
        pull_policy: of the image.
        user: the uid and gid that it runs as; the volume is given to that group.
    """

    image: str
    pull_policy: str = "IfNotPresent"
    user: int = 10001


@dataclass(frozen=True)
class Toolbox:
    """A running toolbox.

    Attributes:
        cluster: where it is.
        pod: it.
        claim: the golden dumps' PVC, which it has mounted.
        login: what it has in ``LOGIN``, if anything.
    """

    cluster: Cluster
    pod: PodReference
    claim: str
    login: Mapping[str, SecretStr] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """What the golden dumps are on, for people."""
        return f"PVC {self.pod.namespace}/{self.claim}"

    def run(self, command: Sequence[str], *, doing: str) -> str:
        """Run a program to its end, and give back what it wrote to stdout.

        Args:
            command: the program and its arguments; none of them secret, as the API server may log them.
            doing: what it does, for the error.

        Raises:
            ClusterError: it failed, with the end of its stderr; or the connection to it was lost.
        """
        return run_in_pod(self.cluster, self.pod, command, doing=doing)

    @contextmanager
    def folder(self) -> Iterator[ToolboxFolder]:
        """A new folder on the volume, for as long as this context.

        Raises:
            ClusterError: it cannot be made.
        """
        path = f"{CACHE}/.making-{secrets.token_hex(4)}"
        self.run(["mkdir", "-m", "700", path], doing="making a folder on the volume")
        try:
            yield ToolboxFolder(self, path)
        finally:
            with suppress(ClusterError):  # the next who has the golden dumps removes it
                self.run(["rm", "-rf", path], doing="tidying up")

    def require_room(self, needed: int = 0) -> None:
        """Stop where the volume cannot be written, or has too little room for ``needed`` bytes.

        Raises:
            ClusterError: it is so.
        """
        probe = 'touch "$1/.probe-$2" && rm "$1/.probe-$2"'
        try:
            self.run(["sh", "-c", probe, "sh", CACHE, secrets.token_hex(4)], doing="writing on the volume")
            answer = self.run(["df", "-P", "-k", CACHE], doing="asking for room on the volume")
        except ClusterError as error:
            raise ClusterError(f"{self.place} cannot be written by the toolbox: {error}", hint=OTHER_USER) from None
        free = int(answer.splitlines()[-1].split()[3]) * 1024
        if free < needed + _LEAST_ROOM:
            raise ClusterError(
                f"{self.place} is full: {human_size(free)} are free, and {human_size(needed + _LEAST_ROOM)} are needed",
                hint="Remove golden dumps (`erp-sandbox forget`), or make it larger.",
            )


@dataclass(frozen=True)
class ToolboxFolder:
    """A folder on the volume that is there for a while.

    Attributes:
        toolbox: where it is.
        path: its own there.
    """

    toolbox: Toolbox
    path: str


@contextmanager
def toolbox(
    cluster: Cluster,
    namespace: str,
    claim: str,
    image: ToolboxImage,
    *,
    login: Mapping[str, SecretStr] | None = None,
    prods: Collection[str] = (),
    deadline: timedelta = timedelta(hours=2),
    timeout: timedelta = _STARTS_WITHIN,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[Toolbox]:
    """Start a toolbox with the claim mounted; it ends with this context, and by itself after ``deadline``.

    Those that killed runs have left go first. Its only credentials are those of ``login``: in a Secret that is there
    until the pod runs, which keeps them in its memory. Where this program is killed before, it goes with the pod.

    Args:
        cluster: where.
        namespace: the sandbox's.
        claim: the golden dumps' PVC.
        image: what the pod is made of.
        login: prod's, as environment variables; None for a pod without it.
        prods: prod's namespaces, in which no pod is ever started.
        deadline: after it the cluster ends the pod.
        timeout: how long its start may take; not longer than without it, or others take the pod for nobody's.
        on_wait: is told what is waited for.

    Raises:
        NotASandboxError: the claim is prod's.
        ClusterError: it cannot be used, or the pod does not start; the message says what it waits for.
    """
    refuse_prods(f"PVC {namespace}/{claim}", namespace, prods, "started")
    require_usable(cluster, namespace, claim, on_wait)
    remove_orphans(cluster, namespace, logins=login is not None)
    name = f"erp-sandbox-toolbox-{secrets.token_hex(4)}"
    pod = PodReference(namespace, name, _CONTAINER)
    try:
        made = ask(
            cluster.core.create_namespaced_pod,
            namespace,
            _pod(name, claim, image, deadline, has_login=login is not None),
            doing=f"making {pod} (verb create)",
        )
        with nullcontext() if login is None else _given(cluster, made.metadata, login):
            on_wait(f"waiting for a pod that mounts PVC {namespace}/{claim}")
            await_condition(
                lambda: _not_running(cluster, pod),
                timeout.total_seconds(),
                f"{pod} does not start",
                hint=f"kubectl describe pod {name} --namespace {namespace}",
            )
        # A connection for as long as this program lives: the pod ends with it.
        lifeline = Exec(cluster, pod, ["sh", "-c", _LIFELINE, "sh", _SCRATCH], stdin=True)
        with lifeline, kept_open(lifeline):
            yield Toolbox(cluster, pod, claim, login)
    finally:
        with suppress(ClusterError):  # it may not even have been made; and it has its deadline
            _delete(cluster, namespace, name)


def remove_orphans(
    cluster: Cluster,
    namespace: str,
    patience: timedelta = timedelta(0),
    on_left: Callable[[str], None] = lambda _: None,
    *,
    logins: bool = False,
) -> list[str]:
    """Remove toolboxes that nobody uses any more; those of runs that are alive are left alone.

    Args:
        cluster: where.
        namespace: the sandbox's.
        patience: how long those that run may take to end, as they do when their run was killed.
        on_left: is told which are left at the end, and why.
        logins: whether their Secrets may be listed and removed, too.

    Returns:
        The pods' names.

    Raises:
        ClusterError: they cannot be listed or removed.
    """
    deadline = time.monotonic() + patience.total_seconds()
    removed: list[str] = []
    while True:
        gone, left = _remove_ended(cluster, namespace, logins=logins)
        removed += [name for name in gone if name not in removed]
        if not left or time.monotonic() > deadline:
            for each in left:
                on_left(each)
            return removed
        time.sleep(_BEAT)


def _remove_ended(cluster: Cluster, namespace: str, *, logins: bool) -> tuple[list[str], list[str]]:
    """Remove those that nobody uses; returns their names, and which are left, and why."""
    # Secrets first: whose Secret is listed was made before it.
    with_login = _secrets(cluster, namespace) if logins else None
    found, _, headers = ask(
        cluster.core.list_namespaced_pod_with_http_info,
        namespace,
        label_selector=_SELECTOR,
        doing="listing toolboxes (verb list)",
    )
    now = parsedate_to_datetime(headers["Date"])  # the clock here may be another one
    removed, left = [], []
    for each in found.items:
        name, age, state = each.metadata.name, now - each.metadata.creation_timestamp, _state(each)
        lacks_login = with_login is not None and name not in with_login and _mounts(each, name)
        given_up = _LOGIN_WITHIN if lacks_login else _GIVEN_UP
        if state == "ended" or (state == "starting" and age > given_up):
            _delete(cluster, namespace, name)
            removed.append(name)
        elif state == "running":
            # It has its maker, or ends in a moment; and it has its login, and needs no Secret any more.
            if with_login is not None and name in with_login:
                _delete_secret(cluster, namespace, name)
            left.append(f"{PodReference(namespace, name)} is left: a run uses it")
        else:
            left.append(
                f"{PodReference(namespace, name)} is left: a run may wait for its start, until it is"
                f" {given_up.total_seconds():.0f} s old; it is {age.total_seconds():.0f} s old: {_waits_for(each)}"
            )
    for name in (with_login or set()) - {each.metadata.name for each in found.items}:
        _delete_secret(cluster, namespace, name)
    return removed, left


def _secrets(cluster: Cluster, namespace: str) -> set[str]:
    """The names of toolboxes' Secrets, which are those of their pods."""
    found = ask(
        cluster.core.list_namespaced_secret,
        namespace,
        label_selector=_SELECTOR,
        doing="listing toolboxes' Secrets (verb list)",
    )
    return {each.metadata.name for each in found.items}


def _mounts(found: Any, secret: str) -> bool:
    return any(each.secret and each.secret.secret_name == secret for each in found.spec.volumes or ())


@contextmanager
def _given(cluster: Cluster, pod: Any, login: Mapping[str, SecretStr]) -> Iterator[None]:
    """Give a pod its login while it starts: what it has mounted then, it keeps."""
    _make_secret(cluster, pod, login)
    try:
        yield
    except BaseException:
        with suppress(ClusterError):  # it goes with the pod
            _delete_secret(cluster, pod.namespace, pod.name)
        raise
    _delete_secret(cluster, pod.namespace, pod.name)


def _make_secret(cluster: Cluster, pod: Any, login: Mapping[str, SecretStr]) -> None:
    """Make the Secret that a pod waits for, which goes with it; no error's frames hold what is in it."""
    failure: BaseException
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
    metadata = {"name": pod.name, "labels": pod.labels, "ownerReferences": [owner]}
    try:
        ask(
            cluster.core.create_namespaced_secret,
            pod.namespace,
            {"metadata": metadata, "stringData": {name: value.get_secret_value() for name, value in login.items()}},
            doing=f"making Secret {pod.namespace}/{pod.name}, prod's login for the toolbox (verb create)",
        )
    except ClusterError as error:
        failure = ClusterError(error.args[0], hint=error.hint)
    except KeyboardInterrupt as interrupt:
        failure = KeyboardInterrupt(*interrupt.args)
    else:
        return
    raise failure


def _pod(name: str, claim: str, image: ToolboxImage, deadline: timedelta, *, has_login: bool) -> dict[str, Any]:
    """A pod that the ``restricted`` pod security standard admits."""
    container: dict[str, Any] = {
        "name": _CONTAINER,
        "image": image.image,
        "imagePullPolicy": image.pull_policy,
        "command": ["sh", "-c", _MAIN, "sh", _SCRATCH],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            # pg_dump holds a row at a time: one with a file in it takes several times the file.
            "limits": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "256Mi"},
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE},
            {"name": "scratch", "mountPath": _SCRATCH},
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "cache", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "scratch", "emptyDir": {}},
    ]
    if has_login:
        container["volumeMounts"].append({"name": "login", "mountPath": LOGIN, "readOnly": True})
        volumes.append({"name": "login", "secret": {"secretName": name, "defaultMode": 0o440}})
    labels = {**_LABELS, _CLAIM: claim[:63].rstrip("-.")}
    # Most volumes are on one node at a time: a second toolbox can mount them only there. No more than preferred: others
    # can be mounted anywhere, and a node may be full.
    beside_others = {
        "weight": 100,
        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}},
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "containers": [container],
            "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [beside_others]}},
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(deadline.total_seconds()),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": image.user,
                "runAsGroup": image.user,
                "fsGroup": image.user,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": volumes,
        },
    }


def _state(found: Any) -> Literal["starting", "running", "ended"]:
    """How a toolbox is; by its own container, as those that others put beside it (a service mesh) go on without it."""
    own = next((each.state for each in found.status.container_statuses or () if each.name == _CONTAINER), None)
    if found.status.phase in ("Succeeded", "Failed") or (own and own.terminated):
        return "ended"
    return "running" if own and own.running else "starting"


def _not_running(cluster: Cluster, pod: PodReference) -> str | None:
    found = ask(cluster.core.read_namespaced_pod, pod.name, pod.namespace, doing=f"looking at {pod} (verb get)")
    state = _state(found)
    if state == "ended":
        raise ClusterError(f"{pod} has ended at once: {found.status.message or _waits_for(found)}")
    return None if state == "running" else _waits_for(found)


def _waits_for(found: Any) -> str:
    """What keeps a toolbox from running."""
    status = found.status
    waiting = [each.state.waiting for each in status.container_statuses or () if each.state and each.state.waiting]
    reasons = [f"{each.reason}: {each.message}" for each in waiting if each.message]
    reasons += [each.message for each in status.conditions or () if each.status != "True" and each.message]
    return "; ".join(reasons) or f"it is {status.phase}"


def _delete(cluster: Cluster, namespace: str, name: str) -> None:
    doing = f"removing pod {namespace}/{name} (verb delete)"
    _unless_gone(cluster.core.delete_namespaced_pod, name, namespace, grace_period_seconds=0, doing=doing)


def _delete_secret(cluster: Cluster, namespace: str, name: str) -> None:
    doing = f"removing Secret {namespace}/{name} (verb delete)"
    _unless_gone(cluster.core.delete_namespaced_secret, name, namespace, doing=doing)


def _unless_gone(call: Callable[..., Any], *arguments: Any, doing: str, **options: Any) -> None:
    try:
        ask(call, *arguments, doing=doing, **options)
    except ClusterError as error:
        if error.status != 404:
            raise
