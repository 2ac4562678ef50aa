"""Documents from pod to pod, against ``kubectl exec … tar | kubectl exec … tar``: ``python -m bench.documents``."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from pytest_erp_sandbox.cluster.documents import ProdDocuments, SandboxDocuments
from tests.cluster.kubernetes import BUSYBOX, IMAGE, KUBECONFIG, running_kubernetes
from tests.cluster.test_documents import Ends

TARGET_RATIO = 1.5

_FILE = 5 << 20
"""Bytes of each file, which nothing can compress."""

_MAKE = "mkdir mycompany && for n in $(seq {files}); do head -c {size} /dev/urandom >mycompany/$n; done"
_ATTEMPTS = 5


@click.command()
@click.option("--size", type=click.IntRange(min=_FILE), default=1 << 30, help="of the documents, in bytes")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="of each way, in turns", show_default=True)
def main(size: int, rounds: int) -> None:
    """Measure into GNU's and into busybox's tar, and print a table."""
    if not KUBECONFIG:
        raise click.UsageError("ERP_SANDBOX_TEST_KUBECONFIG names no Kubernetes")
    title = f"{size / 1e9:.2f} GB: seconds, medians of {rounds} rounds in turns"
    table = Table("into", "kubectl | kubectl", "sync", "ratio", f"target ≤ {TARGET_RATIO}", title=title)
    with running_kubernetes() as kubernetes:
        for into, image in (("GNU tar", IMAGE), ("busybox", BUSYBOX)):
            ends = Ends(kubernetes, (IMAGE, image))
            prod, sandbox = ends.fresh()
            ends.at(prod, _MAKE.format(files=size // _FILE, size=_FILE))
            theirs, ours = [], []
            for _ in range(rounds):
                theirs.append(_kubectl(ends, prod, sandbox))
                ours.append(_sync(ends, prod, sandbox))
            for place in (prod, sandbox):
                ends.at(place, "rm -r mycompany")
            ratio = median(ours) / median(theirs)
            seconds = [f"{median(way):.1f}" for way in (theirs, ours)]
            table.add_row(into, *seconds, f"{ratio:.2f}", "met" if ratio <= TARGET_RATIO else "NOT met")
    Console(width=110).print(table)


def _sync(ends: Ends, prod: ProdDocuments, sandbox: SandboxDocuments) -> float:
    os.sync()
    begun = time.perf_counter()
    ends.sync(prod, sandbox)
    return time.perf_counter() - begun


def _kubectl(ends: Ends, prod: ProdDocuments, sandbox: SandboxDocuments) -> float:
    """As one would by hand; again where kubectl lost the end of the stream, which it does at times."""
    kubectl = shlex.join(["kubectl", "--kubeconfig", KUBECONFIG, "exec", "-i", "-n"])
    send = f"{kubectl} {prod.pod.namespace} {prod.pod.name} -- tar cf - -C {prod.path} mycompany </dev/null"
    receive = f"{kubectl} {sandbox.pod.namespace} {sandbox.pod.name} -- tar xf - -C {sandbox.path}/by-hand"
    for _ in range(_ATTEMPTS):
        ends.at(sandbox, "mkdir by-hand")
        os.sync()
        begun = time.perf_counter()
        done = subprocess.run(["/bin/sh", "-c", f"{send} | {receive}"], check=False)
        took = time.perf_counter() - begun
        ends.at(sandbox, "rm -r by-hand")
        if done.returncode == 0:
            return took
    raise SystemExit(f"kubectl failed {_ATTEMPTS} times")


if __name__ == "__main__":
    main()
