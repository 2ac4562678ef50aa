"""A prod and a sandbox in a cluster, rehearsed on from outside with a kubeconfig, and from inside as Jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kubernetes import client
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from pytest_erp_sandbox.cluster.claim import locked_claim
from pytest_erp_sandbox.cluster.toolbox import ToolboxImage, toolbox
from pytest_erp_sandbox.demo.estate import READERS_ROLE
from pytest_erp_sandbox.loading import load_settings
from pytest_erp_sandbox.pool import Pool
from pytest_erp_sandbox.postgres.clients import installed_toolsets
from pytest_erp_sandbox.progress import Progress
from pytest_erp_sandbox.reach import reached
from pytest_erp_sandbox.refresh import golden_dump

from ..servers import connect
from .kubernetes import IMAGE, KUBECONFIG, Kubernetes, running_kubernetes, until
from .test_toolbox import logins
from .test_workload import state
from .town import REPOSITORY, Town, in_documents, needs_this_machine, running_town, small_claim

pytestmark = needs_this_machine


KILLED_AT = """
import os, signal, sys, threading
function, event = sys.argv.pop(1), sys.argv.pop(1)
def look(frame, what, _):
    code = frame.f_code
    if what == event and code.co_name == function and os.sep + "pytest_erp_sandbox" + os.sep in code.co_filename:
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(look)
threading.setprofile(look)
from pytest_erp_sandbox.command import main
main()
"""

STEPS_OF_A_REFRESH = {
    "a toolbox was made": ("_make_secret", "call"),
    "the toolbox gets prod's login": ("_not_running", "call"),
    "the toolbox has prod's login": ("_delete_secret", "call"),
    "the toolbox is connected": ("kept_open", "call"),
    "the golden dumps are locked": ("bring", "call"),
    "the ERP is scaled to 0": ("_scale_down", "return"),
    "the ERP's pods are gone": ("prepare", "call"),
    "prod was reached from the toolbox": ("require_prod", "return"),
    "pg_dump has dumped prod in the toolbox": ("fetch_folder", "call"),
    "prod was dumped": ("rebuild", "call"),
    "the sandbox was wiped": ("create_extensions", "call"),
    "the sandbox was restored": ("restore", "return"),
    "the golden dump was made": ("dump_sandbox", "return"),
    "the ERP is scaled back": ("await_ready", "call"),
    "the golden dump is here": ("archive_of", "call"),
    "the golden dump was sent": ("unpack", "return"),
    "the golden dump is on the claim": ("put_entry", "return"),
    "the toolbox is to be removed": ("_delete", "call"),
}
"""Where a refresh is killed: a function of the plugin's, as it begins or ends; its name is that of no other."""

STEPS_OF_A_RESTORE_THERE = {
    "the sandbox was reached from the toolbox": ("require_sandbox", "return"),
    "the toolbox is told what to restore": ("archive_of", "call"),
    "the toolbox has restored": ("restore", "return"),
}
"""The same, where prod's dump is restored in the toolbox."""

STEPS_OF_A_SYNC = {
    "prod's documents are asked for": ("_refuse_same", "return"),
    "prod's documents were sent": ("_require_success", "return"),
    "the documents have arrived": ("unpack", "return"),
}


def deploy(kubernetes: Kubernetes) -> None:
    kubernetes.deploy("accounts", "golden", "refresh", "documents", "rehearse", "outside/roles")
    for namespace in (kubernetes.prod, kubernetes.sandbox):
        kubernetes.bind("somebody", namespace, *(f"erp-sandbox-{name}" for name in ("refresh", "documents", "forward")))
    kubernetes.bind("somebody", kubernetes.sandbox, "erp-sandbox-toolbox")


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with running_kubernetes() as kubernetes, running_town(kubernetes, deploy) as town:
        yield town


@pytest.fixture
def outside(town: Town) -> Iterator[Town]:
    """The town, with the settings of somebody outside; whatever is done there, prod is as it was."""
    town.configure(town.settings())
    prod = town.objects_of_prod()
    yield town
    assert town.objects_of_prod() == prod


@pytest.fixture
def synced(outside: Town) -> Town:
    """The same, with prod's documents in the sandbox."""
    for command in (["adopt", "--yes"], ["sync-documents"]):
        done = outside.run("erp-sandbox", *command)
        assert done.returncode == 0, done.stderr
    return outside


