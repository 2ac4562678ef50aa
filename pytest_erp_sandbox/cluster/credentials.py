"""Credentials from a Kubernetes Secret, or from a folder that one is mounted in, read anew for each connection."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from ..errors import ClusterError, SettingsError
from .api import Cluster, ask

__all__ = ["KEYS", "UNIQUE_ID_KEY", "Credentials", "MountedSecret", "SecretReference", "StoredSecret"]

KEYS: Mapping[str, str] = {
    "user": "username",
    "password": "password",
    "host": "host",
    "port": "port",
    "dbname": "dbname",
}
"""Where each of libpq's parameters stands, as PostgreSQL operators name their keys."""

UNIQUE_ID_KEY = {"instance_unique_id": "instance-unique-id"}
"""What a sandbox's secret may hold beside: its ERP's own ``$dolibarr_main_instance_unique_id``."""

_NEEDED = ("user", "password")

Credentials = Mapping[str, SecretStr]
"""Of what is asked for, what a secret holds."""


@dataclass(frozen=True)
class SecretReference:
    """A Secret, as ``namespace/name``."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str, setting: str) -> Self:
        """Read ``namespace/name``.

        Raises:
            SettingsError: it is something else.
        """
        namespace, _, name = text.partition("/")
        if not namespace or not name or "/" in name:
            raise SettingsError(f"{setting} is not namespace/name: {text}", hint='Write it as "erp/db-credentials".')
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class StoredSecret:
    """Credentials in a Secret that the API server is asked for each time: a rotated one is known at once.

    Attributes:
        cluster: where it is.
        reference: which one.
        keys: where each of libpq's parameters stands in it, and what else is asked for.
    """

    cluster: Cluster = field(repr=False)
    reference: SecretReference
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)

    def read(self) -> Credentials:
        """The credentials of this moment.

        Raises:
            ClusterError: the Secret is not there, may not be read, or lacks a key.
        """
        return _credentials(_stored(self.cluster, self.reference), self.keys, f"Secret {self.reference}")


@dataclass(frozen=True)
class MountedSecret:
    """Credentials in a folder, one file a key, as a mounted Secret has it; the kubelet puts a rotated one there.

    Attributes:
        folder: the mount.
        keys: where each of libpq's parameters stands in it, and what else is asked for.
    """

    folder: Path
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)

    def read(self) -> Credentials:
        """The credentials of this moment, all of one version.

        Raises:
            ClusterError: the folder or a key is not there, or cannot be read.
        """
        try:
            # The kubelet swaps ..data for another folder: all files are read from one.
            folder = (self.folder / "..data").resolve() if (self.folder / "..data").exists() else self.folder
            data = {key: _text((folder / key).read_bytes()) for key in self.keys.values() if (folder / key).exists()}
        except OSError as error:
            raise ClusterError(f"the secret mounted in {self.folder} cannot be read: {error.strerror}") from None
        return _credentials(data, self.keys, f"the secret mounted in {self.folder}")


def _stored(cluster: Cluster, at: SecretReference) -> dict[str, SecretStr]:
    doing = f"reading Secret {at} (verb get)"
    secret = ask(cluster.core.read_namespaced_secret, at.name, at.namespace, doing=doing)
    return {key: _text(base64.b64decode(value)) for key, value in (secret.data or {}).items()}


def _text(value: bytes) -> SecretStr:
    # Files made by hand, and Secrets made of them, end with a line feed, which no password is meant to have.
    return SecretStr(value.decode(errors="replace").rstrip("\r\n"))


def _credentials(data: Mapping[str, SecretStr], keys: Mapping[str, str], where: str) -> Credentials:
    said = {parameter: data[key] for parameter, key in keys.items() if key in data and data[key].get_secret_value()}
    missing = [keys[parameter] for parameter in _NEEDED if parameter in keys and parameter not in said]
    if missing:
        raise ClusterError(
            f"{where} has no {' and no '.join(missing)}",
            hint=f"It has {', '.join(sorted(data)) or 'no keys'}; say with secret-keys which is which.",
        )
    return said
