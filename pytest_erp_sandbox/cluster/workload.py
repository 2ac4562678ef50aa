"""Exclusive access: the ERP's Deployment or StatefulSet is scaled to 0 for a while, and always back."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from ..errors import ClusterError, SettingsError
from .api import Cluster, ask, await_condition, refuse_prods

__all__ = ["READY_WITHIN", "REPLICAS", "Workload", "await_ready", "ready_pod", "recover", "scaled_down"]

REPLICAS = "pytest-erp-sandbox/replicas"
"""The annotation that has the former count while the workload is scaled down."""

_KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet"}

READY_WITHIN = timedelta(minutes=5)
"""How long pods may take to end, and to become ready, where nothing else is said."""

_CONFLICT = 409
_ATTEMPTS = 5

_PATIENCE = 60.0
"""Seconds for which scaling back is tried again, as nobody else would do it."""

_PAUSE = 1.0
"""Seconds between two tries."""


@dataclass(frozen=True)
class Workload:
    """A Deployment or a StatefulSet.

    Attributes:
        kind: ``Deployment`` or ``StatefulSet``.
        namespace: where it is.
        name: what it is called there.
    """

    kind: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str, namespace: str, setting: str) -> Self:
        """Read ``deployment/name`` or ``statefulset/name``, as kubectl has it; a mere name is a Deployment's.

        Raises:
            SettingsError: it is something else.
        """
        kind, _, name = text.rpartition("/")
        if not name or (kind or "deployment").lower() not in _KINDS:
            raise SettingsError(
                f"{setting} is neither a Deployment nor a StatefulSet: {text}", hint='Write it as "deployment/erp".'
            )
        return cls(_KINDS[(kind or "deployment").lower()], namespace, name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@contextmanager
def scaled_down(
    cluster: Cluster,
    workload: Workload,
    *,
    prods: Collection[str],
    timeout: timedelta = READY_WITHIN,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Scale ``workload`` to 0, wait until its pods are gone, and afterwards back to what it was, until it is ready.

    Back also after an error or Ctrl-C; another Ctrl-C ends the wait, but not before it is scaled. Where the API server
    does not take that at once, it is tried again. The former count is written as an annotation together with the 0, so
    that after a ``kill -9`` ``recover``, or the next run, puts it back.

    Args:
        cluster: where it is.
        workload: what is in front of the sandbox.
        prods: prod's namespaces, in which nothing is ever scaled.
        timeout: how long pods may take to end, and to become ready.
        on_wait: is told what is waited for; and, after an error, what of this failed beside it.

    Raises:
        NotASandboxError: it is in prod's namespace.
        ClusterError: it may not be scaled, or its pods do not end, or do not become ready again; after an error inside
            this is but a note of that one's.
    """
    refuse_prods(workload, workload.namespace, prods, "scaled")
    _read(cluster, workload)  # what is not there, or out of reach, is not to be put back for a minute
    try:
        if _scale_down(cluster, workload):
            on_wait(f"waiting for the pods of {workload} to end")
        await_condition(
            lambda: _running(cluster, workload), timeout.total_seconds(), f"the pods of {workload} have not ended"
        )
        yield
    except BaseException as error:
        with _noted_on(error, on_wait):
            if _put_back(cluster, workload, on_wait, _PATIENCE) is not None:
                way_out = "" if isinstance(error, Exception) else " (Ctrl-C ends the wait)"
                await_ready(cluster, workload, timeout, lambda said: on_wait(f"{said}{way_out}"))
        raise
    _put_back(cluster, workload, on_wait, _PATIENCE)
    await_ready(cluster, workload, timeout, on_wait)


def recover(cluster: Cluster, workload: Workload, *, prods: Collection[str]) -> int | None:
    """Put back what a killed run has left scaled down.

    Returns:
        The count of pods that it has again; None where there was nothing to recover.

    Raises:
        NotASandboxError: it is in prod's namespace.
        ClusterError: it may not be scaled.
    """
    refuse_prods(workload, workload.namespace, prods, "scaled")
    return _scale_back(cluster, workload)


def await_ready(
    cluster: Cluster, workload: Workload, timeout: timedelta, on_wait: Callable[[str], None] = lambda _: None
) -> None:
    """Wait until as many pods are ready as there should be.

    Raises:
        ClusterError: they are not within ``timeout``; the message says what each waits for.
    """
    if _unready(cluster, workload) is None:
        return
    on_wait(f"waiting for {workload} to be ready")
    await_condition(
        lambda: _unready(cluster, workload),
        timeout.total_seconds(),
        f"{workload} was scaled back, but is not ready",
        hint=f"kubectl describe pods --namespace {workload.namespace}",
    )


def ready_pod(cluster: Cluster, workload: Workload) -> str:
    """The name of a pod of ``workload`` that is ready.

    Raises:
        ClusterError: there is none.
    """
    for pod in _pods(cluster, workload):
        if _is_ready(pod):
            return str(pod.metadata.name)
    raise ClusterError(f"{workload} has no pod that is ready", hint="Scale it up, or see what its pods wait for.")


def _scale_down(cluster: Cluster, workload: Workload) -> bool:
    """Scale to 0, with the former count noted in the same write; False where there was nothing to do."""

    def change(found: Any) -> dict[str, Any] | None:
        # An earlier run that was killed has noted what it really was.
        noted = _noted(found)
        replicas = found.spec.replicas or 0
        if noted is None and replicas == 0:
            return None
        former = replicas if noted is None else noted
        return {"metadata": {"annotations": {REPLICAS: str(former)}}, "spec": {"replicas": 0}}

    return _patch(cluster, workload, change) is not None


