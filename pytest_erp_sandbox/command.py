"""The ``erp-sandbox`` command: the same settings, the same Sandbox."""

from __future__ import annotations

import io
import json
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from .errors import ErpSandboxError, SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from .changes import Kind
    from .golden import Golden, GoldenCache
    from .pool import Pool
    from .postgres.inventory import OwnedCount
    from .progress import Progress
    from .settings import SandboxSettings, Settings
    from .status import SandboxStatus

__all__ = ["main"]

_Say = Callable[[str], object]

_as_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")


def main() -> None:
    """Run the command; what went wrong is said in a sentence, without a traceback."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(128 + signal.SIGTERM))
    # Whatever the terminal's encoding: names of prod's are in any language.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # Not click's own way with Ctrl-C, which is exit code 1: a shell expects the signal's.
        cli(standalone_mode=False)
    except ErpSandboxError as error:
        click.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(128 + signal.SIGINT)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The folder with pyproject.toml or erp-sandbox.toml; by default the current one.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.version_option(package_name="pytest-erp-sandbox")
@click.pass_context
def cli(context: click.Context, project: Path, quiet: bool) -> None:
    """Rehearse on a copy of your ERP: refresh it from prod, put it back, look at it.

    Settings come from [tool.erp-sandbox] in pyproject.toml or erp-sandbox.toml, and from variables `ERP_SANDBOX_…`.

    Exit codes: 0 done; 1 not done, or an invariant does not hold; 2 wrong usage or settings.
    """
    context.obj = _Call(project.resolve(), quiet)


@cli.command()
@click.option("--sandbox", "name", help="Which one, where there are several.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def adopt(call: _Call, name: str | None, yes: bool) -> None:
    """Mark a database as a sandbox.

    Shows what is in it, and asks.

    Only an adopted database is ever wiped. An empty one is adopted by itself.
    """
    from .postgres.adoption import adopt as mark_as_sandbox
    from .postgres.adoption import is_adopted
    from .postgres.connection import as_owner
    from .tables import table_of_what_goes

    with call.settings() as settings:
        place = _one(settings, name)
        _require_preflight(settings, but_for="is adopted, or empty")
        database = place.database()
        with database.connect() as connection:
            if is_adopted(connection):
                click.echo(f"{place.name} ({database}) is adopted already.")
                if place.documents is not None:
                    _adopt_documents(settings, place)
                return
            _show(table_of_what_goes(place.name, _what_goes(place)))
            question = f"Every reset wipes all of this from {database}. Adopt it as a sandbox?"
            if not (yes or click.confirm(question)):
                click.echo("Nothing was adopted.", err=True)
                sys.exit(1)
            with as_owner(connection, place.role):
                mark_as_sandbox(connection)
        click.echo(f"{place.name} ({database}) is adopted.")
        if place.documents is not None:
            _adopt_documents(settings, place)


@cli.command()
@click.option("--strict", is_flag=True, help="Let more power over prod than is needed be a failure, not a warning.")
@_as_json
@click.pass_obj
def preflight(call: _Call, strict: bool, as_json: bool) -> None:
    """Ask every invariant, and show the answers.

    They are what keeps prod from harm. Nothing is written.

    JSON: a list of findings: subject, invariant, status (ok, warning, failure, skipped), detail, remedy.
    """
    from .preflight import preflight_of, report_table

    with call.settings(**({"strict": True} if strict else {})) as settings:
        report = preflight_of(settings)
        if as_json:
            _print_json(report.plain())
        else:
            _show(report_table(report))
        if report.failed:
            sys.exit(1)


@cli.command("refresh-from-prod")
@_as_json
@click.pass_obj
def refresh_from_prod(call: _Call, as_json: bool) -> None:
    """Copy prod, read-only, into a new golden dump.

    It is prepared in a sandbox, which is wiped for that.

    JSON: the golden dump, as in `erp-sandbox status`.
    """
    with call.settings() as settings:
        golden = _refresh(settings, call.progress)
        if as_json:
            _print_json(golden.plain())
        else:
            _tell_of(golden)


@cli.command()
@_as_json
@click.pass_obj
def refresh(call: _Call, as_json: bool) -> None:
    """Copy prod, and reset every sandbox to it.

    As refresh-from-prod and then reset, with the new golden dump; and sync-documents, where documents are set.

    JSON: golden, as in `erp-sandbox status`; sandboxes, as of `erp-sandbox reset`; documents, how many files, folders
    and links were copied, by sandbox.
    """
    say = _quiet if as_json else click.echo
    with call.settings() as settings:
        with_documents = [place for place in settings.all_sandboxes if place.documents is not None]
        if with_documents and settings.prod.documents is None:
            raise SettingsError(
                f"{with_documents[0].name}.documents is set, but prod.documents does not say where prod's are",
                hint="Set prod.documents, or refresh by `refresh-from-prod` and `reset`.",
            )
        golden = _refresh(settings, call.progress)
        if not as_json:
            _tell_of(golden)
        # Without documents, which may not have a golden copy yet: they are replaced anyway.
        without = [place.model_copy(update={"documents": None}) for place in settings.all_sandboxes]
        done = _reset_all(call, settings, without, golden, say)
        # After the reset: a sandbox's pods are up again, and no row is newer than its files.
        copied = {place.name: _sync(call, settings, place, say) for place in with_documents}
        if as_json:
            _print_json({"golden": golden.plain(), "sandboxes": done, "documents": copied})


@cli.command("sync-documents")
@click.option("--sandbox", "name", help="Only this one.")
@click.pass_obj
def sync_documents(call: _Call, name: str | None) -> None:
    """Copy prod's documents into the sandboxes.

    From pod to pod; what is there is replaced when all has arrived.
    """
    with call.settings() as settings:
        for place in settings.all_sandboxes if name is None else [_one(settings, name)]:
            _sync(call, settings, place, click.echo)


@cli.command()
@click.pass_obj
def recover(call: _Call) -> None:
    """Put back what a killed run has left: ERPs that are scaled to 0, toolbox pods and their Secrets."""
    from psycopg import Error

    from .reach import erp_up, toolboxes_removed

    failures = 0
    with call.settings(but_for_prod=True) as settings:
        for place in settings.all_sandboxes:
            try:
                # With the lease, so that no run is disturbed that is alive.
                with _leased(place, settings):
                    replicas = erp_up(settings, place, call.progress.say)
            except (ErpSandboxError, Error) as error:
                failures += 1
                click.echo(f"{place.name}: {error}", err=True)
            else:
                done = "nothing to recover" if replicas is None else f"the ERP is scaled to {replicas} again"
                click.echo(f"{place.name}: {done}")
        for name in toolboxes_removed(settings, click.echo):
            click.echo(f"pod {name} is removed")
    if failures:
        sys.exit(1)


@cli.command()
@click.option("--sandbox", "name", help="Only this one.")
@click.option("--dry-run", is_flag=True, help="Only show what would be wiped, by schema, kind and owner.")
@_as_json
@click.pass_obj
def reset(call: _Call, name: str | None, dry_run: bool, as_json: bool) -> None:
    """Put the sandboxes back.

    Each is wiped, the golden dump is restored into it, and the agent and a new key are made; with strategy = "rewind",
    what was changed is undone instead, where that can be.

    JSON: by sandbox, how it was put back: strategy (restore or rewind), seconds, reason (of a restore although a rewind
    was asked for), left_sessions (of other logins, which still have outdated plans and types). With --dry-run: by
    sandbox, a list of what would go: schema, kind, owner, objects (how many).
    """
    from .tables import table_of_what_goes

    with call.settings(but_for_prod=dry_run) as settings:
        places = settings.all_sandboxes if name is None else [_one(settings, name)]
        if dry_run:
            if as_json:
                _print_json({place.name: [asdict(count) for count in _what_goes(place)] for place in places})
                return
            for place in places:
                _show(table_of_what_goes(place.name, _what_goes(place)))
            return
        _require_preflight(settings)
        # A new golden dump is prepared in one of those that are to be reset, and in no other.
        golden = _golden(_only(settings, places), call.progress)
        done = _reset_all(call, settings, places, golden, _quiet if as_json else click.echo)
        if as_json:
            _print_json(done)


@cli.command()
@click.option("--sandbox", "name", help="Only of this one.")
@click.option("--table", help="Only of this table (* matches).")
@click.option("--kind", type=click.Choice(["inserted", "updated", "deleted"]), help="Only of this kind.")
@_as_json
@click.pass_obj
def changes(call: _Call, name: str | None, table: str | None, kind: Kind | None, as_json: bool) -> None:
    """Show what was changed in the sandboxes since their last reset.

    Table and key of each row, and each column: before → after. Needs a journal (journal = true, or the strategy
    rewind). The sandbox may be in use meanwhile.

    JSON: by sandbox, its changes as in a report: inserted, updated, deleted (how many), tables (table, the same counts,
    rows: kind, key, name, before, after), unseen (what, reason).
    """
    from .changes import read_shown, told
    from .plain import plain_changes

    with call.settings(but_for_prod=True) as settings:
        places = settings.all_sandboxes if name is None else [_one(settings, name)]
        by_sandbox = {}
        for place in places:
            with place.database().connect() as connection:
                found = read_shown(connection, place.role, settings.changes, table=table, kind=kind)
            by_sandbox[place.name] = found
        if as_json:
            _print_json({name: plain_changes(found) for name, found in by_sandbox.items()})
            return
        for place in places:
            text = told(by_sandbox[place.name], limit=None)
            click.echo(text if len(places) == 1 else f"{place.name}:\n{indent(text, '  ')}")


@cli.command()
@click.option("--encrypted", is_flag=True, help="Also what prod has encrypted, so that a sandbox cannot decrypt it.")
@_as_json
@click.pass_obj
def status(call: _Call, encrypted: bool, as_json: bool) -> None:
    """Show the sandboxes and the golden dumps.

    Of each sandbox: whether it is adopted, its baseline, who has it, and its drift: what is not as in the baseline.

    JSON: sandboxes (name, database, adopted, golden: of its baseline, in_use_by, drift: as in changes, or null where
    nothing is journalled, error), golden (id, source, made_at, server_major, size, counts, quarantine, prepared,
    left_out), unusable (ids of golden dumps that are damaged, or another version's); with --encrypted also encrypted
    (sandbox, where, rows, unreadable).
    """
    from .status import sandbox_status
    from .tables import table_of_encrypted, table_of_golden_dumps, table_of_sandboxes

    with call.settings(but_for_prod=True) as settings:
        sandboxes = [sandbox_status(place, settings.changes) for place in settings.all_sandboxes]
        cache = _cache(settings)
        entries = cache.entries()
        unusable = cache.unusable()
        secrets = _encrypted(settings, sandboxes) if encrypted else None
    if as_json:
        also = {} if secrets is None else {"encrypted": secrets}
        _print_json(
            {"sandboxes": sandboxes, "golden": [golden.plain() for golden in entries], "unusable": unusable, **also}
        )
        return
    _show(table_of_sandboxes(sandboxes))
    for each in sandboxes:
        if each["error"]:
            click.echo(f"{each['name']}: {each['error']}\n")
    _show(table_of_golden_dumps(entries, unusable))
    if secrets is not None:
        _show(table_of_encrypted(secrets))


@cli.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.pass_obj
def forget(call: _Call, ids: Sequence[str], everything: bool) -> None:
    """Remove golden dumps: from the cache, and from the claim (golden.claim) where one is set.

    Name them by the IDS that `erp-sandbox status` shows, or say --all, which takes damaged ones along, and those of
    another version of this package.
    """
    from .reach import golden_claim

    if bool(ids) == everything:
        raise click.UsageError("name the golden dumps to remove, or say --all")
    with call.settings(but_for_prod=True) as settings:
        cache, progress = _cache(settings), call.progress
        with golden_claim(settings, progress) as claim, cache.locked(progress.say):
            here = cache.ids()
            known = sorted({*here, *(claim.names if claim else ())})
            if unknown := set(ids) - set(known):
                there_are = f"there are {', '.join(known)}" if known else "there is none at all"
                raise click.UsageError(f"no golden dump {', '.join(sorted(unknown))}: {there_are}")
            chosen = known if everything else ids
            if claim:
                claim.keep([name for name in claim.names if name not in chosen])
            cache.forget(name for name in here if name in chosen)
        places = f"{cache.path}{f' and PVC {settings.golden.claim}' if claim else ''}"
        click.echo(f"{len(chosen)} golden {'dump' if len(chosen) == 1 else 'dumps'} removed from {places}.")


@cli.command()
@click.pass_obj
def demo(call: _Call) -> None:
    """Keep the embedded demo running.

    Until Ctrl-C, so that you can look into it.
    """
    with call.settings(demo=True) as settings:
        click.echo("A demo: an embedded PostgreSQL with a small prod and sandbox, and a stand-in for Dolibarr's API.\n")
        prod = settings.prod.database()
        assert prod is not None  # the demo has one
        click.echo(f"prod, read-only:\n  {_psql(prod.public_conninfo('psql'), settings.prod.dsn)}")
        for place in settings.all_sandboxes:
            click.echo(f"{place.name}:\n  {_psql(place.database().public_conninfo('psql'), place.dsn)}")
            click.echo(f"  its ERP: {place.erp.url}")
        click.echo("\nCtrl-C ends it; its data stays.")
        signal.pause()


class _Call:
    """What each command needs: the project's settings, and a way to tell how far it is."""

    def __init__(self, project: Path, quiet: bool) -> None:
        self.project = project
        self._quiet = quiet

    @contextmanager
    def settings(self, *, but_for_prod: bool = False, **overrides: object) -> Iterator[Settings]:
        from .demo.settings import with_demo
        from .loading import load_settings
        from .reach import reached

        settings = load_settings(self.project, overrides)
        if settings is None:
            raise SettingsError(
                f"there are no settings for a sandbox in {self.project}",
                hint="Write [tool.erp-sandbox] into pyproject.toml there, or try it with `erp-sandbox demo`.",
            )
        with (
            with_demo(settings, self.project) as complete,
            reached(complete, self.progress.say, but_for_prod=but_for_prod) as ready,
        ):
            yield ready

    @property
    def progress(self) -> Progress:
        from .progress import Lines, Live, Progress, is_terminal

        if self._quiet:
            return Progress()
        return Live() if is_terminal() else Lines(lambda line: click.echo(line, err=True))


def _require_preflight(settings: Settings, but_for: str = "") -> None:
    """Stop before the first write unless every invariant holds; ``but_for`` is the one about to be mended."""
    from .preflight import Report, preflight_of

    report = preflight_of(settings)
    Report(tuple(finding for finding in report.findings if finding.invariant != but_for)).raise_for_failures()


def _refresh(settings: Settings, progress: Progress) -> Golden:
    if settings.refresh == "never":
        raise SettingsError('refresh is "never" in these settings', hint="Refresh where prod can be reached.")
    _require_preflight(settings)
    return _golden(settings.model_copy(update={"refresh": "always"}), progress)


def _tell_of(golden: Golden) -> None:
    from .dolibarr.quarantine import in_words

    click.echo(f"golden dump {golden.id} made of {golden.manifest.source.name}")
    click.echo(f"  {in_words(golden.manifest.quarantine)}")


def _golden(settings: Settings, progress: Progress) -> Golden:
    from .refresh import golden_dump

    run = uuid.uuid4().hex
    return golden_dump(settings, _pool(settings, run, progress).lease, run=run, progress=progress)


def _pool(settings: Settings, run: str, progress: Progress) -> Pool:
    from .pool import Pool

    return Pool(settings, run, progress)


def _reset_all(
    call: _Call, settings: Settings, places: Sequence[SandboxSettings], golden: Golden, say: _Say
) -> dict[str, dict[str, object]]:
    """Put sandboxes back; returns how, by name."""
    done: dict[str, dict[str, object]] = {}
    for place in places:
        with (
            closing(_pool(_only(settings, [place]), uuid.uuid4().hex, call.progress)) as pool,
            pool.rehearsal(golden) as sandbox,
        ):
            assert sandbox.last_reset is not None
            left = list(sandbox.idle_sessions_left)
            done[place.name] = {**asdict(sandbox.last_reset), "left_sessions": left}
            say(f"{sandbox.name} is reset to golden dump {golden.id}")
            for session in left:
                say(f"  a session of another login still has outdated plans and types: {session}")
    return done


@contextmanager
def _leased(place: SandboxSettings, settings: Settings) -> Iterator[None]:
    """Nobody else has the sandbox for a while; without its mark being looked at, as a pool does."""
    from .postgres.lease import take_lease

    with take_lease([place.database()], settings.lease_timeout, lambda who: click.echo(who, err=True)):
        yield


def _sync(call: _Call, settings: Settings, place: SandboxSettings, say: _Say) -> int:
    """Copy prod's documents into a sandbox; returns how many files, folders and links."""
    from .cluster.documents import sync_documents as sync
    from .cluster.golden_documents import keep_golden
    from .reach import cluster_of, documents_of_prod, documents_of_sandbox, erp_up, prods_namespaces

    with _leased(place, settings), call.progress.step(f"copying documents into {place.name}", "files") as on_progress:
        erp_up(settings, place, call.progress.say)  # a killed run may have left it without a pod
        target = documents_of_sandbox(settings, place)
        source = documents_of_prod(settings, target.folders)
        entries = sync(cluster_of(settings), source, target, prods_namespaces(settings), on_progress)
        if place.documents is not None and place.documents.reset:
            keep_golden(cluster_of(settings), target)
    say(f"{place.name} has prod's documents: {entries} files, folders and links")
    return entries


def _adopt_documents(settings: Settings, place: SandboxSettings) -> None:
    from .cluster.documents import adopt_documents
    from .reach import cluster_of, documents_of_prod, documents_of_sandbox, prods_namespaces

    target = documents_of_sandbox(settings, place)
    prod = None if settings.prod.documents is None else documents_of_prod(settings, target.folders)
    adopt_documents(cluster_of(settings), target, prods_namespaces(settings), prod)
    click.echo(f"The documents of {place.name} ({target}) are adopted.")


def _only(settings: Settings, places: Sequence[SandboxSettings]) -> Settings:
    golden = settings.golden.model_copy(update={"namespace": settings.claim_namespace})
    return settings.model_copy(update={"sandbox": None, "sandboxes": tuple(places), "golden": golden})


def _one(settings: Settings, name: str | None) -> SandboxSettings:
    places = {place.name: place for place in settings.all_sandboxes}
    if name is None and len(places) == 1:
        return next(iter(places.values()))
    if name not in places:
        raise click.UsageError(f"say which with --sandbox: {', '.join(places)}")
    return places[name]


def _cache(settings: Settings) -> GoldenCache:
    from .golden import GoldenCache

    return GoldenCache(settings.golden.path, settings.golden.keep)


def _psql(conninfo: str, dsn: Any) -> str:
    """A line to paste; the demo's passwords are worth nothing elsewhere."""
    from psycopg.conninfo import conninfo_to_dict

    return f'PGPASSWORD={conninfo_to_dict(dsn.get_secret_value()).get("password")} psql "{conninfo}"'


def _what_goes(place: SandboxSettings) -> list[OwnedCount]:
    from .postgres.inventory import summarize, taken_by_wipe

    with place.database().connect() as connection:
        return summarize(taken_by_wipe(connection, place.role))


def _encrypted(settings: Settings, sandboxes: Sequence[SandboxStatus]) -> list[dict[str, Any]]:
    """What prod has encrypted, of the sandboxes without an error; where that cannot be read, it is their error."""
    from psycopg import Error

    from .dolibarr.encrypted import read_encrypted
    from .pool import unique_id_in_front
    from .postgres.connection import as_owner

    found: list[dict[str, Any]] = []
    for place, status in zip(settings.all_sandboxes, sandboxes, strict=True):
        if status["error"]:
            continue
        try:
            with place.database().connect() as connection, as_owner(connection, place.role):
                secrets = list(read_encrypted(connection, unique_id_in_front(place)))
        except (ErpSandboxError, Error) as error:
            status["error"] = f"what is encrypted cannot be read: {error}"
        else:
            found += [{"sandbox": place.name, **asdict(each)} for each in secrets]
    return found


def _quiet(_said: str) -> None:
    """Say nothing, where JSON is all that is said."""


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2))


def _show(table: Table) -> None:
    from rich.console import Console

    # Names, and values of prod's, are no markup.
    Console(markup=False, emoji=False).print(table)
