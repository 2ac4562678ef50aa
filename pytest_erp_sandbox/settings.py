"""What may be set: the tables of ``[tool.erp-sandbox]``, validated and frozen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .dolibarr.parts import PARTS, Part
from .errors import SettingsError

if TYPE_CHECKING:
    from .postgres.connection import Address, Login, ProdDatabase, SandboxDatabase
else:
    Address = Any
    Login = Any

__all__ = [
    "AgentSettings",
    "ChangesSettings",
    "ClusterSettings",
    "DocumentsSettings",
    "ErpSettings",
    "GoldenSettings",
    "ProdSettings",
    "SandboxSettings",
    "Settings",
    "Table",
    "absolute",
]

PREFIX = "ERP_SANDBOX_"

_UNITS = {"ms": "milliseconds", "s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


def absolute(path: Path, folder: Path) -> Path:
    """Where a path leads to that was written in ``folder``; ``~`` is a home.

    Raises:
        SettingsError: it is the home of nobody who is known here.
    """
    try:
        return folder / path.expanduser()
    except RuntimeError:
        raise SettingsError(f"{path}: there is no such home folder") from None


def _duration(value: object) -> object:
    """Read ``90s``, ``15min``, ``24h``, ``7d``, as PostgreSQL's own settings are written."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*", value)
        if match is None:
            raise ValueError("a duration is a number and a unit: ms, s, min, h or d, such as 24h")
        try:
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError:
            raise ValueError("that is longer than time is counted here") from None
    if isinstance(value, int | float):
        raise ValueError('a duration needs a unit: ms, s, min, h or d, such as "24h"')  # noqa: TRY004 - pydantic's way
    return value


def _parts(value: object) -> object:
    """Read ``true``, ``false``, or names of parts: a list, or as an option has them, ``mail,cron``."""
    if value in (True, "true"):
        return PARTS
    if value in (False, "false"):
        return ()
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if isinstance(value, list | tuple) and (unknown := [each for each in value if each not in PARTS]):
        raise ValueError(
            f"{', '.join(map(repr, unknown))}: no part of the quarantine; it is true, false, or some of"
            f" {', '.join(PARTS)}"
        )
    return value


def _files(value: object) -> object:
    """Read one file or a list of them; a variable has either a name, or a list as JSON."""
    if isinstance(value, str) and value.startswith("["):
        value = json.loads(value)
    files = [value] if isinstance(value, str | Path) else value
    if isinstance(files, list | tuple):
        for file in files:
            if Path(str(file)).suffix.lower() not in (".html", ".json"):
                raise ValueError(f"{str(file)!r}: a report is a file .html or .json")
    return files


Files = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_files)]
Quarantine = Annotated[tuple[Part, ...], BeforeValidator(_parts)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]


