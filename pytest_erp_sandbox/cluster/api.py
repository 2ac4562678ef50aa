"""The cluster's API server: by a kubeconfig from outside, by the pod's service account from inside."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException

from ..errors import ClusterError, NotASandboxError

__all__ = [
    "LABEL",
    "Cluster",
    "PodReference",
    "ask",
    "await_condition",
    "connect_cluster",
    "open_stream",
    "refuse_prods",
]

LABEL = "app.kubernetes.io/managed-by"
"""Marks whatever is made here, with the value ``erp-sandbox``: it can be found when its maker was killed."""

_TIMEOUT = (10, 60)
"""Seconds for connecting and for an answer: no call waits for ever."""

_ASIDE = (5, 10)
"""The same, where it may do without the answer."""

_OPENING = 60.0
"""Seconds for opening a stream, from connecting to the answer."""

_BEAT = 0.3
"""Seconds from one look at a pod to the next."""


@dataclass(frozen=True)
class PodReference:
    """A container of a pod.

    Attributes:
        namespace: where it is.
        name: the pod.
        container: which of its containers; None where it has but one.
    """

    namespace: str
    name: str
    container: str | None = None

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"


class Cluster:
    """An API server, and who we are there.

    Args:
        configuration: of the Kubernetes client.
    """

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        api = client.ApiClient(configuration)
        self.core = client.CoreV1Api(api)
        self.apps = client.AppsV1Api(api)
        self.authorization = client.AuthorizationV1Api(api)
        self.storage = client.StorageV1Api(api)
        self._version = client.VersionApi(api)

    @cached_property
    def hands_frames_on(self) -> bool:
        """Whether a websocket's frames reach the container runtime as they are sent.

        From 1.30 on the server translates them, where it is asked for version 5 of the protocol; some versions of the
        library ask for 4 alone.
        """
        from kubernetes.stream import ws_client

        if not hasattr(ws_client, "V5_CHANNEL_PROTOCOL"):
            return True
        try:
            version = re.match(r"v(\d+)\.(\d+)", self._version.get_code(_request_timeout=_ASIDE).git_version)
        except (ApiException, urllib3.exceptions.HTTPError, ValueError, TypeError, AttributeError):
            return False  # it does not say
        return version is not None and (int(version[1]), int(version[2])) < (1, 30)

    def own_client(self) -> client.CoreV1Api:
        """A client for one stream alone: the library changes a client while it opens a stream with it."""
        return client.CoreV1Api(client.ApiClient(self._configuration))

    def __str__(self) -> str:
        return str(self._configuration.host)


def connect_cluster(kubeconfig: Path | None = None, context: str | None = None) -> Cluster:
    """Find the API server as kubectl does: by a kubeconfig if there is one, else as the service account of this pod.

    Args:
        kubeconfig: a file; else those that ``KUBECONFIG`` names, else ``~/.kube/config``.
        context: one of its contexts; else its current one.

    Raises:
        ClusterError: there is neither, or it cannot be used.
    """
    # Some versions of the library log answers there, Secrets among them.
    logging.getLogger("kubernetes.client.rest").setLevel(logging.INFO)
    configuration = client.Configuration()
    try:
        if kubeconfig is None and context is None and not _has_kubeconfig():
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = None if kubeconfig is None else str(kubeconfig)
            config.load_kube_config(file, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError, ValueError) as error:
        raise ClusterError(
            f"there is no way to a Kubernetes cluster: {error}",
            hint="From outside, set cluster.kubeconfig or KUBECONFIG; inside, let the pod mount its service account.",
        ) from None
    return Cluster(configuration)


def _has_kubeconfig() -> bool:
    """Whether any of the files is there that the library would read."""
    named = config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
    return any(Path(file).expanduser().exists() for file in named if file)


def refuse_prods(what: object, namespace: str, prods: Collection[str], never: str) -> None:
    """Stop where something that is to be the sandbox's is in a namespace of prod's.

    Args:
        what: it is.
        namespace: where it is.
        prods: prod's namespaces.
        never: what is never done there, such as ``scaled``.

    Raises:
        NotASandboxError: it is in one of them.
    """
    if namespace in prods:
        raise NotASandboxError(
            f"{what} is in prod's namespace, where nothing is ever {never}; nothing was changed",
            hint="Let the sandbox, its ERP and its golden dumps have a namespace of their own.",
        )


def ask(call: Callable[..., Any], *arguments: Any, doing: str, **options: Any) -> Any:
    """Call the API server, with a limit on the time, and its refusals as our errors.

    Args:
        call: a method of one of the cluster's clients.
        arguments: of the call.
        doing: what is asked for, for the error, such as ``reading Deployment erp/dolibarr``.
        options: of the call.

    Raises:
        ClusterError: it cannot be reached, or refuses; ``status`` has the HTTP status.
    """
    try:
        return call(*arguments, _request_timeout=_TIMEOUT, **options)
    except ApiException as error:
        raise refusal(error, doing) from None
    except urllib3.exceptions.HTTPError as error:
        reason = str(error.__cause__ or error)
    raise ClusterError(f"{doing}: the API server cannot be reached: {reason}", hint="Try it with kubectl.")


def open_stream(opening: Callable[[], Any], doing: str) -> Any:
    """Open a stream to a pod, with a limit on the time.

    The library has none, and takes Ctrl-C for a failure of the server's: it opens in a thread of its own, which is left
    alone with what it waits for.

    Args:
        opening: calls one of the functions of ``kubernetes.stream``.
        doing: what is opened, for the error.

    Raises:
        ClusterError: it was refused, or not answered.
    """
    opened: Future[Any] = Future()

    def open_it() -> None:
        try:
            opened.set_result(opening())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            opened.set_exception(error)

    threading.Thread(target=open_it, daemon=True).start()
    try:
        return opened.result(_OPENING)
    except ApiException as error:
        # A refused websocket's status and body are in the library's text alone.
        cause = error.__context__
        error.status = getattr(cause, "status_code", None) or error.status
        body = getattr(cause, "resp_body", None)
        error.body = body.decode(errors="replace") if isinstance(body, bytes) else error.body
        raise refusal(error, doing) from None
    except TimeoutError:
        pass
    except OSError as error:
        raise ClusterError(f"{doing}: the connection was lost: {error.strerror or error}", hint="Run again.") from None
    raise ClusterError(
        f"{doing}: the API server has not answered for {_OPENING:.0f} s",
        hint="Try it with kubectl.",
    )


def refusal(error: ApiException, doing: str) -> ClusterError:
    """The API server's refusal, in its own words; never with the request, which may hold a secret."""
    try:
        said = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        said = error.reason
    hints = {
        401: "Log in again: the cluster does not accept these credentials.",
        403: "See deploy/ for the Roles; `erp-sandbox preflight` names each missing rule.",
    }
    refused = ClusterError(f"{doing}: {said}", hint=hints.get(error.status, ""))
    refused.status = error.status
    return refused


def await_condition(look: Callable[[], str | None], timeout: float, otherwise: str, hint: str = "") -> None:
    """Look until there is nothing to wait for any more.

    Args:
        look: says what is still to be waited for, or None.
        timeout: seconds.
        otherwise: the error's beginning; what was waited for follows.
        hint: the error's hint.

    Raises:
        ClusterError: it took longer than ``timeout``.
    """
    deadline = time.monotonic() + timeout
    while (waiting_for := look()) is not None:
        if time.monotonic() > deadline:
            raise ClusterError(f"{otherwise} within {timeout:.0f} s: {waiting_for}", hint=hint)
        time.sleep(_BEAT)
