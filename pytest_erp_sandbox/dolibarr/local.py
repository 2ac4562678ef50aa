"""A Dolibarr on this machine: PHP's own server in front of one sandbox, with a configuration of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path

from pydantic import SecretStr

from ..errors import AgentError
from ..postgres.connection import SandboxConnection, SandboxDatabase, role_option
from .documents import LocalDocuments
from .version import dolibarr_version

__all__ = ["LocalDolibarr", "servable", "unique_id_of"]

WORKERS = 4
"""Requests that are served at once."""

_PATIENCE = 20.0
"""Seconds that PHP has for listening, and later for ending."""

_TRIES = 5
"""Ports that are tried: one that was free may be taken by the time PHP asks for it."""

_NEEDED_EXTENSIONS = ("curl", "intl", "json", "mbstring", "pgsql", "session", "xml")

_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PHPRC", "PHP_INI_SCAN_DIR")
"""What of ours PHP may see: nothing of prod."""

_LAST_LINES = 15
_CHATTER = re.compile(
    r"\] \S+:\d+ (Accepted|Clos|\[\d+\]:)|Development Server .* started|PHP (Warning|Notice|Deprecated):"
)


def unique_id_of(dsn: SecretStr) -> SecretStr:
    """The instance's unique id of the Dolibarr in front of a sandbox, which is nobody else's; always the same."""
    return SecretStr(hashlib.sha256(f"erp-sandbox {dsn.get_secret_value()}".encode()).hexdigest()[:32])


def servable(htdocs: Path) -> str:
    """What would be served from a folder, and by what, without anything being started.

    Raises:
        AgentError: there is no Dolibarr in it, or no PHP here that could serve it.
    """
    php = _php()
    return f"Dolibarr {_version_of(htdocs, php)}, served by {php}"


class LocalDolibarr:
    """A Dolibarr in front of one sandbox; ends with ``stop``, or with this process, even if that is killed.

    The tree is served as it is, and nothing is written into it: PHP finds our ``conf/conf.php`` before the tree's.

    Args:
        htdocs: a Dolibarr's ``htdocs``.
        database: the sandbox's.
        unique_id: the instance's unique id.
        documents: a folder of documents that it begins with; it gets a copy, and the folder is only ever read.

    Raises:
        AgentError: there is no Dolibarr, or no PHP that could serve it.
        PostgresError: the sandbox cannot be reached.
    """

    def __init__(
        self, htdocs: Path, database: SandboxDatabase, unique_id: SecretStr, documents: Path | None = None
    ) -> None:
        self._htdocs = htdocs.resolve()
        self._php = _php()
        self._version = _version_of(self._htdocs, self._php)
        self._database = database
        self._unique_id = unique_id
        self._given = documents
        self._documents: LocalDocuments | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._said = ""
        self.url = ""

    def start(self) -> None:
        """Serve it on a free port of the loopback interface, and wait until PHP listens; ``url`` says where.

        Raises:
            AgentError: PHP does not come to listen, and the message has the last lines that it said; or the documents
                cannot be copied.
        """
        with ExitStack() as stack:
            stack.callback(self.stop)
            for _ in range(_TRIES):
                self._start_on(_free_port())
                # PHP runs already: with it the folder goes, should we be killed.
                self._documents = LocalDocuments(self._folder / "documents", self._given)
                if self._listens():
                    stack.pop_all()
                    return
                self.stop()
        raise AgentError(f"PHP does not serve {self._htdocs}{self.last_words()}", hint="Try it: php -S 127.0.0.1:8080")

    @property
    def is_up(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    def check_version(self, connection: SandboxConnection) -> None:
        """Compare the tree's version with that of the sandbox's rows.

        Raises:
            AgentError: they are of different major versions.
        """
        of_rows = dolibarr_version(connection)
        if of_rows.major != int(self._version.partition(".")[0]):
            raise AgentError(
                f"{self._htdocs} is a Dolibarr {self._version}, and prod's copy is of {of_rows}",
                hint="Set sandbox.erp.htdocs to a tree of prod's version.",
            )

    def put_documents_back(self) -> None:
        """Put its documents back to what they were when it was started.

        Raises:
            AgentError: they are not what they were.
        """
        if self._documents is not None:
            self._documents.put_back()

    def last_words(self) -> str:
        """The last lines that PHP said, other than requests and warnings, to end a message with; empty without any."""
        with suppress(OSError):
            self._said = (self._folder / "php.log").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in self._said.splitlines() if not _CHATTER.search(line)][-_LAST_LINES:]
        return "".join(f"\n  {line}" for line in ["PHP said:", *lines]) if lines else ""

    def stop(self) -> None:
        """End it, and remove its documents and sessions; harmless if it has ended."""
        self.last_words()
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_on(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder = Path(tempfile.mkdtemp(prefix="erp-sandbox-dolibarr-"))
        for each in ("htdocs/conf", "sessions"):
            (folder / each).mkdir(parents=True)
        (folder / "htdocs" / "conf" / "conf.php").write_bytes(_resource("local_conf.php"))
        (folder / "prepend.php").write_bytes(_resource("local_prepend.php"))
        options = {
            # A relative include, which conf/conf.php is, is looked for here first; pages derive it from DOCUMENT_ROOT.
            "include_path": f"{folder / 'htdocs'}:.",
            "auto_prepend_file": folder / "prepend.php",
            "session.save_path": folder / "sessions",
            "log_errors": 1,
            "display_errors": 0,
            # Beside the quarantine, which keeps Dolibarr from trying.
            "sendmail_path": "/bin/false",
        }
        command = [
            *("sh", "-c", _resource("local_serve.sh").decode(), "erp-sandbox", str(folder), str(self._php)),
            *(word for name, value in options.items() for word in ("-d", f"{name}={value}")),
            *("-S", f"127.0.0.1:{port}", "-t", str(self._htdocs)),
        ]
        with (folder / "php.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=self._environment(),
                process_group=0,
            )

    def _environment(self) -> Mapping[str, str]:
        """Where the sandbox is and how to log in, as libpq's environment has it, whatever it came from."""
        with self._database.connect() as connection:
            libpq = {
                option.envvar.decode(): option.val.decode()
                for option in connection.pgconn.info
                if option.envvar is not None and option.val and option.val != option.compiled
            }
        kept = {name: value for name in _KEPT_ENVIRONMENT if (value := os.environ.get(name)) is not None}
        return {
            **kept,
            **libpq,
            # What Dolibarr makes must belong to the role; and no lease may take its sessions for its own.
            "PGOPTIONS": f"{self._database.options()} {role_option(self._database.role)}".strip(),
            "PGAPPNAME": "dolibarr",
            "PHP_CLI_SERVER_WORKERS": str(WORKERS),
            "ERP_SANDBOX_URL": self.url,
            "ERP_SANDBOX_HTDOCS": str(self._htdocs),
            "ERP_SANDBOX_FOLDER": str(self._folder),
            "ERP_SANDBOX_UNIQUE_ID": self._unique_id.get_secret_value(),
        }

    def _listens(self) -> bool:
        """Wait until PHP takes connections; whether it ever does."""
        port = int(self.url.rpartition(":")[2])
        deadline = time.monotonic() + _PATIENCE
        while self.is_up and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            time.sleep(0.02)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# What it has for pages that only want to know its version, which it puts together of several files from 23 on.