_HARMLESS = ("PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables that any program may need, and that hold no secrets."""


class Table(BaseModel):
    """A table of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClusterSettings(Table):
    """The Kubernetes cluster, where settings name anything in one."""

    kubeconfig: Path | None = None
    """Else what ``KUBECONFIG`` names, ``~/.kube/config``, or, in a pod, its service account."""
    context: str | None = None
    """One of the kubeconfig's contexts, in place of its current one."""


class _DatabaseSettings(Table):
    """Where a database is, and how to log in."""

    dsn: SecretStr | None = None
    """Where it is, and how to log in: whatever libpq takes. What a secret says is added to it, and wins."""
    secret: str | None = None
    """A Kubernetes Secret with user and password, ``namespace/name``, read anew for each connection."""
    credentials: Path | None = None
    """A folder that such a Secret is mounted in, read anew for each connection."""
    secret_keys: dict[Literal["user", "password", "host", "port", "dbname", "instance_unique_id"], str] = {}
    """The keys that user, password, host, port and dbname have in the Secret, such as ``{ user = "login" }``; else
    ``username``, ``password``, ``host``, ``port``, ``dbname``; a sandbox's may have ``instance-unique-id``, too."""
    namespace: str | None = None
    """The Kubernetes namespace of what belongs to it: of ``forward``, of workloads."""
    forward: str | None = None
    """A Deployment or StatefulSet of the database, to which a port is forwarded where its host does not answer:
    ``statefulset/name``."""
    forward_port: int = 5432
    """The port of its pods."""
    _login: Login | None = PrivateAttr(default=None)
    _at: str | None = PrivateAttr(default=None)
    _address: Address | None = PrivateAttr(default=None)
    _is_direct: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.secret is not None and self.credentials is not None:
            raise ValueError("give either secret or credentials, not both")
        if self.forward is not None and self.namespace is None:
            raise ValueError("forward needs namespace, too")
        return self

    @property
    def is_somewhere(self) -> bool:
        """Whether it is said where a server is."""
        return not (self.dsn is None and self.secret is None and self.credentials is None)

    @property
    def needs_forward(self) -> bool:
        """Whether a port-forward leads to it, as far as is known: a host that answers makes one needless."""
        return self.forward is not None and not self._is_direct

    def reached(self, dsn: SecretStr, login: Login | None, at: str | None, address: Address | None) -> Self:
        """The same, with a complete DSN.

        Args:
            dsn: leads there, from here.
            login: gives the credentials of the moment.
            at: what to call the place that a port-forward leads to; None without one.
            address: that place's own.
        """
        copy = self.model_copy(update={"dsn": dsn})
        copy._login, copy._at, copy._address, copy._is_direct = login, at, address, at is None
        return copy


class DocumentsSettings(Table):
    """Documents in an ERP's pod."""

    workload: str | None = None
    """The ERP's Deployment or StatefulSet; of a sandbox, by default ``erp.workload``."""
    path: str = "/var/www/documents"
    """Dolibarr's data root in the pod."""
    folders: tuple[str, ...] = ("mycompany",)
    """Of a sandbox: the folders that are replaced by prod's."""
    reset: bool = False
    """Of a sandbox: put files that a rehearsal adds, changes or removes back before the next; takes room for a copy."""
    container: str | None = None
    """Which of the pod's containers, where it has several."""


class ProdSettings(_DatabaseSettings):
    """Where the truth is; only ever read; with a login that should only be able to (``deploy/dump-role.sql``)."""

    dump: Path | None = None
    """An existing custom- or directory-format dump, in place of a live prod."""
    require_read_only_role: bool = False
    """Refuse to start when prod's login could write (otherwise a warning)."""
    lock_wait_timeout: Duration = timedelta(seconds=5)
    """How long a dump may wait for a lock on prod, while others queue behind it."""
    dump_timeout: Duration = timedelta(minutes=30)
    """How long a dump may take, and so hold its locks."""
    jobs: int = Field(default=1, ge=1)
    """Connections that a dump uses."""
    documents: DocumentsSettings | None = None
    """Where prod's files are; only ever read."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.is_somewhere and self.dump is not None:
            raise ValueError("give either dsn (or secret) or dump, not both")
        if "instance_unique_id" in self.secret_keys:
            raise ValueError("secret-keys: prod's own instance-unique-id is never read, only a sandbox's")
        return self

    def database(self) -> ProdDatabase | None:
        """Prod's database, if there is a live one."""
        from .postgres.connection import ProdDatabase, milliseconds

        if self.dsn is None:
            return None
        return ProdDatabase(
            self.dsn,
            "prod.dsn",
            lock_timeout=f"{milliseconds(self.lock_wait_timeout)}ms",
            login=self._login,
            at=self._at,
            address=self._address,
        )


class ErpSettings(Table):
    """The ERP in front of a sandbox."""

    url: str | None = None
    """Its base URL, to which ``/api/index.php`` is added."""
    instance_unique_id: SecretStr | None = None
    """The sandbox ERP's own ``$dolibarr_main_instance_unique_id``; needed from Dolibarr 18 on, as it encrypts keys. By
    default what the sandbox's Secret has as ``instance-unique-id``, if it has."""
    htdocs: Path | None = None
    """A Dolibarr's ``htdocs``, which is served here, in front of the sandbox, in place of an ERP with a ``url``."""
    documents: Path | None = None
    """With ``htdocs``: a folder of documents, only ever read, of which each scenario finds a copy in the ERP."""
    workload: str | None = None
    """Its Deployment or StatefulSet, which a refresh scales to 0: ``deployment/name``; in the sandbox's namespace."""
    scale_per_scenario: bool = False
    """Scale it to 0 for each restore, too; a rewind lets it be."""

    @model_validator(mode="after")
    def _an_http_url(self) -> Self:
        if self.url is not None and not re.match(r"https?://[^/]+", self.url):
            raise ValueError("url must begin with http:// or https://")
        if self.htdocs is not None and (self.url is not None or self.workload is not None):
            raise ValueError("htdocs is served here: give either it, or url and workload")
        if self.documents is not None and self.htdocs is None:
            raise ValueError("documents are those of an ERP that is served here: they need htdocs, too")
        return self


class SandboxSettings(_DatabaseSettings):
    """A sandbox: its database, with a login that is a member of ``role``, and the ERP in front of it.

    Several are a ``[[tool.erp-sandbox.sandboxes]]`` each.
    """

    name: str = "sandbox"
    """What messages call it; each of several needs a name of its own."""
    embedded: bool = False
    """Let the database be on an embedded PostgreSQL (the extra ``demo``), in place of ``dsn`` and ``role``."""
    role: str = "erp_sandbox_role"
    """The role that owns the database and everything in it."""
    may_lose: tuple[str, ...] = ()
    """What a wipe may take although no restore gives it back (as named by the refusal; ``*`` matches)."""
    leave_out: tuple[str, ...] = ()
    """Objects of the golden dump that are never restored (``schema.name``; ``*`` matches)."""
    lock_timeout: Duration = timedelta(seconds=10)
    """How long a wipe waits for the application's open transactions."""
    erp: ErpSettings = ErpSettings()
    documents: DocumentsSettings | None = None
    """Where the files of the sandbox's ERP are; ``{}`` is enough where ``erp.workload`` is set."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.is_somewhere == self.embedded:
            raise ValueError("say where the sandbox is: dsn, secret or credentials, or else embedded = true")
        if self.erp.workload is not None and self.namespace is None:
            raise ValueError("erp.workload needs namespace, too")
        return self

    def database(self) -> SandboxDatabase:
        """The sandbox's database."""
        from .postgres.connection import SandboxDatabase

        dsn = self.dsn or SecretStr("")
        return SandboxDatabase(
            dsn, f"{self.name}.dsn", role=self.role, may_lose=self.may_lose, login=self._login, at=self._at
        )


class GoldenSettings(Table):
    """The cache of golden dumps."""

    path: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "erp-sandbox"
    )
    """The folder, made if it is not there; in a cluster a PVC's mount."""
    max_age: Duration = timedelta(hours=24)
    """How old a golden dump may be for ``refresh = "auto"`` to use it again."""
    keep: int = Field(default=2, ge=1)
    """How many golden dumps of each prod are kept."""
    prepare: tuple[Path, ...] = ()
    """SQL files that are run in the sandbox, in one transaction, before the golden dump is made of it."""
    claim: str | None = None
    """From outside of a cluster: a PVC that they are kept on, too, for all."""
    namespace: str | None = None
    """The claim's; by default the first sandbox's."""
    image: str = "postgres:17"
    """Of the pod that mounts the claim for that: with tar, flock and timeout, and PostgreSQL's clients of prod's
    version and the sandbox's."""
    dump_there: bool = True
    """Let that pod dump prod, and restore that dump, where it can. For that, each run that may refresh gives it prod's
    login, by a Secret of the sandbox's namespace that is there while the pod starts."""
    user: int = 10001
    """The uid and gid that the pod runs as."""

    @property
    def claim_elsewhere(self) -> str | None:
        """The claim, unless we are in a pod that has it mounted: then the cache is on it, and nothing is to be done."""
        is_mounted = "KUBERNETES_SERVICE_HOST" in os.environ and self.path.is_mount()
        return None if is_mounted else self.claim


