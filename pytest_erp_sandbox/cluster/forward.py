"""A port-forward: a local port behind which a database in the cluster answers, connection by connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from kubernetes.stream import portforward

from ..errors import ClusterError
from .api import Cluster, open_stream
from .workload import Workload, ready_pod

__all__ = ["forwarded"]

_HOST = "127.0.0.1"
_PIECE = 1 << 16


@contextmanager
def forwarded(
    cluster: Cluster, workload: Workload, port: int, on_trouble: Callable[[str], None] = lambda _: None
) -> Iterator[int]:
    """Listen on a local port, and lead each connection to ``port`` of a pod of ``workload`` that is ready then.

    So a pod that was replaced, or a forward that was cut, costs the connections through it, and no others.

    Args:
        cluster: where the pods are.
        workload: whose pods: a database's StatefulSet, for instance.
        port: of the pods.
        on_trouble: is told why a connection could not be led on; the client only sees it closed.

    Returns:
        The local port, on 127.0.0.1.

    Raises:
        ClusterError: no pod is ready, or it cannot be forwarded to.
    """
    _open(cluster, workload, port).close()  # what does not work is better said now
    with closing(socket.create_server((_HOST, 0))) as server:
        threading.Thread(target=_serve, args=(server, cluster, workload, port, on_trouble), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake the thread that waits there.
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def _serve(
    server: socket.socket, cluster: Cluster, workload: Workload, port: int, on_trouble: Callable[[str], None]
) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return  # closed: nobody wants it any more
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            far = _open(cluster, workload, port)
        except ClusterError as error:
            on_trouble(str(error))
            near.close()
            continue
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _open(cluster: Cluster, workload: Workload, port: int) -> Any:
    pod = ready_pod(cluster, workload)
    opened = open_stream(
        lambda: portforward(
            cluster.own_client().connect_get_namespaced_pod_portforward, pod, workload.namespace, ports=str(port)
        ),
        doing=f"forwarding to port {port} of {workload} (verbs get and create on pods/portforward)",
    )
    far = opened.socket(port)
    far.setblocking(True)
    return far


def _pump(source: Any, target: Any) -> None:
    """Copy until either end closes; then close both."""
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
