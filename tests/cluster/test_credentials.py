"""Credentials from Secrets, stored and mounted."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_erp_sandbox import ClusterError, SettingsError
from pytest_erp_sandbox.cluster.api import connect_cluster
from pytest_erp_sandbox.cluster.credentials import KEYS, Credentials, MountedSecret, SecretReference, StoredSecret

from .kubernetes import Kubernetes


def revealed(credentials: Credentials) -> dict[str, str]:
    return {parameter: value.get_secret_value() for parameter, value in credentials.items()}


def test_a_secret_gives_what_libpq_needs_under_the_names_that_operators_use(kubernetes: Kubernetes) -> None:
    kubernetes.secret(
        kubernetes.prod,
        "whole",
        {"username": "dumper", "password": "geheim ü'\\", "host": "db", "port": "5433", "dbname": "erp", "other": "x"},
    )
    secret = StoredSecret(kubernetes.cluster, SecretReference(kubernetes.prod, "whole"))
    assert revealed(secret.read()) == {
        "user": "dumper",
        "password": "geheim ü'\\",
        "host": "db",
        "port": "5433",
        "dbname": "erp",
    }


def test_keys_can_be_named_otherwise(kubernetes: Kubernetes) -> None:
    kubernetes.secret(kubernetes.prod, "own-keys", {"POSTGRES_USER": "dumper", "POSTGRES_PASSWORD": "geheim\n"})
    keys = {**KEYS, "user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD"}
    secret = StoredSecret(kubernetes.cluster, SecretReference(kubernetes.prod, "own-keys"), keys)
    assert revealed(secret.read()) == {"user": "dumper", "password": "geheim"}


def test_a_rotated_secret_is_read_anew(kubernetes: Kubernetes) -> None:
    kubernetes.secret(kubernetes.prod, "rotating", {"username": "v-1", "password": "first"})
    secret = StoredSecret(kubernetes.cluster, SecretReference(kubernetes.prod, "rotating"))
    assert revealed(secret.read()) == {"user": "v-1", "password": "first"}
    kubernetes.cluster.core.patch_namespaced_secret(
        "rotating", kubernetes.prod, {"stringData": {"username": "v-2", "password": "second"}}
    )
    assert revealed(secret.read()) == {"user": "v-2", "password": "second"}


def test_a_secret_that_lacks_a_key_is_named_with_the_keys_that_it_has(kubernetes: Kubernetes) -> None:
    # Not as it stands in any line of a traceback.
    kubernetes.secret(kubernetes.prod, "lacking", {"user": "dumper", "password": "-".join(["geheim", "lacking"])})
    secret = StoredSecret(kubernetes.cluster, SecretReference(kubernetes.prod, "lacking"))
    with pytest.raises(ClusterError, match=rf"{kubernetes.prod}/lacking has no username\n.*password, user") as failure:
        secret.read()
    assert "geheim-lacking" not in f"{failure.value} {failure.getrepr(showlocals=True)}"


def test_a_secret_that_is_not_there_is_named(kubernetes: Kubernetes) -> None:
    with pytest.raises(ClusterError, match='secrets "missing" not found') as failure:
        StoredSecret(kubernetes.cluster, SecretReference(kubernetes.prod, "missing")).read()
    assert failure.value.status == 404


def test_a_mounted_secret_is_read_anew_and_from_one_version(tmp_path: Path) -> None:
    def rotate(version: str) -> None:
        # As the kubelet does it: a folder for each version, and ..data swapped.
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        for key in ("username", "password"):
            (folder / key).write_text(f"{key}-{version}")
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    rotate("1")
    for key in ("username", "password"):
        (tmp_path / key).symlink_to(f"..data/{key}")
    secret = MountedSecret(tmp_path)
    assert revealed(secret.read()) == {"user": "username-1", "password": "password-1"}
    rotate("2")
    assert revealed(secret.read()) == {"user": "username-2", "password": "password-2"}


def test_a_mounted_secret_without_a_password_is_named(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("dumper")
    with pytest.raises(ClusterError, match=f"mounted in {tmp_path} has no password"):
        MountedSecret(tmp_path).read()


def test_no_repr_shows_a_value(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("dumper")
    (tmp_path / "password").write_text("geheim-repr")
    secret = MountedSecret(tmp_path)
    assert "geheim-repr" not in f"{secret!r} {secret.read()!r} {secret.read()}"
    assert b"geheim-repr" not in pickle.dumps(secret)


@pytest.mark.parametrize("text", ["db-credentials", "erp/", "/db", "a/b/c", ""])
def test_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"prod\.secret is not namespace/name"):
        SecretReference.parse(text, "prod.secret")


def test_without_a_kubeconfig_and_outside_of_a_pod_both_ways_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no way to a Kubernetes cluster.*\n.*KUBECONFIG.*service account"):
        connect_cluster(tmp_path / "missing")


def test_the_kubeconfig_is_any_of_those_that_the_environment_names(tmp_path: Path) -> None:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://cluster.example"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "real").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    code = "from pytest_erp_sandbox.cluster.api import connect_cluster; print(connect_cluster())"
    named = os.pathsep.join([str(tmp_path / "missing"), "", str(tmp_path / "real")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KUBECONFIG": named},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "https://cluster.example\n"), done.stderr