@pytest.fixture
def inside(town: Town) -> Iterator[Town]:
    """The town, with no settings in the project: a Job's variables have them; and prod is as it was, there too."""
    (town.project / "erp-sandbox.toml").unlink(missing_ok=True)
    prod = town.objects_of_prod()
    yield town
    assert town.objects_of_prod() == prod


def test_from_outside_the_features_are_green_and_prod_is_as_it_was(outside: Town) -> None:
    sandbox, toolboxes = outside.objects_of_sandbox(), outside.toolboxes()
    done = outside.run("pytest", "--erp-sandbox-reset=scenario", "features", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(outside.kubernetes, outside.erp) == (1, None)
    (golden,) = [path.name for path in (outside.project / "golden").glob("2*")]
    assert golden in outside.on_claim()
    assert len(outside.toolboxes() - toolboxes) == 1
    until(lambda: outside.objects_of_sandbox() == sandbox, "the sandbox's namespace is as it was, without a toolbox")
    password = str(conninfo_to_dict(outside.estate.prod_dsn.get_secret_value())["password"])
    assert password not in done.stdout + done.stderr


def test_from_outside_where_only_a_port_forward_leads_to_prod_it_is_dumped_here(outside: Town) -> None:
    prod = {**outside.settings()["prod"], "secret-keys": {"host": "service"}}
    with outside.with_settings(prod=prod, refresh="always"):
        done = outside.run("erp-sandbox", "refresh-from-prod")
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "pg_dump of prod runs here, as it cannot in pod" in said
    assert "could not translate host name" in said


def known_there(town: Town) -> dict[str, object]:
    """Settings of a sandbox with an address that means the same in the cluster."""
    return {key: value for key, value in town.settings()["sandbox"].items() if key != "secret-keys"}


NOT_HERE = """#!/bin/sh
case "$*" in *dbname={database} | *"dbname={database} "*) echo "error: not here" >&2; exit 1 ;; esac
exec {program} "$@"
"""


def test_from_outside_prod_is_dumped_and_restored_in_the_toolbox_unless_that_is_not_wanted(
    outside: Town, tmp_path: Path
) -> None:
    """Programs that refuse the one database stand for none that could dump it here, or restore it."""
    here = next(each for each in installed_toolsets() if each.major == 15)
    (tmp_path / "psql").symlink_to(here.program("psql"))
    for name, database in (("pg_dump", "erp"), ("pg_restore", "erp-sandbox")):
        (tmp_path / name).write_text(NOT_HERE.format(program=here.program(name), database=database))
        (tmp_path / name).chmod(0o755)
    sandbox = known_there(outside)
    golden = {**outside.settings()["golden"], "dump-there": False}
    with outside.with_settings(refresh="always", programs=tmp_path, sandbox=sandbox):
        done = outside.run("erp-sandbox", "refresh-from-prod")
        assert done.returncode == 0, done.stderr
    with outside.with_settings(refresh="always", programs=tmp_path, sandbox=sandbox, golden=golden):
        done = outside.run("erp-sandbox", "refresh-from-prod")
        assert (done.returncode, "not here" in done.stderr) == (1, True), done.stderr


def test_from_outside_where_only_a_port_forward_leads_to_the_sandbox_it_is_restored_from_here(outside: Town) -> None:
    with outside.with_settings(refresh="always"):
        done = outside.run("erp-sandbox", "refresh-from-prod")
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "pg_restore runs here, as it cannot in pod" in said
    assert "no host is set by which it could reach the sandbox, only postgres" in said


def test_from_outside_the_roles_of_deploy_are_enough_and_not_too_much(outside: Town) -> None:
    done = outside.run("erp-sandbox", "preflight", "--strict")
    said = " ".join(done.stdout.split())
    assert "rules are granted" in said
    assert f"nothing but what is needed in {outside.kubernetes.prod}" in said
    assert done.returncode == 0, done.stdout


def test_an_administrator_is_warned_or_refused_when_that_is_strict(outside: Town) -> None:
    with outside.with_settings(cluster={"kubeconfig": KUBECONFIG}):
        done = outside.run("erp-sandbox", "preflight")
        assert (done.returncode, "may change nothing of prod's" in done.stdout) == (0, True), done.stdout
        done = outside.run("erp-sandbox", "preflight", "--strict")
        assert (done.returncode, "all all" in done.stdout) == (1, True), done.stdout


def test_preflight_names_the_rule_that_lets_the_erp_be_scaled_where_it_is_not_granted(town: Town) -> None:
    kubernetes, rbac = town.kubernetes, client.RbacAuthorizationV1Api(town.kubernetes.cluster.core.api_client)
    rules: Any = rbac.read_namespaced_role("erp-sandbox-refresh", kubernetes.sandbox)
    for rule in rules.rules:
        rule.verbs = [verb for verb in rule.verbs if verb != "patch"]
    role: Any = {"metadata": {"name": "cannot-scale"}, "rules": rules.rules}
    rbac.create_namespaced_role(kubernetes.sandbox, role)
    of_both = ("erp-sandbox-documents", "erp-sandbox-forward")
    kubernetes.bind("cannot-scale", kubernetes.prod, "erp-sandbox-refresh", *of_both)
    kubernetes.bind("cannot-scale", kubernetes.sandbox, "cannot-scale", "erp-sandbox-toolbox", *of_both)
    kubeconfig = town.project / "cannot-scale"
    kubeconfig.write_text(kubernetes.kubeconfig_of("cannot-scale"))
    with town.with_settings(cluster={"kubeconfig": kubeconfig}):
        done = town.run("erp-sandbox", "preflight")
    said = " ".join(done.stdout.split())
    assert done.returncode == 1, said
    assert f"may not patch deployments dolibarr in namespace {kubernetes.sandbox}" in said
    assert said.count("a Role in namespace") == 1
    rule = '{apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["dolibarr"], verbs: ["patch"]}'
    assert f"a Role in namespace {kubernetes.sandbox} needs {rule}" in said


def test_from_outside_documents_are_adopted_and_synced(outside: Town) -> None:
    done = outside.run("erp-sandbox", "sync-documents")
    assert (done.returncode, "no marker" in done.stderr) == (1, True), done.stderr
    assert outside.run("erp-sandbox", "adopt", "--yes").returncode == 0
    done = outside.run("erp-sandbox", "sync-documents")
    assert done.returncode == 0, done.stderr
    assert in_documents(outside, "cat logos/logo.png") == "logo\n"


def test_from_outside_files_that_a_rehearsal_changed_are_put_back_by_the_next_reset(synced: Town) -> None:
    with synced.with_settings(sandbox={**synced.settings()["sandbox"], "documents": {"reset": True}}):
        done = synced.run("erp-sandbox", "reset")
        assert (done.returncode, "no golden copy" in done.stderr) == (1, True), done.stderr
        done = synced.run("erp-sandbox", "refresh")
        assert done.returncode == 0, done.stderr
        in_documents(synced, "echo other >logos/logo.png; mkdir facture; echo new >facture/new.pdf")
        done = synced.run("erp-sandbox", "reset")
        assert done.returncode == 0, done.stderr
        assert in_documents(synced, "find . -type f; cat logos/logo.png") == "./logos/logo.png\nlogo\n"


def kill_at(town: Town, step: tuple[str, str], command: str) -> None:
    """Run a command that is killed at a step."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_AT, *step, command],
        cwd=town.project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


@pytest.mark.parametrize(
    "function",
    sorted(
        {
            name
            for name, _ in [*STEPS_OF_A_REFRESH.values(), *STEPS_OF_A_RESTORE_THERE.values(), *STEPS_OF_A_SYNC.values()]
        }
    ),
)
def test_the_function_that_a_run_is_killed_at_is_the_only_one_of_its_name(function: str) -> None:
    texts = [file.read_text(encoding="utf-8") for file in (REPOSITORY / "pytest_erp_sandbox").rglob("*.py")]
    assert sum(len(re.findall(rf"\bdef {function}\(", text)) for text in texts) == 1


@pytest.mark.parametrize("step", STEPS_OF_A_REFRESH.values(), ids=STEPS_OF_A_REFRESH.keys())
def test_recover_leaves_nothing_of_a_refresh_that_was_killed(outside: Town, step: tuple[str, str]) -> None:
    before = outside.objects_of_sandbox()
    kill_at(outside, step, "refresh-from-prod")
    done = outside.run("erp-sandbox", "recover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(outside.kubernetes, outside.erp) == (1, None)
    until(lambda: outside.objects_of_sandbox() == before, "no pod and no Secret is left", patience=5)


@pytest.mark.parametrize("step", STEPS_OF_A_RESTORE_THERE.values(), ids=STEPS_OF_A_RESTORE_THERE.keys())
def test_recover_leaves_nothing_of_a_restore_in_the_toolbox_that_was_killed(
    outside: Town, step: tuple[str, str]
) -> None:
    before = outside.objects_of_sandbox()
    with outside.with_settings(sandbox=known_there(outside)):
        kill_at(outside, step, "refresh-from-prod")
        done = outside.run("erp-sandbox", "recover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(outside.kubernetes, outside.erp) == (1, None)
    until(lambda: outside.objects_of_sandbox() == before, "no pod and no Secret is left", patience=5)


@pytest.mark.parametrize("step", STEPS_OF_A_SYNC.values(), ids=STEPS_OF_A_SYNC.keys())
def test_a_sync_that_was_killed_is_made_good_by_the_next(synced: Town, step: tuple[str, str]) -> None:
    before = synced.objects_of_sandbox()
    kill_at(synced, step, "sync-documents")
    assert in_documents(synced, "cat logos/logo.png") == "logo\n"
    assert synced.run("erp-sandbox", "sync-documents").returncode == 0
    assert in_documents(synced, "cat logos/logo.png; ls -d ../.erp-sandbox-*ing-* 2>/dev/null || true") == "logo\n"
    assert synced.objects_of_sandbox() == before


def test_after_all_of_that_a_refresh_is_green_and_the_claim_whole(synced: Town) -> None:
    done = synced.run("erp-sandbox", "refresh")
    assert done.returncode == 0, done.stderr
    golden = sorted(path.name for path in (synced.project / "golden").glob("2*"))
    # Those that killed runs had made, and not put there, stay here.
    assert set(synced.on_claim()) <= set(golden)
    assert synced.on_claim()[-1] == golden[-1]
    assert state(synced.kubernetes, synced.erp) == (1, None)


@contextmanager
def rotated(town: Town, dsn: SecretStr, role: str, secret: tuple[str, str], login: str) -> Iterator[None]:
    """The login of ``dsn`` has expired, and its Secret has another one, with the same role: as Vault does it."""
    core: Any = town.kubernetes.cluster.core
    namespace, name = secret
    old = conninfo_to_dict(dsn.get_secret_value())
    was = {"username": old["user"], "password": old["password"]}
    with connect(SecretStr(make_conninfo(dsn.get_secret_value(), user="postgres", password="admin"))) as admin:
        admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'of-today' IN ROLE {role}".encode())
        admin.execute(f"ALTER ROLE {old['user']} VALID UNTIL '2020-01-01'".encode())
        try:
            core.patch_namespaced_secret(name, namespace, {"stringData": {"username": login, "password": "of-today"}})
            yield
        finally:
            core.patch_namespaced_secret(name, namespace, {"stringData": was})
            admin.execute(f"ALTER ROLE {old['user']} VALID UNTIL 'infinity'".encode())
            admin.execute(f"DROP ROLE {login}".encode())


def test_a_login_that_expires_in_the_middle_of_a_run_is_followed_by_the_one_that_its_secret_has_then(
    outside: Town,
) -> None:
    settings = load_settings(outside.project)
    assert settings is not None
    (place,) = outside.estate.sandboxes
    secret = (outside.kubernetes.sandbox, "erp-sandbox-db")
    with reached(settings) as ready, closing(Pool(ready, "rotation", Progress())) as pool:
        golden = golden_dump(ready, pool.lease, run="rotation", progress=Progress())
        with pool.rehearsal(golden) as sandbox:
            assert sandbox.lease.connection.info.user != "erp_sandbox_today"
        today = rotated(outside, place.dsn, place.role, secret, "erp_sandbox_today")
        with today, pool.rehearsal(golden) as sandbox:
            assert sandbox.lease.connection.info.user == "erp_sandbox_today"
            assert sandbox.last_reset is not None
            assert sandbox.last_reset.strategy == "restore"


def test_where_prods_login_changes_while_a_refresh_waits_for_the_claim_prod_is_dumped_here(town: Town) -> None:
    town.configure(town.settings())
    secret = (town.kubernetes.prod, "erp-dump")
    with (
        toolbox(town.kubernetes.cluster, town.kubernetes.sandbox, "erp-golden", ToolboxImage(IMAGE)) as others,
        ExitStack() as until_then,
    ):
        until_then.enter_context(locked_claim(others, Progress()))
        run = subprocess.Popen(
            town.command("erp-sandbox", "refresh-from-prod"),
            cwd=town.project,
            env={**os.environ, "COLUMNS": "400", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.stdout is not None
        waits = "waiting for the golden dumps on the claim"
        said = "".join(takewhile(lambda line: waits not in line, run.stdout))
        assert run.poll() is None, said
        with rotated(town, town.estate.prod_dsn, READERS_ROLE, secret, "erp_dump_today"):
            until_then.close()
            said += run.communicate()[0]
    assert run.returncode == 0, said
    assert re.search(r"pg_dump of prod runs here, as it cannot in pod .*: prod's login has changed", said), said
    assert state(town.kubernetes, town.erp) == (1, None)


def test_two_runs_at_once_on_one_claim_make_one_golden_dump(outside: Town, tmp_path: Path) -> None:
    assert outside.run("erp-sandbox", "forget", "--all").returncode == 0
    assert outside.on_claim() == []
    runs = [
        subprocess.Popen(
            outside.command(
                "pytest",
                "--erp-sandbox-reset=scenario",
                "features",
                "-k",
                "a_new_customer_is",
                "-p",
                "no:cacheprovider",
            ),
            cwd=outside.project,
            # Each with a cache of its own, as on two machines.
            env={**os.environ, "ERP_SANDBOX_GOLDEN__PATH": str(tmp_path / name)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "other")
    ]
    for run in runs:
        said = run.communicate()[0]
        assert run.returncode == 0, said
    (golden,) = outside.on_claim()
    assert all((tmp_path / name / golden).exists() for name in ("one", "other"))


def test_what_another_version_made_stays_on_the_claim_until_it_is_forgotten(outside: Town) -> None:
    other = "20260101T000000.000000Z"
    manifest = f'mkdir /cache/{other} && echo "{{\\"format\\": 1}}" >/cache/{other}/manifest.json'
    outside.at_claim("sh", "-c", f"{manifest} && chown -R 10001:10001 /cache/{other}")
    assert outside.run("erp-sandbox", "refresh-from-prod").returncode == 0
    assert other in outside.on_claim()
    assert json.loads(outside.run("erp-sandbox", "status", "--json").stdout)["unusable"] == [other]
    # Not from the cache alone: the next run would bring it again.
    done = outside.run("erp-sandbox", "forget", other)
    assert (done.returncode, "erp-golden" in done.stdout) == (0, True), done.stderr
    assert outside.on_claim() == sorted(path.name for path in (outside.project / "golden").glob("2*"))
    assert other not in outside.on_claim()


def test_a_claim_that_is_too_small_for_a_golden_dump_is_said_before_the_erp_goes_down(
    outside: Town, tmp_path: Path
) -> None:
    selector = f"app={outside.erp.name}"
    before, pods = outside.objects_of_sandbox(), outside.kubernetes.pods(outside.kubernetes.sandbox, selector)
    with small_claim(outside.kubernetes, tmp_path / "volume", megabytes=1) as claim:
        golden = {"path": tmp_path / "golden", "claim": claim, "image": IMAGE}
        # As an administrator: the Roles name the one claim.
        with outside.with_settings(refresh="always", golden=golden, cluster={"kubeconfig": KUBECONFIG}):
            done = outside.run("erp-sandbox", "refresh-from-prod")
    assert done.returncode != 0
    assert f"{claim} is full" in done.stderr
    assert outside.kubernetes.pods(outside.kubernetes.sandbox, selector) == pods != []
    until(lambda: outside.objects_of_sandbox() == before, "no pod is left")


def test_the_next_run_scales_the_erp_back_and_removes_the_toolbox_of_a_killed_one(outside: Town) -> None:
    before = outside.objects_of_sandbox()
    kill_at(outside, STEPS_OF_A_REFRESH["the golden dump was made"], "refresh-from-prod")
    assert state(outside.kubernetes, outside.erp) == (0, "1")
    assert outside.run("erp-sandbox", "refresh-from-prod").returncode == 0
    assert state(outside.kubernetes, outside.erp) == (1, None)
    assert "nothing to recover" in outside.run("erp-sandbox", "recover").stdout
    until(lambda: outside.objects_of_sandbox() == before, "no pod and no Secret is left")


def test_the_next_run_removes_the_login_of_a_killed_one_even_at_once(outside: Town) -> None:
    before = outside.objects_of_sandbox()
    kill_at(outside, STEPS_OF_A_REFRESH["the toolbox has prod's login"], "refresh-from-prod")
    assert logins(outside.kubernetes)
    assert outside.run("erp-sandbox", "refresh-from-prod").returncode == 0
    assert logins(outside.kubernetes) == set()
    assert outside.run("erp-sandbox", "recover").returncode == 0
    until(lambda: outside.objects_of_sandbox() == before, "no pod is left")


def test_inside_the_features_are_green_through_the_claim_and_prod_is_as_it_was(inside: Town) -> None:
    inside.at_claim("sh", "-c", "rm -rf /cache/2*")
    sandbox = inside.objects_of_sandbox()
    succeeded, log = inside.job(
        "refresh", "pytest", "--erp-sandbox-reset=scenario", "features", "-p", "no:cacheprovider"
    )
    assert succeeded, log
    assert len(inside.on_claim()) == 1
    assert state(inside.kubernetes, inside.erp) == (1, None)
    assert inside.objects_of_sandbox() == sandbox


@pytest.mark.usefixtures("synced")
def test_inside_the_refresh_job_copies_prod_and_its_documents(inside: Town) -> None:
    sandbox = inside.objects_of_sandbox()
    succeeded, log = inside.job("refresh", "erp-sandbox", "refresh")
    assert succeeded, log
    assert "golden dump" in log
    assert "has prod's documents" in log
    assert state(inside.kubernetes, inside.erp) == (1, None)
    assert inside.objects_of_sandbox() == sandbox


def test_inside_the_rehearsal_is_green_without_any_of_prods_credentials(inside: Town) -> None:
    if not inside.on_claim():
        succeeded, log = inside.job("refresh", "erp-sandbox", "refresh-from-prod")
        assert succeeded, log
    sandbox = inside.objects_of_sandbox()
    succeeded, log = inside.job(
        "rehearse", "pytest", "--erp-sandbox-reset=scenario", "features", "-p", "no:cacheprovider"
    )
    assert succeeded, log
    assert "33 passed, 7 skipped" in log  # those that look at prod, and one that is the demo's
    assert inside.kubernetes.prod not in log
    assert inside.objects_of_sandbox() == sandbox


def test_inside_a_refresh_whose_pod_is_removed_while_the_erp_is_down_is_made_good_by_the_next(inside: Town) -> None:
    """A shell that passes no signal on stands for a node that is lost: the refresh is killed, and tidies nothing up."""
    kubernetes, sandbox = inside.kubernetes, inside.objects_of_sandbox()
    core, namespace = kubernetes.cluster.core, kubernetes.sandbox
    with psycopg.connect(inside.estate.prod_owner_dsn.get_secret_value()) as other:
        other.execute("LOCK TABLE llx_societe")
        refresh = inside.command("erp-sandbox", "refresh-from-prod")
        job = inside.started_job("refresh", ["sh", "-c", '"$@"; exit', "sh", *refresh])
        until(lambda: state(kubernetes, inside.erp) == (0, "1"), "the ERP is scaled to 0")
        (pod,) = kubernetes.pods(namespace, f"job-name={job}")
        # Without its Job, which would start another one.
        client.BatchV1Api(core.api_client).delete_namespaced_job(job, namespace, propagation_policy="Orphan")
        core.delete_namespaced_pod(pod, namespace, grace_period_seconds=0)
        until(lambda: "free" in inside.at_claim("sh", "-c", "flock -n /cache/.lock echo free || true"), "it has ended")
    assert state(kubernetes, inside.erp) == (0, "1")
    succeeded, log = inside.job("refresh", "erp-sandbox", "refresh-from-prod")
    assert succeeded, log
    assert state(kubernetes, inside.erp) == (1, None)
    assert [name for name in inside.at_claim("ls", "-A", "/cache").split() if "ing-" in name] == []
    succeeded, log = inside.job("rehearse", "erp-sandbox", "reset")
    assert (succeeded, "damaged" in log) == (True, False), log
    assert inside.objects_of_sandbox() == sandbox
    assert pod not in kubernetes.pods(namespace, "")