class AgentSettings(Table):
    """The sandbox-local user that the AI agent works as."""

    login: str = Field(default="ai_agent_sandbox", min_length=1, max_length=50)
    """The login of the ERP's user, who is made by each reset."""
    rights: tuple[str, ...] = ()
    """Dolibarr rights, ``module.perms`` or ``module.perms.subperms``; ``*`` matches."""
    entity: int = Field(default=1, ge=1)
    """The company (entity) that the agent belongs to."""
    command: tuple[str, ...] = ()
    """The agent's program and its arguments; ``{project}`` stands for the folder of the settings' file."""
    timeout: Duration = timedelta(minutes=5)
    """How long its process may take to answer."""
    environment: tuple[str, ...] = ()
    """Names of environment variables that it gets beside a few harmless ones; their values count as secrets."""

    @model_validator(mode="after")
    def _keeps_our_own(self) -> Self:
        if ours := [name for name in self.environment if name.upper().startswith(PREFIX)]:
            raise ValueError(f"{', '.join(ours)}: settings of this plugin's are nothing for the agent")
        return self

    def identity(self) -> str:
        """What the ERP's user is made of: it is another one where this differs."""
        return self.model_dump_json(include={"login", "rights", "entity"})

    def inherited(self) -> dict[str, str]:
        """The environment variables of this process that the agent's gets: those named, and a few without secrets."""
        named = {*_HARMLESS, *self.environment}
        return {name: value for name, value in os.environ.items() if name in named or name.startswith("LC_")}

    def secrets(self) -> Iterator[SecretStr]:
        """What the variables hold that were named; a home folder is in many paths, and none."""
        yield from (SecretStr(os.environ[name]) for name in self.environment if name in os.environ and name != "HOME")

    def located(self, folder: Path) -> Self:
        """The same, with ``folder`` in the command."""
        command = [part.replace("{project}", str(folder)) for part in self.command]
        if command and "/" in command[0]:
            command[0] = str(absolute(Path(command[0]), folder))
        return self.model_copy(update={"command": tuple(command)})