def _put_back(cluster: Cluster, workload: Workload, on_wait: Callable[[str], None], patience: float) -> int | None:
    """Scale back, for ``patience`` seconds again and again where the API server is busy or cannot be reached."""
    deadline, is_told = time.monotonic() + patience, False
    try:
        while True:
            try:
                return _scale_back(cluster, workload)
            except ClusterError as error:
                if not _passes(error) or time.monotonic() >= deadline:
                    raise ClusterError(
                        f"{workload} may still be scaled to 0: {error.args[0]}",
                        hint="`erp-sandbox recover` puts it back.",
                    ) from None
                if not is_told:
                    on_wait(f"{workload} cannot be scaled back yet, and it is tried again: {error.args[0]}")
                is_told = True
            time.sleep(_PAUSE)
    except KeyboardInterrupt as interrupt:
        if patience:  # the write may not have been made: once more, and only once
            with _noted_on(interrupt, on_wait):
                _put_back(cluster, workload, on_wait, 0)
        raise


def _passes(error: ClusterError) -> bool:
    """Whether the same call may be answered a moment later: somebody else wrote, too many calls, out of reach, 5xx."""
    return error.status in (0, _CONFLICT, 429) or error.status >= 500


@contextmanager
def _noted_on(first: BaseException, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Let nothing that fails here hide ``first``: it is noted there, and told, as notes are not shown everywhere."""
    try:
        yield
    except ClusterError as another:
        first.add_note(str(another))
        on_wait(str(another))


def _scale_back(cluster: Cluster, workload: Workload) -> int | None:
    def change(found: Any) -> dict[str, Any] | None:
        noted = _noted(found)
        if noted is None:
            return None
        return {"metadata": {"annotations": {REPLICAS: None}}, "spec": {"replicas": noted}}

    changed = _patch(cluster, workload, change)
    return None if changed is None else int(changed["spec"]["replicas"])


def _noted(found: Any) -> int | None:
    text = (found.metadata.annotations or {}).get(REPLICAS)
    return int(text) if text and text.isdigit() else None


def _patch(
    cluster: Cluster, workload: Workload, change: Callable[[Any], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """Write what ``change`` makes of the workload as it is, unless somebody else writes in between: then again."""
    for attempt in range(_ATTEMPTS):
        found = _read(cluster, workload)
        body = change(found)
        if body is None:
            return None
        body["metadata"]["resourceVersion"] = found.metadata.resource_version
        try:
            ask(
                _of_kind(cluster, workload, "patch"),
                workload.name,
                workload.namespace,
                body,
                doing=f"scaling {workload} to {body['spec']['replicas']} (verb patch)",
            )
        except ClusterError as error:
            if error.status != _CONFLICT or attempt == _ATTEMPTS - 1:
                raise
        else:
            return body
    raise AssertionError("the last attempt returns or raises")


def _read(cluster: Cluster, workload: Workload) -> Any:
    return ask(
        _of_kind(cluster, workload, "read"), workload.name, workload.namespace, doing=f"reading {workload} (verb get)"
    )


def _of_kind(cluster: Cluster, workload: Workload, verb: str) -> Callable[..., Any]:
    kind = "deployment" if workload.kind == "Deployment" else "stateful_set"
    return getattr(cluster.apps, f"{verb}_namespaced_{kind}")  # type: ignore[no-any-return]


def _pods(cluster: Cluster, workload: Workload) -> list[Any]:
    selector = _read(cluster, workload).spec.selector
    terms = [f"{key}={value}" for key, value in (selector.match_labels or {}).items()]
    for each in selector.match_expressions or ():
        values = f" ({','.join(each.values)})" if each.values else ""
        terms.append(
            {"Exists": each.key, "DoesNotExist": f"!{each.key}"}.get(each.operator, "")
            or f"{each.key} {each.operator.lower()}{values}"
        )
    pods = ask(
        cluster.core.list_namespaced_pod,
        workload.namespace,
        label_selector=",".join(terms),
        doing=f"listing the pods of {workload} (verb list)",
    )
    return list(pods.items)


def _running(cluster: Cluster, workload: Workload) -> str | None:
    names = [pod.metadata.name for pod in _pods(cluster, workload) if pod.status.phase not in ("Succeeded", "Failed")]
    return ", ".join(names) or None


def _unready(cluster: Cluster, workload: Workload) -> str | None:
    found = _read(cluster, workload)
    pods = _pods(cluster, workload)
    # Counted: the workload's own count may be an old one for a while, of the pods that were there before.
    wanted, ready = found.spec.replicas or 0, sum(_is_ready(pod) for pod in pods)
    if (found.status.observed_generation or 0) >= found.metadata.generation and ready >= wanted:
        return None
    reasons = {reason for pod in pods for reason in _reasons(pod)}
    return f"{ready} of {wanted} pods are ready" + (f" ({', '.join(sorted(reasons))})" if reasons else "")


def _is_ready(pod: Any) -> bool:
    conditions = {each.type: each.status for each in pod.status.conditions or ()}
    return conditions.get("Ready") == "True" and pod.metadata.deletion_timestamp is None


def _reasons(pod: Any) -> Iterator[str]:
    """Why a pod is not ready: ``ImagePullBackOff``, ``CrashLoopBackOff``, ``Unschedulable``."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status != "True" and condition.reason:
            yield condition.reason
    for container in pod.status.container_statuses or ():
        if container.state and container.state.waiting and container.state.waiting.reason:
            yield container.state.waiting.reason