_TELL_VERSION = "define('DOL_INC_FOR_VERSION_ERROR', '1'); require 'filefunc.inc.php'; echo DOL_VERSION;"


def _version_of(htdocs: Path, php: Path) -> str:
    """The version of the Dolibarr there, whose configuration can be another than its own."""
    try:
        code = (htdocs / "filefunc.inc.php").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise AgentError(
            f"there is no Dolibarr in {htdocs} (sandbox.erp.htdocs): {error.strerror}: filefunc.inc.php",
            hint="It is the folder htdocs of Dolibarr's sources.",
        ) from None
    told = subprocess.run([php, "-n", "-r", _TELL_VERSION], cwd=htdocs, capture_output=True, text=True, check=False)
    version = told.stdout.strip()
    if told.returncode or re.fullmatch(r"\d+\.\d\S*", version) is None:
        raise AgentError(
            f"{htdocs} (sandbox.erp.htdocs) does not say which Dolibarr it is: {(told.stdout + told.stderr).strip()}"
        )
    if re.search(r"""^\s*\$conffile *= *["']conf/conf\.php["'];""", code, re.MULTILINE) is None:
        raise AgentError(
            f"the Dolibarr in {htdocs} (sandbox.erp.htdocs) takes its configuration from a fixed place",
            hint="Use Dolibarr's own sources, not a distribution's package.",
        )
    return version


def _php() -> Path:
    """The PHP on PATH, with what Dolibarr needs of it."""
    found = shutil.which("php")
    if found is None:
        raise AgentError(
            "there is no PHP here to serve sandbox.erp.htdocs",
            hint="Install it: apt install php-cli php-pgsql php-curl php-gd php-intl php-mbstring php-xml php-zip",
        )
    listed = subprocess.run([found, "-m"], capture_output=True, text=True, check=False).stdout.lower().split()
    missing = [name for name in _NEEDED_EXTENSIONS if name not in listed]
    if missing:
        raise AgentError(
            f"{found} has no {', '.join(missing)}, which Dolibarr needs",
            hint=f"Install it: apt install {' '.join(f'php-{name}' for name in missing)}",
        )
    return Path(found)


def _resource(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