class ChangesSettings(Table):
    """What is shown of a rehearsal's changes."""

    redact: tuple[str, ...] = ("llx_user.pass*", "*.pass_crypted", "*.password", "*.api_key", "llx_oauth_token.*")
    """Columns (``table.column``; ``*`` matches) of which only is said that they were changed. Constants (``llx_const``)
    whose names say password (pass, pw), key, token, secret or signature are always among them, and so are values that
    Dolibarr encrypted."""
    ignore: tuple[str, ...] = (
        "*.tms",
        "llx_actioncomm[fk_action=40]",
        "llx_actioncomm_resources",
        "llx_ecm_files[gen_or_uploaded=generated]",
    )
    """Columns (``table.column``), tables (``table``) and rows (``table[column=value]``) whose changes are of no
    interest; ``*`` matches. By default: times of a row's last change, and what Dolibarr writes by itself: its log of
    events, who takes part in them, and the index of the files that it makes."""


class Settings(BaseSettings):
    """Everything that this plugin may be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    reset: Literal["scenario", "session", "never"] = "scenario"
    """When a sandbox is put back: before each scenario, once a session, or never."""
    strategy: Literal["restore", "rewind"] = "restore"
    """How a sandbox is put back: by restoring the golden dump, or by undoing what was changed since that was done."""
    journal: bool = False
    """Journal what is changed, so that it can be shown; ``strategy = "rewind"`` always does."""
    verify: bool = False
    """After each rewind, compare all of the sandbox with the baseline, by other code than the rewind's."""
    refresh: Literal["auto", "always", "never"] = "auto"
    """When prod is copied anew: when the golden dump is too old, each run, or never, which needs no prod."""
    quarantine: Quarantine = PARTS
    """What of prod's copy is kept from the outside world: all (``true``), nothing (``false``), or these parts."""
    strict: bool = False
    """Refuse to start where prod could be changed: by this account in the cluster, by prod's login (else a warning)."""
    demo: bool = False
    """Use an embedded demo in place of a prod and a sandbox of one's own."""
    keep_failed: bool = False
    """Leave a failed scenario's sandbox as it is: no later scenario of the run resets it."""
    programs: Path | None = None
    """A folder with pg_dump, pg_restore and psql, before PATH, the distribution's folders and the embedded wheel."""
    jobs: int | None = Field(default=None, ge=1)
    """Connections that a restore uses. By default as many as there are processors here, from 2 to 4: with more of them
    the largest table takes longer, for which the rest then waits. A large server elsewhere may gain by more."""
    lease_timeout: Duration = timedelta(minutes=30)
    """How long a scenario waits for a sandbox that is in use."""
    report: Files = ()
    """Where a report of the run is written: a file ``.html``, to be read, or ``.json``, as data; or several."""
    trials: int = Field(default=1, ge=1)
    """How often each scenario that asks an agent is run."""
    trials_required: float = Field(default=1, gt=0, le=1)
    """How many of a scenario's trials have to pass, as a rate, for it to pass as a whole."""
    prod: ProdSettings = ProdSettings()
    sandbox: SandboxSettings | None = None
    sandboxes: tuple[SandboxSettings, ...] = ()
    golden: GoldenSettings = GoldenSettings()
    cluster: ClusterSettings = ClusterSettings()
    agent: AgentSettings = AgentSettings()
    changes: ChangesSettings = ChangesSettings()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.trials > 1 and self.reset != "scenario":
            raise ValueError('trials begin at the golden state each: they need reset = "scenario"')
        if self.demo:
            return self
        if (self.sandbox is None) == (not self.sandboxes):
            raise ValueError("say where the sandbox is: either [sandbox] with a dsn, or several [[sandboxes]]")
        names = [sandbox.name for sandbox in self.all_sandboxes]
        if len(set(names)) < len(names):
            raise ValueError("each of the sandboxes needs a name of its own")
        if any(sandbox.embedded for sandbox in self.sandboxes):
            raise ValueError("the embedded server has one sandbox, and several are named: give it as [sandbox]")
        if self.golden.claim is not None and self.claim_namespace is None:
            raise ValueError("golden.claim needs the sandbox's namespace, or golden.namespace, too")
        if self.refresh != "never" and not self.prod.is_somewhere and self.prod.dump is None:
            raise ValueError('say where prod is: prod.dsn or prod.dump (not needed with refresh = "never")')
        return self

    @property
    def all_sandboxes(self) -> tuple[SandboxSettings, ...]:
        """The sandboxes, one or several."""
        return self.sandboxes or ((self.sandbox,) if self.sandbox else ())

    @property
    def claim_namespace(self) -> str | None:
        """The namespace of the golden dumps' claim."""
        return self.golden.namespace or self.all_sandboxes[0].namespace

    @property
    def may_dump_there(self) -> bool:
        """Whether prod would be dumped in a toolbox, where a new golden dump is made."""
        has_toolbox = self.golden.dump_there and self.golden.claim_elsewhere is not None
        return has_toolbox and self.refresh != "never" and self.prod.is_somewhere

    @property
    def connections(self) -> int:
        """How many connections a restore uses: ``jobs``, or its default."""
        return self.jobs or min(4, max(2, os.cpu_count() or 2))

    @property
    def journals(self) -> bool:
        """Whether what a rehearsal changes is journalled."""
        return self.journal or self.strategy == "rewind"

    def secrets(self) -> Iterator[SecretStr]:
        """Every secret that the settings hold, or libpq takes from the environment, for redaction."""
        for database in (self.prod.database(), *(sandbox.database() for sandbox in self.all_sandboxes)):
            if database is not None and database.password is not None:
                yield database.password
        for erp in (sandbox.erp for sandbox in self.all_sandboxes):
            if erp.instance_unique_id is not None:
                yield erp.instance_unique_id
            if erp.url is not None and (password := urlsplit(erp.url).password):
                yield from (SecretStr(password), SecretStr(unquote(password)))
        yield from self.agent.secrets()
        if "PGPASSWORD" in os.environ:
            yield SecretStr(os.environ["PGPASSWORD"])
