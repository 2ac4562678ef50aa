"""A Dolibarr that is served here: a real one where there is one, and what can go wrong with any."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.dolibarr.local import LocalDolibarr, servable
from pytest_erp_sandbox.errors import AgentError
from pytest_erp_sandbox.golden import Golden
from pytest_erp_sandbox.preflight import Finding, Status
from pytest_erp_sandbox.preflight.erps import erp_findings
from pytest_erp_sandbox.sandbox import Sandbox
from pytest_erp_sandbox.settings import Settings

from ..postgres.fingerprint import fingerprint
from ..postgres.pairs import Side, eventually, make_sandbox
from ..runs import Runs
from ..servers import run
from .real import PROD_KEY, RealDolibarr, real_dolibarr

FEATURES = Path(__file__).parents[2] / "features"

needs_php = pytest.mark.skipif(shutil.which("php") is None, reason="needs PHP")


@pytest.fixture(scope="module")
def real() -> Iterator[RealDolibarr]:
    with real_dolibarr() as dolibarr:
        yield dolibarr


@pytest.fixture(scope="module")
def runs(real: RealDolibarr, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("real")
    return Runs(folder / "project", real.settings(folder / "cache"))


@pytest.fixture(scope="module")
def golden(runs: Runs) -> Golden:
    return runs.golden()


def created(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    return int(response.json())


def rehearse(sandbox: Sandbox) -> str:
    """A third party, a product, an invoice, validated and paid; deletes of prod's. Returns the invoice's reference."""
    with sandbox.api() as api:
        assert api.get("status").json()["success"]["dolibarr_version"]
        customer = created(api.post("thirdparties", json={"name": "Chez Gwenaëlle", "client": 1, "code_client": -1}))
        product = created(api.post("products", json={"ref": "GALETTE", "label": "Galette", "price": 6.9, "type": 0}))
        lines = [
            {"fk_product": product, "qty": 40, "subprice": 6.9, "tva_tx": 5.5},
            {"desc": "Livraison", "qty": 1, "subprice": 12, "tva_tx": 20, "product_type": 1},
        ]
        invoice = created(api.post("invoices", json={"socid": customer, "date": "2026-06-15", "lines": lines}))
        answer = api.post(f"invoices/{invoice}/validate", json={})
        assert answer.status_code == 200, answer.text
        assert answer.json()["ref"].startswith("FA")
        assert float(answer.json()["total_ht"]) == 288
        # Not invoices/…/payments, whose dates 20.0.0 cannot read.
        amounts = {str(invoice): {"amount": "remain", "multicurrency_amount": ""}}
        cash = {"datepaye": 1781913600, "paymentid": 4, "closepaidinvoices": "yes", "accountid": 1}
        created(api.post("invoices/paymentsdistributed", json={"arrayofamounts": amounts, **cash}))
        assert api.get(f"invoices/{invoice}").json()["paye"] == "1"
        for gone in ("invoices/6", "thirdparties/6"):
            assert api.delete(gone).status_code == 200
            assert api.get(gone).status_code == 404
        return str(answer.json()["ref"])


class TestARealDolibarr:
    def test_takes_what_the_agent_may_do_and_refuses_all_else(self, runs: Runs, golden: Golden) -> None:
        with closing(runs.pool()) as pool, pool.rehearsal(golden) as sandbox:
            rehearse(sandbox)
            with sandbox.api() as api:
                version = api.get("status").json()["success"]["dolibarr_version"]
                # 19 says 401 here, too.
                refused = 401 if int(version.partition(".")[0]) <= 19 else 403
                assert api.post("users", json={"login": "mallory", "lastname": "M"}).status_code == refused
                assert api.get("thirdparties", headers={"DOLAPIKEY": PROD_KEY}).status_code == 401
            url = sandbox.url
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)

    @pytest.mark.parametrize("strategy", ["restore", "rewind"])
    def test_is_put_back_exactly(self, runs: Runs, real: RealDolibarr, golden: Golden, strategy: str) -> None:
        with closing(runs.pool(strategy=strategy, verify=strategy == "rewind")) as pool:
            with pool.rehearsal(golden) as sandbox:
                baseline = fingerprint(real.admin)
                rehearse(sandbox)
                assert fingerprint(real.admin) != baseline
            with pool.rehearsal(golden) as sandbox:
                assert sandbox.last_reset is not None
                assert (sandbox.last_reset.strategy, sandbox.last_reset.reason) == (strategy, "")
                again = fingerprint(real.admin)
                changed = {name for name in again | baseline if again.get(name) != baseline.get(name)}
                # A restore makes a new key.
                assert changed == ({"rows of llx_user"} if strategy == "restore" else set())
                rehearse(sandbox)

    def test_is_restored_after_a_module_was_activated(
        self, runs: Runs, real: RealDolibarr, golden: Golden, tmp_path: Path
    ) -> None:
        with closing(runs.pool(strategy="rewind")) as pool:
            with pool.rehearsal(golden) as sandbox:
                baseline = fingerprint(real.admin)
                assert "table llx_webhook_target" not in " ".join(baseline)
                real.activate_in_sandbox(tmp_path, "modWebhook")
                assert fingerprint(real.admin).keys() - baseline.keys()
            with pool.rehearsal(golden) as sandbox:
                assert sandbox.last_reset is not None
                assert sandbox.last_reset.strategy == "restore"
                assert sandbox.last_reset.reason
                again = fingerprint(real.admin)
                assert {name for name in again | baseline if again.get(name) != baseline.get(name)} == {
                    "rows of llx_user"
                }

    def test_is_what_the_shipped_features_are_rehearsed_on(self, real: RealDolibarr, tmp_path: Path) -> None:
        shutil.copytree(FEATURES, tmp_path / "features")
        settings = real.settings(tmp_path / "cache", journal=True)
        settings["prod"] = {"dsn": real.only_read()}
        project = tomllib.loads((FEATURES.parent / "pyproject.toml").read_text())
        settings["agent"] = project["tool"]["erp-sandbox"]["agent"]
        Runs(tmp_path, settings)
        real.sink.mails.clear()

        def rehearsed(*arguments: str) -> str:
            command = [sys.executable, "-m", "pytest", "features", "-p", "no:cacheprovider", *arguments]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout
            return done.stdout

        assert re.search(r"3\d passed, 1 skipped", rehearsed())
        # What is written down for the demo is less than what a Dolibarr writes; restored or rewound, it is the same.
        rehearsed("--erp-sandbox-update-expected", "-k", "an_invoice_and_its_lines")
        feature = tmp_path / "features" / "changes.feature"
        feature.write_text(feature.read_text().replace("@demo_erp", ""))
        said = rehearsed("--erp-sandbox-strategy=rewind", "--erp-sandbox-verify")
        assert re.search(r"resets: \d\d by rewind .*, 1 by restore", said), said
        assert "skipped" not in said
        assert real.sink.mails == []

    def test_lists_what_prod_has_encrypted_and_the_sandbox_cannot_read(self, runs: Runs, golden: Golden) -> None:
        with closing(runs.pool()) as pool, pool.rehearsal(golden):
            pass
        output, _ = runs.start("status", "--encrypted", "--json").communicate()
        found = {each["where"]: (each["rows"], each["unreadable"]) for each in json.loads(output)["encrypted"]}
        assert found["llx_const.value GEOCODER_API_KEY (entity 1)"] == (1, 1)
        # The agent's own, the only one that is left.
        keys = [counts for where, counts in found.items() if where.startswith(("llx_user.", "llx_oauth_token."))]
        assert keys == [(1, 0)]

    def test_mails_nobody_though_prod_would(self, runs: Runs, real: RealDolibarr, golden: Golden) -> None:
        real.sink.mails.clear()
        with closing(runs.pool()) as pool, pool.rehearsal(golden) as sandbox:
            rehearse(sandbox)
        assert real.sink.mails == []
        # The same without quarantine, which shows that there was something to keep in.
        loose = runs.golden(quarantine=False)
        with closing(runs.pool(quarantine=False)) as pool, pool.rehearsal(loose) as sandbox:
            rehearse(sandbox)
        assert "boss@customer.example" in "".join(real.sink.mails)

    def test_has_its_documents_as_they_were_before_each_scenario(
        self, runs: Runs, real: RealDolibarr, golden: Golden, tmp_path: Path
    ) -> None:
        logo = tmp_path / "documents" / "mycompany" / "logos" / "logo.png"
        logo.parent.mkdir(parents=True)
        logo.write_bytes(b"a logo")
        settings = real.settings(runs.folder.parent / "cache", strategy="rewind")
        settings["sandbox"]["erp"]["documents"] = tmp_path / "documents"
        with closing(Runs(tmp_path / "project", settings).pool()) as pool:
            for _ in range(2):
                with pool.rehearsal(golden) as sandbox, sandbox.api() as api:
                    served = next(iter(pool._local.values()))._folder / "documents"
                    assert (served / "mycompany" / "logos" / "logo.png").read_bytes() == b"a logo"
                    assert not list(served.rglob("*.pdf"))
                    ref = rehearse(sandbox)
                    asked = {"modulepart": "invoice", "original_file": f"{ref}/{ref}.pdf", "doctemplate": "sponge"}
                    built = api.put("documents/builddoc", json=asked)
                    assert built.status_code == 200, built.text
                    assert [path.name for path in served.rglob("*.pdf")] == [f"{ref}.pdf"]
        assert [path for path in (tmp_path / "documents").rglob("*") if path.is_file()] == [logo]

    def test_is_left_as_it_was(self, runs: Runs, real: RealDolibarr, golden: Golden) -> None:
        def listed() -> dict[str, tuple[int, int]]:
            return {
                str(path): (path.stat().st_mtime_ns, path.stat().st_size)
                for path in real.htdocs.rglob("*")
                if path.is_file()
            }

        before = listed()
        with closing(runs.pool()) as pool, pool.rehearsal(golden) as sandbox:
            rehearse(sandbox)
        assert listed() == before

    def test_of_another_version_is_refused(
        self, runs: Runs, real: RealDolibarr, golden: Golden, tmp_path: Path
    ) -> None:
        run(real.server.dsn("erp-sandbox"), "SELECT 1")
        older = tree(tmp_path, version="17.0.4")
        settings = real.settings(runs.folder.parent / "cache")
        settings["sandbox"] = {**settings["sandbox"], "erp": {"htdocs": older}}
        other = Runs(tmp_path / "project", settings)
        refused = pytest.raises(AgentError, match=r"a Dolibarr 17\.0\.4, and prod's copy")
        with closing(other.pool()) as pool, refused, pool.rehearsal(golden):
            pass


def tree(folder: Path, version: str = "22.0.4", conf: str = "conf/conf.php", index: str = "<?php echo 'here';") -> Path:
    """As much of a Dolibarr as is looked at before it is asked for anything."""
    htdocs = folder / "htdocs"
    htdocs.mkdir()
    (htdocs / "filefunc.inc.php").write_text(f"<?php\ndefine('DOL_VERSION', '{version}');\n$conffile = \"{conf}\";\n")
    (htdocs / "index.php").write_text(index)
    return htdocs


@pytest.fixture
def side(servers: dict[str, Server]) -> Side:
    return make_sandbox(servers["15"])


def local(htdocs: Path, side: Side) -> LocalDolibarr:
    return LocalDolibarr(htdocs, side.sandbox, SecretStr("0123456789abcdef0123456789abcdef"))


@needs_php
def test_the_version_is_told_as_from_23_on_too(tmp_path: Path) -> None:
    htdocs = tree(tmp_path)
    (htdocs / "filefunc.inc.php").write_text(
        "<?php\ndefine('DOL_MINOR_VERSION', '0.1');\nrequire_once 'version.inc.php';\n"
        "if (defined('DOL_INC_FOR_VERSION_ERROR')) return;\n$conffile = 'conf/conf.php';\nexit(1);\n"
    )
    (htdocs / "version.inc.php").write_text("<?php\ndefine('DOL_VERSION', '23.' . constant('DOL_MINOR_VERSION'));\n")
    assert servable(htdocs).startswith("Dolibarr 23.0.1, served by /")


@needs_php
class TestWhatIsServed:
    def test_knows_the_sandbox_from_its_environment_alone(self, tmp_path: Path, side: Side) -> None:
        shown = "<?php include_once 'conf/conf.php'; echo json_encode(get_defined_vars() + ['env' => getenv()]);"
        served = local(tree(tmp_path, index=shown), side)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ERP_SANDBOX_PROD__DSN", "postgresql://prod")
            served.start()
        try:
            said = httpx.get(served.url).json()
        finally:
            served.stop()
        assert said["dolibarr_main_db_name"] == side.name
        assert said["dolibarr_main_db_user"] == side.login
        assert "ERP_SANDBOX_PROD__DSN" not in said["env"]

    def test_acts_as_the_sandboxes_role(self, tmp_path: Path, side: Side) -> None:
        connected = "pg_connect('dbname=' . getenv('PGDATABASE'))"
        asked = f"<?php echo pg_fetch_result(pg_query({connected}, 'SELECT current_user'), 0);"
        served = local(tree(tmp_path, index=asked), side)
        served.start()
        try:
            assert httpx.get(served.url).text == side.role
        finally:
            served.stop()

    def test_ends_with_us_even_if_we_are_killed(self, tmp_path: Path, side: Side) -> None:
        program = (
            "import sys, time; from pathlib import Path; from pydantic import SecretStr\n"
            "from pytest_erp_sandbox.dolibarr.local import LocalDolibarr\n"
            "from pytest_erp_sandbox.postgres.connection import SandboxDatabase\n"
            "dsn, role, htdocs = sys.stdin.read().split('\\n')\n"
            "database = SandboxDatabase(SecretStr(dsn), 'sandbox.dsn', role)\n"
            "served = LocalDolibarr(Path(htdocs), database, SecretStr('x'))\n"
            "served.start()\n"
            "print(served.url, flush=True)\n"
            "time.sleep(600)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{side.dsn.get_secret_value()}\n{side.role}\n{tree(tmp_path)}")
        process.stdin.close()
        url = process.stdout.readline().strip()
        assert httpx.get(url).text == "here"
        process.send_signal(signal.SIGKILL)
        process.wait()

        def is_gone() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0

        eventually(is_gone)
        eventually(lambda: not list(tmp_path.glob("erp-sandbox-dolibarr-*")))

    def test_that_fails_says_what_php_said(self, tmp_path: Path, side: Side) -> None:
        served = local(tree(tmp_path, index="<?php nonsense();"), side)
        served.start()
        try:
            assert httpx.get(served.url).status_code == 500
            assert "Call to undefined function nonsense()" in served.last_words()
        finally:
            served.stop()


@needs_php
def test_preflight_says_whether_it_can_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> Finding:
        (finding,) = erp_findings(settings)
        return finding

    place = {"dsn": "postgresql:///erp-sandbox", "erp": {"htdocs": tree(tmp_path)}}
    settings = Settings.model_validate({"prod": {"dsn": "postgresql:///erp"}, "sandbox": place})
    assert (found().subject, found().status) == ("sandbox", Status.OK)
    assert found().detail.startswith("Dolibarr 22.0.4, served by /")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (found().status, found().remedy[:11]) == (Status.FAILURE, "Install it:")


@needs_php
class TestWhatIsRefused:
    def test_is_a_folder_without_a_dolibarr(self, tmp_path: Path, side: Side) -> None:
        with pytest.raises(AgentError, match=r"there is no Dolibarr in .*sandbox\.erp\.htdocs.*filefunc"):
            local(tmp_path, side)

    def test_is_a_tree_that_does_not_say_its_version(self, tmp_path: Path, side: Side) -> None:
        (tree(tmp_path) / "filefunc.inc.php").write_text("<?php\n$conffile = 'conf/conf.php';\n")
        with pytest.raises(AgentError, match=r"does not say which Dolibarr it is: .*DOL_VERSION"):
            local(tmp_path / "htdocs", side)

    def test_is_a_package_with_its_configuration_in_etc(self, tmp_path: Path, side: Side) -> None:
        with pytest.raises(AgentError, match="configuration from a fixed place"):
            local(tree(tmp_path, conf="/etc/dolibarr/conf.php"), side)

    def test_is_a_machine_without_php(self, tmp_path: Path, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(AgentError, match=r"no PHP here.*\n.*php-pgsql"):
            local(tree(tmp_path), side)

    def test_is_a_php_without_what_dolibarr_needs(
        self, tmp_path: Path, side: Side, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        php = tmp_path / "php"
        php.write_text("#!/bin/sh\nprintf '[PHP Modules]\\njson\\nxml\\nsession\\nintl\\ncurl\\n'\n")
        php.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(AgentError, match=r"has no mbstring, pgsql, .*\n.*apt install php-mbstring php-pgsql"):
            local(tree(tmp_path), side)
